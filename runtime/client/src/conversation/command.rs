//! What a line of a conversation means: something to say, or a command to the program.

/// A line, as the person means it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Nothing,
    Quit,
    Clear,
    Help,
    /// Shows the system prompt, or says another; `-` for none.
    System(Option<&'a str>),
    /// Writes the conversation to a file.
    Save(&'a str),
    /// Shows the settings, or changes one.
    Set(Option<(&'a str, &'a str)>),
    /// A command that lacks what it needs, and how it is written.
    Incomplete(&'static str),
    Unknown(&'a str),
    Message(&'a str),
}

pub(super) const HELP: &str = "\
/clear             forget what was said (/reset too)
/system [TEXT]     show what the model is told first, or tell it something else; - for nothing
/set [NAME VALUE]  show the settings, or change one: temperature, max_tokens, seed (- for a random one)
/save FILE         write the conversation down: as messages where FILE ends in .json, else as text
/help              this
/quit              end (Ctrl-D too)
Ctrl-C stops an answer. A line that ends in \\ goes on in the next. Anything else is said to the model.";

pub(super) fn understand(line: &str) -> Said<'_> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()));
    let rest = (!rest.is_empty()).then_some(rest);
    match (word, rest) {
        ("", _) => Said::Nothing,
        ("/quit" | "/exit" | "/bye", None) => Said::Quit,
        ("/clear" | "/reset", None) => Said::Clear,
        ("/help" | "/?", None) => Said::Help,
        ("/system", text) => Said::System(text),
        ("/save", Some(file)) => Said::Save(file),
        ("/save", None) => Said::Incomplete("/save FILE"),
        ("/set", None) => Said::Set(None),
        ("/set", Some(setting)) => match setting.split_once([' ', '\t', '=']) {
            Some((name, value)) if !value.trim().is_empty() => Said::Set(Some((name, value.trim()))),
            _ => Said::Incomplete("/set NAME VALUE, such as /set temperature 0.2"),
        },
        (command, None) if command.starts_with('/') => Said::Unknown(command),
        _ => Said::Message(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        assert_eq!(understand("  "), Said::Nothing);
        assert_eq!(understand("/quit\n"), Said::Quit);
        assert_eq!(understand("/reset"), Said::Clear);
        assert_eq!(understand("/clear "), Said::Clear);
        assert_eq!(understand("/rset"), Said::Unknown("/rset"));
        assert_eq!(understand("/system"), Said::System(None));
        assert_eq!(understand("/system  Be brief. "), Said::System(Some("Be brief.")));
        assert_eq!(understand("/save a b.txt"), Said::Save("a b.txt"));
        assert_eq!(understand("/save"), Said::Incomplete("/save FILE"));
        assert_eq!(understand("/set temperature 0.2"), Said::Set(Some(("temperature", "0.2"))));
        assert_eq!(understand("/set seed=7"), Said::Set(Some(("seed", "7"))));
        assert_eq!(understand("/set"), Said::Set(None));
        assert!(matches!(understand("/set seed"), Said::Incomplete(_)));
        assert_eq!(understand(" hello / there "), Said::Message("hello / there"));
        // Paths and the like are said to the model.
        assert_eq!(understand("/etc/passwd is a file"), Said::Message("/etc/passwd is a file"));
    }
}
