//! A table that fits its screen: as a table where there is room, with its sentences wrapped where that is enough, else one record
//! after the other.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// The least room for a sentence beside other columns.
const LEAST_PROSE: usize = 24;

/// Rows under a header, and which of their columns are numbers or sentences.
#[derive(Clone, Debug)]
pub struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    numbers_from: usize,
    prose: Option<usize>,
}

impl Grid {
    /// A table whose columns from `numbers_from` on are numbers.
    pub fn new(header: &[&str], numbers_from: usize) -> Self {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        Self { header, rows: Vec::new(), numbers_from, prose: None }
    }

    /// The column that holds sentences, which may be wrapped.
    pub fn with_prose(mut self, column: usize) -> Self {
        self.prose = Some(column);
        self
    }

    /// Adds a row.
    pub fn add_row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The table in lines of `width` characters at most, or as wide as it is.
    pub fn render(&self, width: Option<usize>) -> String {
        let table = self.table();
        let natural = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        match width {
            Some(width) if natural > width => {
                self.wrapped(table, natural, width).unwrap_or_else(|| self.records(width))
            }
            _ => table.to_string(),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(self.header.iter().map(Cell::new));
        for row in &self.rows {
            table.add_row(row);
        }
        table.discover_columns();
        for (index, column) in table.column_iter_mut().enumerate().skip(self.numbers_from) {
            if self.prose != Some(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// With sentences in several lines, where that is enough.
    fn wrapped(&self, mut table: Table, natural: usize, width: usize) -> Option<String> {
        let prose = self.prose?;
        let longest = usize::from(*table.column_max_content_widths().get(prose)?);
        let room = longest.checked_sub(natural - width).filter(|room| *room >= LEAST_PROSE)?;
        for (index, column) in table.column_iter_mut().enumerate() {
            if index == prose {
                // The column's own blanks on either side count.
                let room = u16::try_from(room + 2).unwrap_or(u16::MAX);
                column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(room)));
            } else {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        Some(table.to_string())
    }

    /// One row after the other, a line for each column.
    fn records(&self, width: usize) -> String {
        let names = self.header[1..].iter().map(|name| name.chars().count());
        let label = names.max().unwrap_or(0).min(width.saturating_sub(6) / 2);
        let mut text = String::new();
        for row in &self.rows {
            if !text.is_empty() {
                text.push('\n');
            }
            let title = row.first().map(String::as_str).unwrap_or_default();
            push_wrapped(&mut text, title, "", "", width);
            for (name, value) in self.header.iter().zip(row).skip(1).filter(|(_, value)| *value != "-") {
                let first = format!("  {name:label$}  ");
                push_wrapped(&mut text, value, &first, &" ".repeat(label + 4), width);
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Adds `value` in lines of `width` characters at most, the first after `first`, the others after `rest`. Only words that
/// are longer than a line are broken.
fn push_wrapped(text: &mut String, value: &str, first: &str, rest: &str, width: usize) {
    let mut line = first.to_owned();
    let mut empty = true;
    let room = width.saturating_sub(rest.len().max(first.chars().count())).max(1);
    for word in value.split_whitespace().flat_map(|word| pieces(word, room)) {
        let needed = word.chars().count() + usize::from(!empty);
        if !empty && line.chars().count() + needed > width {
            text.push_str(&line);
            text.push('\n');
            line = rest.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(&word);
        empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A word in pieces of `room` characters at most.
fn pieces(word: &str, room: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(room).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&["device", "weights", "KV cache", "why"], 1).with_prose(3);
        grid.add_row(
            ["ada", "1.3 MiB", "1.1 MiB", "the disk of ada, which reads for every token that is drawn"]
                .map(str::to_owned),
        );
        grid.add_row(["bea", "1.4 MiB", "-", "nothing"].map(str::to_owned));
        grid
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn a_table_fits_its_screen() {
        let natural = widest(&grid().render(None));
        assert!(natural > 80 && natural < 120, "{natural}");
        for width in [20, 40, 60, 80, 120] {
            let text = grid().render(Some(width));
            assert!(widest(&text) <= width, "{width}:\n{text}");
            let flat = text.replace(['│', '┆'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
            for word in ["ada", "1.3 MiB", "1.1 MiB", "drawn", "bea", "nothing"] {
                assert!(flat.contains(word), "{word:?} is missing at {width}:\n{text}");
            }
        }
        assert_eq!(grid().render(Some(120)), grid().render(None), "as wide as it is where there is room");
    }

    #[test]
    fn sentences_are_wrapped_before_the_table_is_given_up() {
        assert!(grid().render(Some(80)).contains('┆'));
        assert!(grid().render(Some(60)).contains('┆'));
        let records = "\
ada
  weights   1.3 MiB
  KV cache  1.1 MiB
  why       the disk of ada, which reads
            for every token that is
            drawn

bea
  weights   1.4 MiB
  why       nothing";
        assert_eq!(grid().render(Some(40)), records);
    }
}
