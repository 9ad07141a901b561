//! What comes back: tokens, refusals, failures.

use lime_ring::proto::{FailureKind, PassResult, Token};

use super::{Carried, Completed, Drawn, Flight, Guessed, OutOfTurn, Scheduler};

impl Scheduler {
    /// Takes the result of the oldest pass on its way; `drawn` hears of each token.
    ///
    /// # Errors
    /// A result that does not fit: the ring must begin anew.
    pub fn complete(&mut self, result: PassResult, mut drawn: impl FnMut(Drawn)) -> Result<Completed, OutOfTurn> {
        let next = self.flights.front().ok_or_else(|| OutOfTurn("no pass was on its way".into()))?.pass;
        if result.pass != next {
            return Err(OutOfTurn(format!("pass {} where {next} was next", result.pass)));
        }
        self.prefixes.forgotten(&result.forgotten, self.active.iter_mut().map(|sequence| &mut sequence.place));
        if !result.failure.is_empty() {
            return Ok(self.failed(result));
        }
        let flight = self.flights.pop_front().ok_or_else(|| OutOfTurn("no pass was on its way".into()))?;
        self.prefixes.arrived(&flight.restore);
        let mut tokens = result.tokens.into_iter().peekable();
        let mut scores = result.scores.into_iter();
        let mut pooled = result.pooled.into_iter();
        for Carried { slot, start, end, draws, guesses, scored, pools, .. } in flight.rows {
            let sequence = self.active.iter_mut().find(|sequence| sequence.slot == slot);
            let sequence = sequence.ok_or_else(|| OutOfTurn(format!("slot {slot} is free")))?;
            let stale = sequence.settling;
            sequence.land();
            let own: Vec<Token> = scores.by_ref().take(scored as usize).collect();
            if own.len() != scored as usize || own.iter().any(|score| score.slot != slot) {
                return Err(OutOfTurn(format!(
                    "scores of {} tokens of slot {slot}, which asked for {scored}",
                    own.len()
                )));
            }
            let sums = if pools { pooled.next() } else { None };
            if pools && sums.as_ref().is_none_or(|sums| sums.slot != slot || sums.sums.len() % 8 != 0) {
                return Err(OutOfTurn(format!("no sum of states for slot {slot}")));
            }
            if !stale {
                sequence.scored(start, own);
                sequence.pooled(sums.as_ref());
            }
            if !draws {
                if !stale {
                    sequence.landed(end, &mut self.prefixes);
                }
                continue;
            }
            let mut brought = Vec::with_capacity(1);
            loop {
                let token = tokens.next().ok_or_else(|| OutOfTurn(format!("no token for slot {slot}")))?;
                if token.slot != slot || token.token >= self.limits.vocabulary {
                    let found = format!("token {} of slot {} for slot {slot}", token.token, token.slot);
                    return Err(OutOfTurn(found));
                }
                let place = brought.len();
                let held = guesses.get(place) == Some(&token.token);
                brought.push(token.token);
                let goes_on = held && tokens.peek().is_some_and(|next| next.slot == slot);
                // What comes after the end, or of no use, is not heard.
                if !sequence.cancelled && !stale {
                    let finish = sequence.push(token.token);
                    let misfit = sequence.take_misfit();
                    let left = if goes_on && finish.is_none() { 0 } else { guesses.len() };
                    let wrong = left.saturating_sub(place + usize::from(held)) as u64;
                    // A finished sequence leaves as a cancelled one does.
                    sequence.cancelled = finish.is_some() || misfit.is_some();
                    if let Some(misfit) = misfit.filter(|_| finish.is_none()) {
                        self.misfits.push((sequence.id, misfit));
                    }
                    let guessed = Guessed { held: held.into(), wrong };
                    let (cached, scores, pooled) = (sequence.cached(), sequence.take_scores(), sequence.take_pooled());
                    drawn(Drawn { id: sequence.id, token, finish, guessed, cached, scores, pooled });
                }
                if !goes_on {
                    break;
                }
            }
            if !stale {
                sequence.drew(&brought);
                sequence.landed(end, &mut self.prefixes);
            }
        }
        if scores.next().is_some() || pooled.next().is_some() {
            return Err(OutOfTurn("scores or sums that nobody asked for".into()));
        }
        if let Some(token) = tokens.next() {
            return Err(OutOfTurn(format!("a token of slot {} that nobody draws", token.slot)));
        }
        self.drop_cancelled();
        Ok(Completed::Taken)
    }

    /// The oldest pass on its way has failed. Where a sequence in it is to blame, or one that had such a mate before, or a device did not keep
    /// what one was to begin behind, the ring goes on: every sequence of the pass begins anew when its other passes are back, for devices
    /// differ in what they hold of it.
    fn failed(&mut self, result: PassResult) -> Completed {
        let kind = result.failure_kind();
        let Some(flight) = self.flights.front() else { return Completed::Failed(kind, result.failure) };
        let blamed = result.refused_slot.filter(|slot| kind == FailureKind::Refused && flight.carries(*slot));
        let stale = self.active.iter().any(|sequence| sequence.settling && flight.carries(sequence.slot));
        let forgotten = kind == FailureKind::Forgotten && !flight.behind.is_empty();
        if blamed.is_none() && !stale && !forgotten {
            return Completed::Failed(kind, result.failure);
        }
        let Flight { rows: carried, behind, .. } = self.flights.pop_front().unwrap_or_default();
        if forgotten {
            self.prefixes.forgotten(&behind, self.active.iter_mut().map(|sequence| &mut sequence.place));
        }
        let mut refused = None;
        for Carried { slot, begins_behind, .. } in carried {
            let Some(sequence) = self.active.iter_mut().find(|sequence| sequence.slot == slot) else { continue };
            let was_stale = sequence.settling;
            sequence.land();
            if was_stale {
                continue;
            }
            sequence.settle(&mut self.prefixes);
            if forgotten && begins_behind {
                sequence.begin_plainly();
            }
            if blamed == Some(slot) && !sequence.cancelled {
                sequence.cancelled = true;
                refused = Some(sequence.id);
            }
        }
        self.drop_cancelled();
        refused.map_or(Completed::Taken, |id| Completed::Refused(id, result.failure))
    }
}
