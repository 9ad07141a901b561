//! How much of a model's weights is stored how, as a table.

use lime_plan::{Bytes, Format};

use crate::grid::Grid;

/// Formats with what each takes, in the order in which they are given.
pub fn formats_table(shares: &[(Format, Bytes)], width: Option<usize>) -> String {
    let all = shares.iter().map(|(_, bytes)| bytes.0).sum::<u64>().max(1) as f64;
    let mut table = Grid::new(&["format", "weights", "share"], 1);
    for (format, bytes) in shares {
        table.add_row([format.to_string(), bytes.to_string(), format!("{:.1} %", bytes.0 as f64 * 100.0 / all)]);
    }
    table.render(width)
}
