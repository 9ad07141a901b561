//! Which form a model's answers have, by what its chat template says.

use super::bare;

/// How a model writes its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStyle {
    /// `<tool_call>` ... `</tool_call>`: Hermes, Qwen.
    Hermes,
    /// `[TOOL_CALLS]`: Mistral.
    Mistral,
    /// A JSON object with `parameters`, perhaps after `<|python_tag|>`: Llama 3.
    Llama3,
    /// A JSON object with `arguments`: any model that was told so.
    #[default]
    Json,
}

/// The form of a model's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerFormat {
    /// How calls are written.
    pub calls: CallStyle,
    /// Whether the template tells the model of its tools; if not, they have to be told in words.
    pub told: bool,
    /// Whether answers begin with thoughts that are told apart.
    pub thoughts: bool,
}

impl AnswerFormat {
    /// As the sources of a model's templates have it.
    pub(crate) fn of_sources<'a>(sources: impl Iterator<Item = &'a str> + Clone) -> Self {
        let says = |mark: &str| sources.clone().any(|source| source.contains(mark));
        let told = says("tools");
        let calls = if says("[TOOL_CALLS]") {
            CallStyle::Mistral
        } else if says("<tool_call>") {
            CallStyle::Hermes
        } else if told && (says(bare::PYTHON_TAG) || says("ipython")) {
            CallStyle::Llama3
        } else {
            CallStyle::Json
        };
        Self { calls, told, thoughts: says("<think>") || says("</think>") }
    }

    /// The marks that answers have in this form, with calls or without. Where they are special tokens, they are part of the text all
    /// the same.
    pub fn marks(&self, with_calls: bool) -> impl Iterator<Item = &'static str> {
        let calls: &[&str] = match self.calls {
            _ if !with_calls => &[],
            CallStyle::Hermes => &["<tool_call>", "</tool_call>"],
            CallStyle::Mistral => &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
            CallStyle::Llama3 => &[bare::PYTHON_TAG],
            CallStyle::Json => &[],
        };
        let thoughts: &[&str] = if self.thoughts { &["<think>", "</think>"] } else { &[] };
        calls.iter().chain(thoughts).copied()
    }
}

/// How calls stand in an answer: a mark and what opens them, objects of name and arguments, what closes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallMarks {
    /// Before calls; empty where there is none. It may be a special token.
    pub mark: &'static str,
    /// Between the mark and the first object.
    pub open: &'static str,
    /// What the arguments are called.
    pub arguments: &'static str,
    /// Between one object and the next, or between one call and the next where each has its mark.
    pub between: &'static str,
    /// Behind the last object, or behind each.
    pub close: &'static str,
    /// Whether each call has mark and close of its own.
    pub each: bool,
}

impl CallStyle {
    /// How calls stand in an answer of this style.
    pub const fn marks(self) -> CallMarks {
        let bare = CallMarks { mark: "", open: "", arguments: "arguments", between: "\n", close: "", each: false };
        match self {
            Self::Hermes => CallMarks { mark: "<tool_call>", open: "\n", close: "\n</tool_call>", each: true, ..bare },
            Self::Mistral => CallMarks { mark: "[TOOL_CALLS]", open: " [", between: ", ", close: "]", ..bare },
            Self::Llama3 => CallMarks { arguments: "parameters", between: "; ", ..bare },
            Self::Json => bare,
        }
    }

    /// How an answer begins that is a call, of `tool` where it is named.
    pub fn beginning(self, tool: Option<&str>) -> String {
        let CallMarks { mark, open, arguments, .. } = self.marks();
        // Without the space after a colon: the next token most often has it.
        match tool {
            None => format!("{mark}{open}{{\"name\":"),
            Some(tool) => format!("{mark}{open}{{\"name\": {}, \"{arguments}\":", serde_json::Value::from(tool)),
        }
    }
}
