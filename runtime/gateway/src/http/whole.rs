//! An answer in one piece.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    error::ApiError,
    job::Job,
    shape::{Shape, usage},
};
use crate::{
    answer::{Ended, Piece, TokenReport},
    schedule::Guessed,
    text::TextModel,
};

#[derive(Clone, Default)]
struct Choice {
    text: String,
    reports: Vec<TokenReport>,
    tokens: Vec<u32>,
    reason: &'static str,
}

/// Waits for every choice. Dropping the future cancels what is under way.
pub(super) async fn respond(
    job: &Job,
    shape: &Shape,
    text: &Arc<TextModel>,
    mut pieces: mpsc::Receiver<Piece>,
) -> Response {
    let begun = |choice| Choice { text: job.prompt_of(choice).echo.clone(), reason: "length", ..Choice::default() };
    let mut choices: Vec<Choice> = (0..job.choices()).map(begun).collect();
    let (mut drawn, mut guessed) = (0, Guessed::default());
    while let Some(piece) = pieces.recv().await {
        let choice = &mut choices[piece.choice];
        choice.text.push_str(&piece.text);
        choice.reports.extend(piece.reports);
        choice.tokens.extend(piece.tokens);
        match piece.end {
            None => {}
            Some(Ended::Finished(reason, tokens, of_choice)) => {
                choice.reason = reason;
                drawn += tokens;
                guessed += of_choice;
            }
            Some(Ended::Failed(fault)) => return ApiError::of_stream(&fault).into_response(),
        }
    }
    let finished = choices.into_iter().enumerate();
    let values = finished.map(|(index, choice)| {
        let start = job.prompt_of(index).echo.chars().count();
        let wanted = job.logprobs.map(|_| shape.logprobs(text, &choice.reports, start));
        shape.choice(index, choice.text, choice.reason, wanted.unwrap_or(Value::Null), choice.tokens)
    });
    Json(shape.whole(values.collect(), usage(job.prompt_tokens(), drawn, guessed))).into_response()
}
