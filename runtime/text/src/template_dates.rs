//! Dates as Python's `strftime` writes them.

use jiff::{
    Timestamp,
    civil::DateTime,
    fmt::strtime::{BrokenDownTime, Config},
    tz::TimeZone,
};

/// The time now, in UTC, by a format of Python's `strftime`. Directives that it does not know stay as they are.
pub(crate) fn strftime_now(format: &str) -> String {
    strftime(format, TimeZone::UTC.to_datetime(Timestamp::now()))
}

fn strftime(format: &str, time: DateTime) -> String {
    let format = as_pythons(format);
    let written = BrokenDownTime::from(time).to_string_with_config(&Config::new().lenient(true), &format);
    // Lenient formatting leaves what it does not know as it is.
    written.unwrap_or(format)
}

/// The same format in directives that mean here what they mean in Python: its time has no zone, and its locale is that of C.
fn as_pythons(format: &str) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some(place) = rest.find('%') {
        text.push_str(&rest[..place]);
        let directive = &rest[place..];
        let length = directive.chars().take(2).map(char::len_utf8).sum();
        let (directive, after) = directive.split_at(length);
        text.push_str(match directive {
            "%Z" | "%z" => "",
            "%c" => "%a %b %e %H:%M:%S %Y",
            "%x" | "%D" => "%m/%d/%y",
            "%X" => "%H:%M:%S",
            "%r" => "%I:%M:%S %p",
            "%f" => "%6f",
            "%" => "%%",
            other => other,
        });
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use jiff::civil::datetime;

    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        let begin = datetime(1970, 1, 1, 0, 0, 0, 0);
        assert_eq!(strftime("%d %b %Y", begin), "01 Jan 1970");
        assert_eq!(strftime("%-I", begin), "12");
        let leap = datetime(2024, 2, 29, 12, 34, 56, 0);
        assert_eq!(strftime("%A %-d %B %Y %H:%M:%S %j", leap), "Thursday 29 February 2024 12:34:56 060");
        let last = datetime(2024, 12, 31, 23, 59, 59, 0);
        assert_eq!(strftime("%Y-%m-%d %I %p 100%%", last), "2024-12-31 11 PM 100%");
        assert_eq!(strftime("é %", begin), "é %");
    }

    /// Against CPython 3 on Linux, in the locale of C.
    #[test]
    fn each_directive_is_pythons() {
        let time = datetime(2024, 2, 5, 9, 4, 6, 0);
        for (directive, expected) in [
            ("%Y", "2024"),
            ("%y", "24"),
            ("%m", "02"),
            ("%-m", "2"),
            ("%d", "05"),
            ("%-d", "5"),
            ("%e", " 5"),
            ("%j", "036"),
            ("%H", "09"),
            ("%I", "09"),
            ("%-I", "9"),
            ("%M", "04"),
            ("%S", "06"),
            ("%p", "AM"),
            ("%P", "am"),
            ("%B", "February"),
            ("%b", "Feb"),
            ("%h", "Feb"),
            ("%A", "Monday"),
            ("%a", "Mon"),
            ("%F", "2024-02-05"),
            ("%T", "09:04:06"),
            ("%R", "09:04"),
            ("%Z", ""),
            ("%z", ""),
            ("%c", "Mon Feb  5 09:04:06 2024"),
            ("%x", "02/05/24"),
            ("%X", "09:04:06"),
            ("%D", "02/05/24"),
            ("%r", "09:04:06 AM"),
            ("%U", "05"),
            ("%W", "06"),
            ("%V", "06"),
            ("%G", "2024"),
            ("%u", "1"),
            ("%w", "1"),
            ("%f", "000000"),
            ("%n", "\n"),
            ("%t", "\t"),
            ("%Q", "%Q"),
        ] {
            assert_eq!(strftime(directive, time), expected, "{directive}");
        }
    }
}
