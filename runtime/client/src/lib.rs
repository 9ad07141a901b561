//! Asks a served model over HTTP, and talks with it in a terminal: `lime chat` and `kubectl lime chat` are this.
//!
//! ```no_run
//! # async fn example() -> Result<(), lime_client::ClientError> {
//! use lime_client::{Input, Question, Server, Trust};
//!
//! let server = Server::parse("http://127.0.0.1:8000", None, &Trust::System)?;
//! let model = server.first_model().await?;
//! let input = Input::Text("ROMEO:".into());
//! let question = Question { model, input, max_tokens: 16, temperature: 0.0, seed: None };
//! let answer = lime_client::ask(&server, &question, |piece| print!("{piece}")).await?;
//! assert!(!answer.finish_reason.is_empty());
//! # Ok(())
//! # }
//! ```

mod ask;
mod conversation;
mod dial;
mod error;
mod events;
mod server;
mod trust;

pub use ask::{Answer, Input, Question, Usage, ask};
pub use conversation::{Manner, TalkError, talk};
pub use dial::{Connection, Dial};
pub use error::ClientError;
pub use server::Server;
pub use trust::Trust;
