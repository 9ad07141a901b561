//! What was said so far.

use std::{io, path::Path};

use serde_json::{Value, json};

use crate::ask::Input;

/// System prompt and turns.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) system: Option<String>,
    turns: Vec<(&'static str, String)>,
}

impl History {
    pub(super) fn new(system: Option<String>) -> Self {
        Self { system, turns: Vec::new() }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.turns.push(("user", text.to_owned()));
    }

    pub(super) fn answered(&mut self, text: String) {
        self.turns.push(("assistant", text));
    }

    /// What was said last was not answered: it stays unsaid.
    pub(super) fn take_back(&mut self) {
        self.turns.pop();
    }

    pub(super) fn clear(&mut self) {
        self.turns.clear();
    }

    pub(super) fn input(&self) -> Input {
        Input::Chat(self.messages())
    }

    fn messages(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| ("system", text.as_str()));
        let turns = self.turns.iter().map(|(role, text)| (*role, text.as_str()));
        system.chain(turns).map(|(role, content)| json!({ "role": role, "content": content })).collect()
    }

    /// Writes it down: messages for programs, or a text for people.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let messages = self.messages();
        let text = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            format!("{:#}\n", Value::Array(messages))
        } else {
            let turn = |message: &Value| {
                format!(
                    "{}: {}\n\n",
                    message["role"].as_str().unwrap_or_default(),
                    message["content"].as_str().unwrap_or_default()
                )
            };
            messages.iter().map(turn).collect()
        };
        std::fs::write(path, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_message_comes_first() {
        let mut history = History::new(Some("be brief".into()));
        history.say("hi");
        let Input::Chat(messages) = history.input() else { panic!("messages were expected") };
        let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user"]);
    }
}
