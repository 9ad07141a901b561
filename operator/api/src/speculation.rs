//! spec.speculation: tokens that are guessed ahead.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many tokens of an answer are guessed ahead, so that those that hold need no pass of their own.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Speculation {
    /// Tokens that are guessed ahead wherever there is something to guess and a pass has room. Left out: as many as pay, by what passes
    /// take and how many guesses held. 0: none. Answers are the same, to the bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = Speculation::MOST))]
    pub window: Option<i32>,
}

impl Speculation {
    /// Most guesses that a sequence may have in a pass.
    pub const MOST: i32 = 31;

    /// What a gateway is told; nothing where it decides.
    pub fn told(&self) -> Option<String> {
        self.window.map(|window| if window == 0 { "off".to_owned() } else { window.to_string() })
    }
}
