//! Lines that a person types, with an editor's keys and a history of this conversation.

use std::{sync::mpsc as blocking, thread};

use rustyline::{Config, Editor, error::ReadlineError, history::MemHistory};
use tokio::sync::mpsc;

/// What came of asking for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C.
    Interrupt,
}

/// Where lines come from.
pub(super) struct Typing {
    prompts: blocking::Sender<&'static str>,
    typed: mpsc::Receiver<Typed>,
    /// Whether somebody is at it already.
    asked: bool,
}

impl Typing {
    /// The terminal, read by a thread of its own so that waiting for a line can be interrupted.
    pub(super) fn at_terminal() -> rustyline::Result<Self> {
        let config = Config::builder().max_history_size(1000)?.auto_add_history(true).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::<(), MemHistory>::with_history(config, history)?;
        let (prompts, asked) = blocking::channel::<&str>();
        let (send, typed) = mpsc::channel(1);
        thread::spawn(move || {
            for prompt in asked {
                let typed = match editor.readline(prompt) {
                    Ok(line) => Typed::Line(line),
                    Err(ReadlineError::Interrupted) => Typed::Interrupt,
                    Err(_) => break,
                };
                if send.blocking_send(typed).is_err() {
                    break;
                }
            }
        });
        Ok(Self { prompts, typed, asked: false })
    }

    /// The next line; none where there are no more. May be given up, and asked again.
    pub(super) async fn next(&mut self, prompt: &'static str) -> Option<Typed> {
        if !self.asked {
            // Without anybody there the receiver says so.
            let _ = self.prompts.send(prompt);
            self.asked = true;
        }
        let typed = self.typed.recv().await;
        self.asked = false;
        typed
    }

    /// Lines from elsewhere.
    #[cfg(test)]
    pub(super) fn of(typed: mpsc::Receiver<Typed>) -> Self {
        Self { prompts: blocking::channel().0, typed, asked: false }
    }
}
