//! The screen that text goes to, if it is one.

use std::io::Write as _;

/// Columns of the screen that standard output is, if it is one: what goes to a file or a program is not wrapped.
pub fn screen_width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
}

/// The same for standard error.
pub fn notes_width() -> Option<usize> {
    console::Term::stderr().size_checked().map(|(_, columns)| usize::from(columns))
}

/// Writes `text` to standard output, of which a reader may have had enough.
///
/// # Errors
/// When standard output takes nothing for another reason.
pub fn print(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
