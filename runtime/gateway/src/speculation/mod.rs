//! Speculation: guesses of the tokens to come, which travel with a sequence's next row and are right exactly if they are drawn. They change
//! no answer: a token is a pure function of logits, seed and index of the draw, and rows of one pass give the bits of rows that come one by
//! one. What there is to decide is which tokens to guess ([`suffix`]), how likely they are ([`acceptance`]), what their rows cost
//! ([`costs`]), and how many are worth it ([`window`]). All of it is pure.

mod acceptance;
mod costs;
mod drafting;
mod suffix;
#[cfg(test)]
mod suffix_tests;
mod window;

use std::{fmt, str::FromStr};

use lime_ring::MOST_DRAFTS;
use thiserror::Error;

pub(crate) use costs::Costs;
#[cfg(test)]
pub(crate) use drafting::Guess;
pub(crate) use drafting::{Drafter, Drafting, NewDrafter, OwnText};
pub(crate) use window::{Guesses, windows};

/// How many tokens of an answer are guessed ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// None.
    Off,
    /// As many as pay, by what passes take and how many guesses held.
    #[default]
    Auto,
    /// So many wherever there is something to guess and room for it, whether it pays or not.
    Window(u32),
}

/// Neither `off`, nor `auto`, nor a number of tokens.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is neither \"off\", nor \"auto\", nor a number of tokens from 1 to {MOST_DRAFTS}")]
pub struct SpeculationError(String);

impl FromStr for Speculation {
    type Err = SpeculationError;

    fn from_str(text: &str) -> Result<Self, SpeculationError> {
        match text {
            "off" | "0" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            other => {
                let window = other.parse().ok().filter(|window| (1..=MOST_DRAFTS as u32).contains(window));
                window.map(Self::Window).ok_or_else(|| SpeculationError(other.to_owned()))
            }
        }
    }
}

impl fmt::Display for Speculation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Auto => f.write_str("auto"),
            Self::Window(tokens) => write!(f, "{tokens}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_off_auto_or_a_number_that_a_pass_can_carry() {
        for (text, expected) in [
            ("off", Speculation::Off),
            ("0", Speculation::Off),
            ("auto", Speculation::Auto),
            ("7", Speculation::Window(7)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "on", "-1", "32", "1.5", "Auto "] {
            let fault = text.parse::<Speculation>().unwrap_err().to_string();
            assert!(fault.contains(&format!("{text:?}")) && fault.contains("1 to 31"), "{fault}");
        }
        assert_eq!(Speculation::Window(31).to_string().parse(), Ok(Speculation::Window(31)));
    }
}
