//! A conversation in the terminal, or one question through a pipe.

mod command;
mod history;
mod typed;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    ask,
    ask::{Answer, Input, Question},
    error::ClientError,
    server::Server,
};
use command::{HELP, Said, understand};
use history::History;
use typed::{Typed, Typing};

/// The server's word for a model that is not there yet.
const LOADING: &str = "model_loading";

/// Longest wait for a model that is still loading.
const PATIENCE: Duration = Duration::from_secs(600);

/// Longest question from a pipe: as long as a request may be.
const LONGEST_INPUT: u64 = 8 << 20;

/// How to talk.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The model's name; `None`: the first that the server lists.
    pub model: Option<String>,
    /// A text that is continued, and the end: no conversation.
    pub prompt: Option<String>,
    /// What the model is told first.
    pub system: Option<String>,
    /// Most tokens of an answer.
    pub max_tokens: u32,
    /// 0: always the most likely token.
    pub temperature: f32,
    /// Makes answers repeatable.
    pub seed: Option<u64>,
}

/// Why a conversation ended before its last word.
#[derive(Debug, Error)]
pub enum TalkError {
    /// By Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// By the server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The question cannot be read.
    #[error("the question cannot be read from standard input")]
    Input(#[source] io::Error),
    /// The question is longer than any request.
    #[error("the question on standard input is longer than {LONGEST_INPUT} bytes")]
    Long,
}

/// Talks until /quit or the end of input. In a terminal what goes wrong is told, and the conversation goes on; a pipe brings one
/// question, and what goes wrong with it ends it.
///
/// # Errors
/// See above.
pub async fn talk(server: &Server, manner: &Manner) -> Result<(), TalkError> {
    let model = match &manner.model {
        Some(model) => model.clone(),
        None => server.first_model().await?,
    };
    let mut interrupts = interrupts();
    let mut talk = Talk { server, manner: manner.clone(), model, history: History::new(manner.system.clone()) };
    if let Some(prompt) = &manner.prompt {
        show(prompt);
        return talk.whole(&Input::Text(prompt.clone()), &mut interrupts).await;
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        eprintln!("{} at {}. /help lists the commands, /quit or Ctrl-D ends.", talk.model, server.url());
        let typing = Typing::at_terminal().map_err(|error| TalkError::Input(io::Error::other(error)))?;
        talk.converse(typing, interrupts).await;
        return Ok(());
    }
    let question = whole_input()?;
    if question.trim().is_empty() {
        return Ok(());
    }
    talk.history.say(question.trim());
    talk.whole(&talk.history.input(), &mut interrupts).await
}

/// How an answer ended.
enum Heard {
    Whole(Answer),
    /// By Ctrl-C, after this much.
    Stopped(String),
}

struct Talk<'a> {
    server: &'a Server,
    manner: Manner,
    model: String,
    history: History,
}

impl Talk<'_> {
    /// One question and its whole answer.
    async fn whole(&self, input: &Input, interrupts: &mut mpsc::Receiver<()>) -> Result<(), TalkError> {
        match self.ask(input, interrupts).await? {
            Heard::Whole(_) => Ok(()),
            Heard::Stopped(_) => Err(TalkError::Interrupted),
        }
    }

    /// Line by line, until there are no more or the person has enough.
    async fn converse(&mut self, mut typing: Typing, mut interrupts: mpsc::Receiver<()>) {
        let mut begun = String::new();
        let mut warned = false;
        loop {
            let prompt = if begun.is_empty() { "> " } else { ". " };
            let typed = tokio::select! {
                typed = typing.next(prompt) => typed,
                // From elsewhere: at the terminal it is a key.
                _ = interrupts.recv() => Some(Typed::Interrupt),
            };
            let line = match typed {
                None => break,
                Some(Typed::Line(line)) => line,
                // The first one gives up what was begun; who asks twice means it.
                Some(Typed::Interrupt) if warned && begun.is_empty() => break,
                Some(Typed::Interrupt) => {
                    begun.clear();
                    warned = true;
                    eprintln!("\n(Ctrl-C again, Ctrl-D or /quit ends)");
                    continue;
                }
            };
            warned = false;
            if let Some(part) = line.trim_end().strip_suffix('\\') {
                begun.push_str(part);
                begun.push('\n');
                continue;
            }
            let whole = std::mem::take(&mut begun) + &line;
            if !self.take(&whole, &mut interrupts).await {
                break;
            }
        }
    }

    /// Does what a line says; false where it says that it is over.
    async fn take(&mut self, line: &str, interrupts: &mut mpsc::Receiver<()>) -> bool {
        match understand(line) {
            Said::Nothing => {}
            Said::Quit => return false,
            Said::Clear => {
                self.history.clear();
                eprintln!("(forgotten)");
            }
            Said::Help => eprintln!("{HELP}"),
            Said::System(None) => eprintln!("system: {}", self.history.system.as_deref().unwrap_or("(nothing)")),
            Said::System(Some(text)) => self.history.system = (text != "-").then(|| text.to_owned()),
            Said::Save(file) => match self.history.save(Path::new(file)) {
                Ok(()) => eprintln!("(written to {file})"),
                Err(error) => eprintln!("error: {file} cannot be written: {error}"),
            },
            Said::Set(None) => eprintln!("{}", self.settings()),
            Said::Set(Some((name, value))) => match self.set(name, value) {
                Ok(()) => eprintln!("{}", self.settings()),
                Err(fault) => eprintln!("error: {fault}"),
            },
            Said::Incomplete(usage) => eprintln!("write {usage}"),
            Said::Unknown(command) => eprintln!("there is no command {command}: /help lists them"),
            Said::Message(message) => {
                self.history.say(message);
                match self.ask(&self.history.input(), interrupts).await {
                    Ok(Heard::Whole(answer)) => {
                        if answer.finish_reason == "length" {
                            eprintln!("(cut: /set max_tokens makes answers longer)");
                        }
                        if let Some(spared) = answer.usage.spared() {
                            eprintln!("({spared})");
                        }
                        self.history.answered(answer.text);
                    }
                    // What was said so far was said.
                    Ok(Heard::Stopped(text)) if !text.is_empty() => self.history.answered(text),
                    Ok(Heard::Stopped(_)) => self.history.take_back(),
                    Err(error) => {
                        self.history.take_back();
                        eprintln!("error: {}", told(&error));
                    }
                }
            }
        }
        true
    }

    fn settings(&self) -> String {
        let Manner { max_tokens, temperature, seed, .. } = &self.manner;
        let seed = seed.map_or("random".to_owned(), |seed| seed.to_string());
        format!("temperature {temperature}, max_tokens {max_tokens}, seed {seed}")
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{name} must be {what}, not {value:?}");
        match name {
            "temperature" => {
                let parsed = value.parse().ok().filter(|value| (0.0..=2.0).contains(value));
                self.manner.temperature = parsed.ok_or_else(|| wrong("a number from 0 to 2"))?;
            }
            "max_tokens" | "max-tokens" => {
                let parsed = value.parse().ok().filter(|value| *value > 0);
                self.manner.max_tokens = parsed.ok_or_else(|| wrong("a whole number from 1"))?;
            }
            "seed" if value == "-" => self.manner.seed = None,
            "seed" => self.manner.seed = Some(value.parse().map_err(|_| wrong("a whole number, or -"))?),
            other => return Err(format!("there is no setting {other}: temperature, max_tokens or seed")),
        }
        Ok(())
    }

    /// Asks, and shows the answer as it comes; waits for a model that loads. What the server refuses is an error in its own words: a
    /// model without a chat template is its affair, and one that takes no system message is not to be asked without it.
    async fn ask(&self, input: &Input, interrupts: &mut mpsc::Receiver<()>) -> Result<Heard, ClientError> {
        let Manner { max_tokens, temperature, seed, .. } = self.manner;
        let question = Question { model: self.model.clone(), input: input.clone(), max_tokens, temperature, seed };
        let mut waited = Duration::ZERO;
        // Asked for before there was an answer, it is no wish to stop this one.
        while interrupts.try_recv().is_ok() {}
        loop {
            let mut heard = String::new();
            let answering = ask(self.server, &question, |piece| {
                heard.push_str(piece);
                show(piece);
            });
            let result = tokio::select! {
                result = answering => result,
                // The server sees the connection close and stops.
                Some(()) = interrupts.recv() => {
                    show("\n");
                    return Ok(Heard::Stopped(heard));
                }
            };
            match result {
                Ok(answer) => {
                    show("\n");
                    return Ok(Heard::Whole(answer));
                }
                Err(ClientError::Refused { code, message, retry_after, .. })
                    if code.as_deref() == Some(LOADING) && waited < PATIENCE =>
                {
                    if waited.is_zero() {
                        eprintln!("({message})");
                    }
                    let pause = Duration::from_secs(retry_after.unwrap_or(1).clamp(1, 30));
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        Some(()) = interrupts.recv() => return Ok(Heard::Stopped(String::new())),
                    }
                    waited += pause;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// An error and its causes.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn show(piece: &str) {
    let mut output = io::stdout();
    // A reader that has gone away ends the program at the next line; nothing is lost by not writing.
    let _ = output.write_all(piece.as_bytes()).and_then(|()| output.flush());
}

fn whole_input() -> Result<String, TalkError> {
    let mut text = Vec::new();
    io::stdin().lock().take(LONGEST_INPUT + 1).read_to_end(&mut text).map_err(TalkError::Input)?;
    if text.len() as u64 > LONGEST_INPUT {
        return Err(TalkError::Long);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Every Ctrl-C from now on.
fn interrupts() -> mpsc::Receiver<()> {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            // One that nobody has heard yet says it for both.
            if let Err(mpsc::error::TrySendError::Closed(())) = send.try_send(()) {
                break;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests;
