//! A conversation in the terminal, or through a pipe.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{Answer, ClientError, Input, Question, Server, ask};

/// The server's word for a model that is not there yet.
const LOADING: &str = "model_loading";

/// Longest wait for a model that is still loading.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was said so far.
#[derive(Debug, Default)]
struct Conversation {
    system: Option<String>,
    turns: Vec<(&'static str, String)>,
}

impl Conversation {
    fn input(&self) -> Input {
        let system = self.system.iter().map(|text| ("system", text.as_str()));
        let turns = self.turns.iter().map(|(role, text)| (*role, text.as_str()));
        let message = |(role, content): (&str, &str)| -> Value { json!({ "role": role, "content": content }) };
        Input::Chat(system.chain(turns).map(message).collect())
    }

    fn say(&mut self, line: &str) {
        self.turns.push(("user", line.to_owned()));
    }
}

/// A line, as the person means it.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Nothing,
    Quit,
    Reset,
    Help,
    Unknown(&'a str),
    Message(&'a str),
}

fn understand(line: &str) -> Said<'_> {
    match line.trim() {
        "" => Said::Nothing,
        "/quit" | "/exit" => Said::Quit,
        "/reset" => Said::Reset,
        "/help" | "/?" => Said::Help,
        other if other.starts_with('/') => Said::Unknown(other),
        other => Said::Message(other),
    }
}

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
}

/// Talks until /quit or the end of input. In a terminal what goes wrong is told, and the conversation goes on; in a pipe it ends there.
///
/// # Errors
/// See above.
pub async fn talk(server: &Server, manner: &Manner) -> Result<(), TalkError> {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let model = match &manner.model {
        Some(model) => model.clone(),
        None => server.first_model().await?,
    };
    let question = |input| Question {
        model: model.clone(),
        input,
        max_tokens: manner.max_tokens,
        temperature: manner.temperature,
        seed: manner.seed,
    };
    if let Some(prompt) = &manner.prompt {
        show(prompt);
        return patiently(server, &question(Input::Text(prompt.clone()))).await.map(drop);
    }
    if interactive {
        eprintln!("{model} at {}. /reset forgets, /quit or Ctrl-D ends.", server.url());
    }
    let mut lines = lines();
    let mut conversation = Conversation { system: manner.system.clone(), ..Conversation::default() };
    loop {
        if interactive {
            eprint!("> ");
        }
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { break };
        match understand(&line) {
            Said::Nothing => {}
            Said::Quit => break,
            Said::Reset => {
                conversation.turns.clear();
                eprintln!("(forgotten)");
            }
            Said::Help => eprintln!("/reset forgets what was said, /quit ends; anything else is said to the model"),
            Said::Unknown(command) => eprintln!("there is no command {command}: /reset, /quit or /help"),
            Said::Message(message) => {
                conversation.say(message);
                let answered = answer(server, &mut conversation, question, interactive).await;
                if let Err(error) = answered {
                    conversation.turns.pop();
                    if !interactive {
                        return Err(error);
                    }
                    eprintln!("error: {}", told(&error));
                }
            }
        }
    }
    Ok(())
}

/// Asks with what was said so far. What the server refuses is an error in its own words: a model without a chat template is its
/// affair, and one that takes no system message is not to be asked without it.
async fn answer(
    server: &Server,
    conversation: &mut Conversation,
    question: impl Fn(Input) -> Question,
    interactive: bool,
) -> Result<(), TalkError> {
    let answer = patiently(server, &question(conversation.input())).await?;
    if answer.finish_reason == "length" && interactive {
        eprintln!("(cut after --max-tokens)");
    }
    conversation.turns.push(("assistant", answer.text));
    Ok(())
}

/// Asks, and shows the answer as it comes; waits for a model that loads.
async fn patiently(server: &Server, asked: &Question) -> Result<Answer, TalkError> {
    let mut waited = Duration::ZERO;
    loop {
        let answering = ask(server, asked, show);
        let result = tokio::select! {
            result = answering => result,
            // The server sees the connection close and stops; what was said stays unsaid.
            _ = tokio::signal::ctrl_c() => return Err(TalkError::Interrupted),
        };
        match result {
            Ok(answer) => {
                show("\n");
                return Ok(answer);
            }
            Err(ClientError::Refused { code, message, retry_after, .. })
                if code.as_deref() == Some(LOADING) && waited < PATIENCE =>
            {
                if waited.is_zero() {
                    eprintln!("({message})");
                }
                let pause = Duration::from_secs(retry_after.unwrap_or(1).clamp(1, 30));
                tokio::time::sleep(pause).await;
                waited += pause;
            }
            Err(error) => return Err(error.into()),
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

/// Lines of standard input, read by a thread of its own so that waiting for one can be interrupted.
fn lines() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        assert_eq!(understand("  "), Said::Nothing);
        assert_eq!(understand("/quit\n"), Said::Quit);
        assert_eq!(understand("/reset"), Said::Reset);
        assert_eq!(understand("/rset"), Said::Unknown("/rset"));
        assert_eq!(understand(" hello / there "), Said::Message("hello / there"));
    }

    #[test]
    fn the_system_message_comes_first() {
        let mut conversation = Conversation { system: Some("be brief".into()), ..Conversation::default() };
        conversation.say("hi");
        let Input::Chat(messages) = conversation.input() else { panic!("messages were expected") };
        let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user"]);
    }
}
