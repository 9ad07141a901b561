//! Plans, models and comparisons as text for people: `lime plan` and `kubectl lime plan` print the same.
//!
//! ```
//! use lime_tables::Grid;
//!
//! let mut grid = Grid::new(&["device", "weights"], 1);
//! grid.add_row(["ada".to_owned(), "1.3 MiB".to_owned()]);
//! assert!(grid.render(None).contains("1.3 MiB"));
//! ```

mod card;
mod explain;
mod formats;
mod grid;
mod plan;
mod screen;

pub use card::card_table;
pub use explain::{comparison_table, explanation, rate};
pub use formats::formats_table;
pub use grid::Grid;
pub use plan::plan_table;
pub use screen::{notes_width, print, screen_width};

#[cfg(test)]
mod tests;
