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
    said::Said,
    shape::{Shape, usage},
};
use crate::{answer::Piece, schedule::Guessed, text::TextModel};

/// Waits for every choice. Dropping the future cancels what is under way.
pub(super) async fn respond(
    job: &Job,
    shape: &Shape,
    text: &Arc<TextModel>,
    mut pieces: mpsc::Receiver<Piece>,
) -> Response {
    let begun = |choice| Said { content: job.prompt_of(choice).echo.clone(), ..Said::default() };
    let mut answers: Vec<Said> = (0..job.choices()).map(begun).collect();
    while let Some(piece) = pieces.recv().await {
        let choice = piece.choice;
        if let Err(fault) = answers[choice].push(piece) {
            return ApiError::of_stream(&fault).into_response();
        }
    }
    let (mut drawn, mut cached, mut guessed) = (0, 0, Guessed::default());
    for (place, answer) in answers.iter().enumerate() {
        drawn += answer.drawn;
        guessed += answer.guessed;
        // Of a prompt that is counted once, what was there for its first answer.
        cached += if job.is_first_of_prompt(place) { answer.cached } else { 0 };
    }
    let chosen: Vec<(usize, Said)> = best(answers, job.common.drawn, job.common.n);
    let values = chosen.into_iter().enumerate().map(|(index, (_, mut said))| {
        let wanted = job.logprobs.map(|_| shape.logprobs(text, &said.reports));
        let tokens = std::mem::take(&mut said.tokens);
        shape.choice(index, said, wanted.unwrap_or(Value::Null), tokens)
    });
    Json(shape.whole(values.collect(), usage(job.prompt_tokens(), cached, drawn, guessed))).into_response()
}

/// Of every `drawn` answers the `n` that are likeliest, with their places; of equals the first.
fn best(answers: Vec<Said>, drawn: usize, n: usize) -> Vec<(usize, Said)> {
    let mut answers: Vec<(usize, Said)> = answers.into_iter().enumerate().collect();
    if drawn > n {
        // Stable, so that equals stay in their order.
        answers.chunks_mut(drawn).for_each(|of_one| {
            of_one.sort_by(|(_, one), (_, other)| other.likelihood().total_cmp(&one.likelihood()));
        });
    }
    answers.into_iter().enumerate().filter(|(place, _)| place % drawn < n).map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::TokenReport;

    #[test]
    fn the_likeliest_of_each_prompt_are_given() {
        let said = |logprobs: &[f32]| {
            let report = |logprob: &f32| TokenReport { token: 0, logprob: Some(*logprob), top: Vec::new(), offset: 0 };
            Said { reports: logprobs.iter().map(report).collect(), ..Said::default() }
        };
        let answers =
            vec![said(&[-1.0, -3.0]), said(&[-1.5]), said(&[-9.0]), said(&[-1.0]), said(&[-1.0]), said(&[-0.5, -0.5])];
        let places = |n| best(answers.clone(), 3, n).into_iter().map(|(place, _)| place).collect::<Vec<_>>();
        assert_eq!((places(1), places(2), places(3)), (vec![1, 5], vec![1, 0, 5, 3], vec![0, 1, 2, 3, 4, 5]));
    }
}
