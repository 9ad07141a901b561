//! The process as the gateway sees it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use lime_files::FileError;
use lime_text::TextError;

use super::wire::{Conversation, LONGEST, Reply};

/// How long a process may take until it has its template.
const STARTING: Duration = Duration::from_secs(30);

/// A process that renders, kept and replaced as needed. One conversation at a time.
#[derive(Debug)]
pub(crate) struct TemplateProcess {
    program: PathBuf,
    folder: PathBuf,
    deadline: Duration,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    lines: mpsc::Sender<Vec<u8>>,
    replies: mpsc::Receiver<Vec<u8>>,
}

/// A process that gave no reply.
#[derive(Debug, PartialEq, Eq)]
enum Overrun {
    Time,
    Ended,
}

impl TemplateProcess {
    /// Starts `program`, which is `lime`, for the model in `folder`. A conversation may take until `deadline`.
    pub(crate) fn start(program: PathBuf, folder: PathBuf, deadline: Duration) -> Result<Self, TextError> {
        let process = Self { program, folder, deadline, running: Mutex::new(None) };
        let first = process.spawn()?;
        *process.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        Ok(process)
    }

    /// The prompt of a conversation.
    pub(crate) fn render(&self, conversation: &Conversation) -> Result<String, TextError> {
        let mut line = serde_json::to_vec(conversation).map_err(|fault| template(fault.to_string()))?;
        line.push(b'\n');
        if line.len() as u64 >= LONGEST {
            return Err(template("the conversation is too long".into()));
        }
        let mut kept = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One that ended while nobody asked is no conversation's fault.
        let kept_running = kept.take().and_then(Running::alive);
        let mut running = kept_running.map_or_else(|| self.spawn(), Ok)?;
        let reply = running.ask(line, self.deadline);
        match reply {
            Ok(Reply::Text(text)) => {
                *kept = Some(running);
                Ok(text)
            }
            Ok(Reply::Refused(reason)) => {
                *kept = Some(running);
                Err(template(reason))
            }
            Ok(Reply::Ready) => Err(template("its process is out of step".into())),
            Err(overrun) => {
                let reason = match overrun {
                    Overrun::Time => {
                        format!("took longer than {} s and was stopped", self.deadline.as_secs_f32())
                    }
                    Overrun::Ended => {
                        "took more memory than any conversation needs, or nested too deeply, and was stopped".to_owned()
                    }
                };
                tracing::warn!(reason, "the model's chat template was stopped");
                Err(template(format!("{reason}: the template is wrong, or the conversation far too long")))
            }
        }
    }

    fn spawn(&self) -> Result<Running, TextError> {
        let fault = |source| TextError::from(FileError::Read { path: self.program.clone(), source });
        let mut process = Command::new(&self.program)
            .arg("render")
            .arg(&self.folder)
            // Keys and tokens are none of its business.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fault)?;
        let (Some(mut input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(fault(io::Error::other("it has no pipes")));
        };
        let (lines, to_write) = mpsc::channel::<Vec<u8>>();
        let (read, replies) = mpsc::channel();
        // A pipe has no deadline: two threads wait in our place, and end with the process.
        thread::spawn(move || to_write.iter().try_for_each(|line| input.write_all(&line)));
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = Vec::new();
                let ended = output.by_ref().take(LONGEST).read_until(b'\n', &mut line);
                if !matches!(ended, Ok(1..)) || line.pop() != Some(b'\n') || read.send(line).is_err() {
                    break;
                }
            }
        });
        let running = Running { process, lines, replies };
        match running.wait(STARTING) {
            Ok(Reply::Ready) => Ok(running),
            _ => Err(template("its process does not start: see the line before this one".into())),
        }
    }
}

impl Running {
    /// The process, if it still runs.
    fn alive(mut self) -> Option<Self> {
        matches!(self.process.try_wait(), Ok(None)).then_some(self)
    }

    fn ask(&mut self, line: Vec<u8>, deadline: Duration) -> Result<Reply, Overrun> {
        self.lines.send(line).map_err(|_| Overrun::Ended)?;
        self.wait(deadline)
    }

    fn wait(&self, deadline: Duration) -> Result<Reply, Overrun> {
        let line = self.replies.recv_timeout(deadline).map_err(|fault| match fault {
            mpsc::RecvTimeoutError::Timeout => Overrun::Time,
            mpsc::RecvTimeoutError::Disconnected => Overrun::Ended,
        })?;
        serde_json::from_slice(&line).map_err(|_| Overrun::Ended)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const fn template(reason: String) -> TextError {
    TextError::Template { reason }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const READY: &str = "echo '\"ready\"'";

    /// A shell script in the place of `lime`.
    fn program(folder: &tempfile::TempDir, script: &str) -> PathBuf {
        let path = folder.path().join("program");
        // Written by a child: what this process has open for writing, a test beside this one may hand to a child of its own, and a file
        // that anybody has open for writing cannot be run.
        let mut writer = Command::new("sh");
        writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        let text = format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n");
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    fn rendered(script: &str, deadline: Duration) -> (tempfile::TempDir, TemplateProcess, Result<String, String>) {
        let folder = tempfile::tempdir().unwrap();
        let program = program(&folder, script);
        let process = TemplateProcess::start(program, folder.path().to_owned(), deadline).unwrap();
        let text = process.render(&Conversation::default()).map_err(|fault| fault.to_string());
        (folder, process, text)
    }

    #[test]
    fn a_process_is_kept_between_conversations() {
        let script =
            format!("{READY}\nn=0\nwhile read line; do n=$((n+1)); echo \"{{\\\"text\\\":\\\"$n\\\"}}\"; done");
        let (_folder, process, first) = rendered(&script, Duration::from_secs(20));
        assert_eq!(first.as_deref(), Ok("1"));
        assert_eq!(process.render(&Conversation::default()).unwrap(), "2");
    }

    #[test]
    fn one_that_crashes_hangs_or_floods_is_replaced() {
        let second = "echo '{\"text\":\"again\"}'";
        for (misdeed, expected, deadline) in [
            ("kill -SEGV $$", "nested too deeply", 20.0),
            ("exec sleep 60", "took longer than", 0.3),
            // More than a reply may have, without an end.
            ("exec cat /dev/zero", "took more memory", 60.0),
            ("echo nonsense", "took more memory", 20.0),
        ] {
            let script = format!(
                "{READY}\nread line\nif [ -e \"$2/seen\" ]; then {second}; read line; else : > \"$2/seen\"; {misdeed}; fi"
            );
            let begun = Instant::now();
            let (_folder, process, first) = rendered(&script, Duration::from_secs_f32(deadline));
            let fault = first.unwrap_err();
            assert!(fault.contains(expected), "{misdeed}: {fault}");
            assert!(begun.elapsed() < Duration::from_secs(50), "{misdeed}");
            let again = process.render(&Conversation::default());
            assert_eq!(again.unwrap(), "again", "{misdeed}");
        }
    }

    #[test]
    fn one_that_does_not_start_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for script in ["exit 1", "echo hello"] {
            let program = program(&folder, script);
            let fault = TemplateProcess::start(program, folder.path().to_owned(), Duration::from_secs(1)).unwrap_err();
            assert!(fault.to_string().contains("does not start"), "{fault}");
        }
        assert!(TemplateProcess::start("/nowhere/lime".into(), "/".into(), Duration::from_secs(1)).is_err());
    }
}
