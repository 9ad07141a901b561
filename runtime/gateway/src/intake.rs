//! The way from HTTP to the pass loop and back: sequences in, tokens out.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use lime_grammar::Matcher;
use lime_ring::proto::Token;
use lime_trace::TraceContext;
use tokio::sync::{mpsc, oneshot};

use crate::{
    sampling::SamplingParams,
    schedule::{Finish, Guessed, KeyId, NewSequence, Pooling, QueueFull, SequenceId},
};

/// What a stream hears.
#[derive(Debug)]
pub(crate) enum SequenceEvent {
    /// The next token.
    Drawn {
        /// It.
        token: Token,
        /// Whether it was the last, and why.
        finish: Option<Finish>,
        /// What became of guesses with it.
        guessed: Guessed,
        /// Tokens of the prompt that were not computed for this sequence.
        cached: u32,
        /// How likely the prompt's tokens were, where that was asked: with the first token.
        scores: Vec<Token>,
        /// The sum of the prompt's states, where that was asked: with the first token.
        pooled: Vec<i64>,
    },
    /// There will be no more tokens.
    Failed(StreamFault),
}

/// Why a stream ended before its answer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// The ring fails at this very sequence, again and again.
    Failed(String),
    /// What it asks for can be done on no try.
    Refused(String),
    /// The ring does not come back.
    Unavailable(String),
    /// The plan in force has room for `context` tokens only, and the sequence would need more.
    Outgrown {
        /// Prompt and answer together.
        context: u32,
    },
    /// The gateway stops.
    Stopping,
}

/// What the pass loop is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take up the sequences of one request, all or none.
    Admit {
        /// They and their streams.
        sequences: Vec<(NewSequence, mpsc::UnboundedSender<SequenceEvent>)>,
        /// Hears whether there was room.
        reply: oneshot::Sender<Result<(), QueueFull>>,
    },
    /// Nobody wants this one any more.
    Cancel(SequenceId),
}

/// A sequence as HTTP asks for it.
#[derive(Clone, Debug)]
pub(crate) struct SequenceRequest {
    pub(crate) prompt: Arc<[u32]>,
    pub(crate) max_tokens: u32,
    pub(crate) sampling: SamplingParams,
    pub(crate) end_tokens: Arc<[u32]>,
    /// The request's span, where it is traced.
    pub(crate) trace: Option<TraceContext>,
    /// What the answer is expected to be like, if anything.
    pub(crate) prediction: Arc<[u32]>,
    /// The API key that asks, where there are keys.
    pub(crate) key: Option<KeyId>,
    /// The grammar of its answer, if it has one.
    pub(crate) matcher: Option<Matcher>,
    /// How many alternatives are told of each token of the prompt, with how likely it was.
    pub(crate) scoring: Option<u32>,
    /// Which of the prompt's states are added up.
    pub(crate) pooling: Option<Pooling>,
}

/// Why nothing was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many wait.
    QueueFull(QueueFull),
    /// The gateway stops.
    Stopping,
}

/// Where sequences are handed in.
#[derive(Debug)]
pub(crate) struct Intake {
    commands: mpsc::UnboundedSender<Command>,
    last: AtomicU64,
}

impl Intake {
    /// An intake and the pass loop's end of it.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Self { commands, last: AtomicU64::new(0) }, receiver)
    }

    /// Hands the sequences of one request in.
    ///
    /// # Errors
    /// When the queue is full, or the gateway stops.
    pub(crate) async fn admit(&self, requests: Vec<SequenceRequest>) -> Result<Vec<SequenceHandle>, Refusal> {
        let mut handles = Vec::with_capacity(requests.len());
        let mut sequences = Vec::with_capacity(requests.len());
        for request in requests {
            let id = SequenceId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
            let (sender, events) = mpsc::unbounded_channel();
            let SequenceRequest {
                prompt,
                max_tokens,
                sampling,
                end_tokens,
                trace,
                prediction,
                key,
                matcher,
                scoring,
                pooling,
            } = request;
            let sequence = NewSequence {
                id,
                prompt,
                max_tokens,
                sampling,
                end_tokens,
                trace,
                prediction,
                key,
                matcher,
                scoring,
                pooling,
            };
            sequences.push((sequence, sender));
            handles.push(SequenceHandle { id, events, commands: self.commands.clone() });
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Admit { sequences, reply }).map_err(|_| Refusal::Stopping)?;
        match answer.await {
            Ok(Ok(())) => Ok(handles),
            Ok(Err(full)) => Err(Refusal::QueueFull(full)),
            Err(_) => Err(Refusal::Stopping),
        }
    }
}

/// A sequence under way. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct SequenceHandle {
    id: SequenceId,
    events: mpsc::UnboundedReceiver<SequenceEvent>,
    commands: mpsc::UnboundedSender<Command>,
}

impl SequenceHandle {
    /// What happens next.
    pub(crate) async fn next(&mut self) -> SequenceEvent {
        self.events.recv().await.unwrap_or(SequenceEvent::Failed(StreamFault::Stopping))
    }
}

impl Drop for SequenceHandle {
    fn drop(&mut self) {
        // Without a pass loop there is nothing left to cancel; a finished sequence is not known any more.
        let _ = self.commands.send(Command::Cancel(self.id));
    }
}
