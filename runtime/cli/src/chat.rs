//! `lime chat`: a conversation in the terminal, or through a pipe.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::bail;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    args::ChatArgs,
    http::{Answer, AskError, Input, Question, Server, ask},
};

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

/// Talks until /quit or the end of input.
pub(crate) fn run(args: ChatArgs) -> anyhow::Result<()> {
    let server = Server::parse(&args.url, args.api_key.clone())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(talk(&args, &server))
}

async fn talk(args: &ChatArgs, server: &Server) -> anyhow::Result<()> {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let model = match &args.model {
        Some(model) => model.clone(),
        None => server.first_model().await?,
    };
    let question = |input| Question {
        model: model.clone(),
        input,
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        seed: args.seed,
    };
    if let Some(prompt) = &args.prompt {
        show(prompt);
        return patiently(server, &question(Input::Text(prompt.clone()))).await.map(|_| ());
    }
    if interactive {
        eprintln!("{model} at {}. /reset forgets, /quit or Ctrl-D ends.", server.url());
    }
    let mut lines = lines();
    let mut conversation = Conversation { system: args.system.clone(), ..Conversation::default() };
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
                    eprintln!("error: {error:#}");
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
) -> anyhow::Result<()> {
    let answer = patiently(server, &question(conversation.input())).await?;
    if answer.finish_reason == "length" && interactive {
        eprintln!("(cut after --max-tokens)");
    }
    conversation.turns.push(("assistant", answer.text));
    Ok(())
}

/// Asks, and shows the answer as it comes; waits for a model that loads.
async fn patiently(server: &Server, asked: &Question) -> anyhow::Result<Answer> {
    let mut waited = Duration::ZERO;
    loop {
        let answering = ask(server, asked, show);
        let result = tokio::select! {
            result = answering => result,
            // The server sees the connection close and stops; what was said stays unsaid.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        };
        match result {
            Ok(answer) => {
                show("\n");
                return Ok(answer);
            }
            Err(AskError::Refused { code, message, retry_after, .. })
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
