//! From the tokens of one sequence to the pieces of one choice: text, stop strings, calls of tools, log-probabilities, the end.

use std::{collections::VecDeque, sync::Arc};

use lime_text::{AnswerParser, AnswerPart, AnswerReading};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    intake::{SequenceEvent, SequenceHandle, StreamFault},
    metrics::Metrics,
    schedule::{Finish, Guessed},
    stop::StopMatcher,
    text::TextModel,
    trace::AnswerTrace,
};

/// A token with what is known of its probability.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenReport {
    pub(crate) token: u32,
    /// `None`: nothing stands before it.
    pub(crate) logprob: Option<f32>,
    /// Alternatives, the likeliest first.
    pub(crate) top: Vec<(u32, f32)>,
    /// Characters before this token, of what is echoed and of the answer.
    pub(crate) offset: usize,
}

/// The end of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The answer is whole.
    Finished(Finished),
    /// No answer, or not all of it.
    Failed(StreamFault),
}

/// How an answer came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) reason: Reason,
    /// The stop string that ended it.
    pub(crate) stop: Option<String>,
    /// Tokens drawn.
    pub(crate) drawn: u64,
    /// What became of guesses.
    pub(crate) guessed: Guessed,
    /// Tokens of the prompt that were not computed for it.
    pub(crate) cached: u64,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model ended it, or a stop string did.
    Stop,
    /// It has as many tokens as it may have.
    #[default]
    Length,
    /// It calls tools, and waits for what they say.
    Calls,
}

impl Reason {
    /// As the OpenAI API has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Calls => "tool_calls",
        }
    }
}

/// The form of one request's answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerForm {
    pub(crate) reading: AnswerReading,
    /// Special tokens that are marks of this form.
    marks: Arc<[u32]>,
    /// Whether the answer ends with its first call.
    single: bool,
}

impl AnswerForm {
    pub(crate) fn new(model: &TextModel, reading: AnswerReading, single: bool) -> Self {
        let marks = model.answers.marks(reading.calls.is_some()).filter_map(|mark| model.tokenizer.token_id(mark));
        let marks = marks.filter(|mark| model.tokenizer.is_special(*mark)).collect();
        Self { reading, marks, single }
    }
}

/// What a choice gained.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    /// Which choice.
    pub(crate) choice: usize,
    pub(crate) parts: Vec<AnswerPart>,
    pub(crate) reports: Vec<TokenReport>,
    /// The tokens drawn since the last piece.
    pub(crate) tokens: Vec<u32>,
    pub(crate) end: Option<Ended>,
}

/// How a choice is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) choice: usize,
    pub(crate) stops: Vec<String>,
    pub(crate) logprobs: bool,
    /// The prompt's last token: some tokenizers write the first token of a text differently.
    pub(crate) before: Option<u32>,
    /// Tokens before which no stop string ends the answer.
    pub(crate) min_tokens: u64,
    /// Whether special tokens are left out of the text.
    pub(crate) skip_special: bool,
    /// What else its text may say.
    pub(crate) answer: Arc<AnswerForm>,
    /// Characters that stand before it.
    pub(crate) echoed: usize,
    /// Tokens that are told of before it.
    pub(crate) told: Arc<[u32]>,
    /// Whether nothing is to be drawn: the one token that comes is none of the answer.
    pub(crate) empty: bool,
}

/// Reads a sequence to its end. Ends early, and cancels the sequence, when nobody listens.
pub(crate) async fn read(
    text: Arc<TextModel>,
    mut sequence: SequenceHandle,
    reading: Reading,
    pieces: mpsc::Sender<Piece>,
    metrics: Arc<Metrics>,
    mut trace: Option<AnswerTrace>,
) {
    let admitted = Instant::now();
    let mut first = None;
    let mut reader = Reader::new(&text, reading);
    loop {
        let event = tokio::select! {
            event = sequence.next() => event,
            () = pieces.closed() => break,
        };
        let piece = match event {
            SequenceEvent::Drawn { token, finish, guessed, cached, scores, pooled: _ } => {
                reader.report_prompt(&text, &scores);
                reader.guessed += guessed;
                reader.cached = cached.into();
                if first.is_none() {
                    metrics.first_token(admitted.elapsed());
                    first = Some(Instant::now());
                    if let Some(trace) = &mut trace {
                        trace.first_token();
                    }
                }
                reader.push(token, finish)
            }
            SequenceEvent::Failed(fault) => Some(reader.fail(fault)),
        };
        let Some(piece) = piece else { continue };
        let over = piece.end.is_some();
        if pieces.send(piece).await.is_err() || over {
            break;
        }
    }
    metrics.answered(reader.drawn, first.map_or_else(Default::default, |first| first.elapsed()));
    if let Some(trace) = trace {
        trace.end(reader.drawn);
    }
}

struct Reader<'a> {
    choice: usize,
    decode: lime_text::DecodeStream<'a>,
    stops: StopMatcher,
    parser: AnswerParser,
    single: bool,
    called: bool,
    min_tokens: u64,
    wants_reports: bool,
    told: Arc<[u32]>,
    empty: bool,
    /// Reports whose token is not shown yet.
    reports: VecDeque<TokenReport>,
    tokens: Vec<u32>,
    /// Characters decoded and characters shown.
    decoded: usize,
    shown: usize,
    drawn: u64,
    guessed: Guessed,
    cached: u64,
}

impl<'a> Reader<'a> {
    fn new(text: &'a TextModel, reading: Reading) -> Self {
        let mut decode = text.tokenizer.decode_stream(reading.skip_special).showing(reading.answer.marks.clone());
        if let Some(before) = reading.before {
            decode.push(before);
            decode.finish();
        }
        Self {
            choice: reading.choice,
            decode,
            stops: StopMatcher::new(reading.stops),
            parser: AnswerParser::new(&reading.answer.reading),
            single: reading.answer.single,
            called: false,
            min_tokens: reading.min_tokens,
            wants_reports: reading.logprobs,
            told: reading.told,
            empty: reading.empty,
            reports: VecDeque::new(),
            tokens: Vec::new(),
            decoded: reading.echoed,
            shown: reading.echoed,
            drawn: 0,
            guessed: Guessed::default(),
            cached: 0,
        }
    }

    fn push(&mut self, token: lime_ring::proto::Token, finish: Option<Finish>) -> Option<Piece> {
        if self.empty {
            let finished = Finished { reason: Reason::Length, stop: None, drawn: 0, guessed: self.guessed, cached: 0 };
            let (reports, end) = (self.take_reports(true), Some(Ended::Finished(finished)));
            return Some(Piece { choice: self.choice, reports, end, ..Piece::default() });
        }
        self.drawn += 1;
        self.tokens.push(token.token);
        let mut shown = String::new();
        let mut reason = finish.map(|finish| match finish {
            Finish::Stop | Finish::Whole => Reason::Stop,
            Finish::Length => Reason::Length,
        });
        let mut stopped = None;
        if finish != Some(Finish::Stop) {
            let id = token.token;
            self.report(token);
            let text = self.decode.push(id);
            stopped = self.show(text, &mut shown);
        }
        if stopped.is_none() && finish.is_some() {
            let rest = self.decode.finish();
            stopped = self.show(rest, &mut shown);
            if stopped.is_none() {
                shown.push_str(&self.stops.finish());
            }
        }
        if stopped.is_some() {
            reason = Some(Reason::Stop);
        }
        self.shown += shown.chars().count();
        let all = reason.is_some() && stopped.is_none();
        let reports = self.take_reports(all);
        let parts = self.parts(&shown, &mut reason);
        if parts.is_empty() && reports.is_empty() && reason.is_none() {
            return None;
        }
        let (drawn, guessed, cached) = (self.drawn, self.guessed, self.cached);
        let end = reason.map(|reason| Ended::Finished(Finished { reason, stop: stopped, drawn, guessed, cached }));
        Some(Piece { choice: self.choice, parts, reports, tokens: std::mem::take(&mut self.tokens), end })
    }

    /// What a text says; with a call, the answer may be over.
    fn parts(&mut self, text: &str, reason: &mut Option<Reason>) -> Vec<AnswerPart> {
        let mut parts = self.parser.push(text);
        if reason.is_some() {
            parts.extend(self.parser.finish());
        }
        let call = parts.iter().position(|part| matches!(part, AnswerPart::Call(_)));
        self.called |= call.is_some();
        if let Some(call) = call.filter(|_| self.single) {
            parts.truncate(call + 1);
            *reason = Some(Reason::Calls);
        }
        if self.called && *reason == Some(Reason::Stop) {
            *reason = Some(Reason::Calls);
        }
        parts
    }

    fn fail(&mut self, fault: StreamFault) -> Piece {
        Piece { choice: self.choice, end: Some(Ended::Failed(fault)), ..Piece::default() }
    }

    /// Adds what may be shown; gives the stop string that was found.
    fn show(&mut self, text: String, shown: &mut String) -> Option<String> {
        self.decoded += text.chars().count();
        if self.drawn <= self.min_tokens {
            shown.push_str(&text);
            return None;
        }
        let now = self.stops.push(text);
        shown.push_str(&now.text);
        now.stopped
    }

    fn report(&mut self, token: lime_ring::proto::Token) {
        if self.wants_reports {
            let top = token.top.iter().map(|top| (top.token, top.logprob)).collect();
            let report = TokenReport { token: token.token, logprob: Some(token.logprob), top, offset: self.decoded };
            self.reports.push_back(report);
        }
    }

    /// How likely the tokens of the prompt were, which are shown before the answer: of the first nobody can say.
    fn report_prompt(&mut self, text: &TextModel, scores: &[lime_ring::proto::Token]) {
        if scores.is_empty() && self.told.len() != 1 {
            return;
        }
        let told = std::mem::take(&mut self.told);
        let mut decode = text.tokenizer.decode_stream(true);
        let mut offset = 0;
        for (place, token) in told.iter().enumerate() {
            let score = place.checked_sub(1).and_then(|place| scores.get(place));
            let top = score.map(|score| score.top.iter().map(|top| (top.token, top.logprob)).collect());
            let (logprob, top) = (score.map(|score| score.logprob), top.unwrap_or_default());
            self.reports.push_back(TokenReport { token: *token, logprob, top, offset: offset.min(self.decoded) });
            offset += decode.push(*token).chars().count();
        }
    }

    /// Reports of the tokens that are shown, at least in part; a token inside a stop string is none of them.
    fn take_reports(&mut self, all: bool) -> Vec<TokenReport> {
        let shown = self.shown;
        let count = self.reports.iter().take_while(|report| all || report.offset < shown).count();
        self.reports.drain(..count).collect()
    }
}
