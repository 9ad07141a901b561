//! Answers that have a form: of a text's grammar, which tokens may come next.
//!
//! A [`Form`] is what a request asks for (a JSON schema, an expression, a choice, a grammar). [`Grammars`] knows the tokens of a model and
//! makes a [`Grammar`] of a form; a [`Matcher`] goes through one answer. What may come next is a pure function of grammar and tokens so far,
//! so a draw can be repeated after a failure, and rows of guesses have their own.
//!
//! The grammars themselves are llguidance's. Forms are foreign: their size and depth are bounded before it sees them, its work after.
//!
//! ```
//! use lime_grammar::{Form, Grammars, TokenText};
//!
//! let text = |text: &str| TokenText::Text(text.into());
//! let tokens = ["yes", "no", "y", "es", " ", "s"].map(text).into_iter().chain([TokenText::Mark("<end>".into())]);
//! let grammars = Grammars::new(tokens.collect(), &[6])?;
//! let grammar = grammars.compile(&Form::Choice(vec!["yes".into(), "no".into()]))?;
//!
//! let mut matcher = grammar.matcher();
//! assert_eq!(matcher.allowed().iter().collect::<Vec<_>>(), [0, 1, 2], "the beginnings of both");
//! assert_eq!(matcher.ahead(&[2, 3])?.len(), 1, "behind the whole text nothing is drawn");
//! matcher.advance(2)?;
//! assert_eq!(matcher.forced(), b"es");
//! matcher.advance(3)?;
//! assert!(matcher.is_over());
//! # Ok::<(), lime_grammar::GrammarError>(())
//! ```

mod error;
mod form;
mod grammars;
mod matcher;
mod part;
mod schema;
mod tokens;
mod waiting;

pub use error::GrammarError;
pub use form::Form;
pub use grammars::{Grammar, Grammars};
pub use matcher::Matcher;
pub use part::Part;
pub use tokens::TokenText;
