//! Between text and tokens: tokenizer, chat templates, conversations, and what a model's makers say about sampling. No weights and
//! no arithmetic: the gateway needs nothing else of a model.
//!
//! Files come from elsewhere and are not trusted: lengths are checked before memory is taken, a tokenizer's rules are looked at
//! before they run, templates run in a sandbox with a budget, and a fault is an error that names the file and says what to do.
//!
//! ```
//! use lime_text::ServedText;
//!
//! let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m");
//! let text = ServedText::open(folder)?;
//! let tokens = text.tokenizer.encode("To be, or not to be", true)?;
//! assert_eq!(text.tokenizer.decode(&tokens, true), "To be, or not to be");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod continuation;
mod decoding;
mod detokenizer;
mod error;
mod generation;
mod messages;
mod model_tokens;
mod python_json;
mod served_text;
mod special;
mod template;
mod template_conversation;
mod template_dates;
mod template_files;
mod template_filters;
mod template_methods;
mod template_source;
mod tokenizer;
mod tokenizer_check;

pub use answers::{
    AnswerFormat, AnswerParser, AnswerPart, AnswerReading, CallMarks, CallStyle, ToolCall, short_call_ids,
    tools_in_words,
};
pub use continuation::Continuation;
pub use detokenizer::DecodeStream;
pub use error::TextError;
pub use generation::{GenerationConfig, Unapplied};
pub use messages::{plain_prompt, template_messages};
pub use served_text::{ServedText, TextFaults};
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
