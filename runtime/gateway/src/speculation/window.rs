//! How many guesses of each sequence go into a pass.

use std::{cmp::Ordering, collections::BinaryHeap};

/// So much more, at least, must guesses promise: what is measured is not exact, and a pass that gains nothing takes no risk.
const GAIN: f64 = 1.03;

/// What a sequence may guess: for each guess in order the chance that it holds where all before it do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guesses {
    /// The chances.
    pub(crate) chances: Vec<f64>,
}

#[derive(PartialEq)]
struct Next {
    /// The chance that this guess and all before it hold: the tokens that its row adds.
    gains: f64,
    sequence: usize,
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        // Among equals the sequence that is first.
        self.gains.total_cmp(&other.gains).then(other.sequence.cmp(&self.sequence))
    }
}

/// How many of each sequence's `guesses` go into a pass of `rows` rows without them, that draws `draws` tokens then: those with which most
/// tokens come in a second, by `cost` (seconds of a pass with so many rows). None where that is not clearly more than without; at most
/// `room` in all.
pub(crate) fn windows(
    cost: impl Fn(u32) -> Option<f64>,
    rows: u32,
    draws: u32,
    room: usize,
    guesses: &[Guesses],
) -> Vec<usize> {
    let mut best = vec![0; guesses.len()];
    let Some(alone) = cost(rows).filter(|alone| *alone > 0.0) else { return best };
    let next = |sequence: usize, taken: usize, before: f64| {
        let chance = guesses[sequence].chances.get(taken)?;
        Some(Next { gains: before * chance, sequence })
    };
    let mut open: BinaryHeap<Next> = (0..guesses.len()).filter_map(|sequence| next(sequence, 0, 1.0)).collect();
    let (mut taken, mut tokens, mut rate) = (best.clone(), f64::from(draws), f64::from(draws) / alone * GAIN);
    for more in 1..=room {
        let Some(Next { gains, sequence }) = open.pop() else { break };
        taken[sequence] += 1;
        tokens += gains;
        open.extend(next(sequence, taken[sequence], gains));
        let Some(seconds) = cost(rows + more as u32) else { break };
        // Costs rise in steps: what does not pay by one row may by four.
        if tokens / seconds > rate {
            rate = tokens / seconds;
            best.clone_from(&taken);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    type Cost = fn(u32) -> Option<f64>;
    /// A name, what rows cost, the rows, draws and room of a pass, how likely guesses are, and how many are made.
    type Case<'a> = (&'a str, Cost, u32, u32, usize, &'a [&'a [f64]], &'a [usize]);

    fn guesses(chances: &[&[f64]]) -> Vec<Guesses> {
        chances.iter().map(|chances| Guesses { chances: chances.to_vec() }).collect()
    }

    #[test]
    fn as_many_as_pay() {
        let free: Cost = |_| Some(1.0);
        let dear: Cost = |rows| Some(f64::from(rows));
        // A tenth of a pass for each further row.
        let tenth: Cost = |rows| Some(0.9 + 0.1 * f64::from(rows));
        // Four rows at a time.
        let stairs: Cost = |rows| Some(f64::from(rows.div_ceil(4)));
        let unknown: Cost = |_| None;
        let table: [Case<'_>; 16] = [
            ("nothing to guess", free, 1, 1, 8, &[&[]], &[0]),
            ("rows cost nothing", free, 1, 1, 8, &[&[0.5; 12]], &[8]),
            ("rows cost nothing, guesses run out", free, 1, 1, 8, &[&[0.5; 3]], &[3]),
            ("rows cost a pass", dear, 1, 1, 8, &[&[0.99; 8]], &[0]),
            ("sure, and a tenth a row", tenth, 1, 1, 8, &[&[1.0; 8]], &[8]),
            ("half sure", tenth, 1, 1, 8, &[&[0.5; 8]], &[2]),
            ("unlikely", tenth, 1, 1, 8, &[&[0.1; 8]], &[0]),
            ("hardly a gain", tenth, 1, 1, 8, &[&[0.12, 0.0]], &[0]),
            ("a step up and then for nothing", stairs, 4, 1, 8, &[&[0.9; 8]], &[4]),
            ("within the step", stairs, 1, 1, 8, &[&[0.9; 8]], &[3]),
            ("nothing is measured", unknown, 1, 1, 8, &[&[1.0; 8]], &[0]),
            ("no room", free, 1, 1, 0, &[&[1.0; 8]], &[0]),
            ("the surer one first", free, 2, 2, 3, &[&[0.3; 8], &[0.9; 8]], &[0, 3]),
            ("equals in turn of their chances", free, 2, 2, 4, &[&[0.5; 8], &[0.5; 8]], &[2, 2]),
            ("one that cannot be guessed beside one that can", tenth, 2, 2, 8, &[&[0.01; 8], &[0.9; 8]], &[0, 8]),
            ("mates pay for the rows as well", dear, 8, 8, 8, &[&[0.9; 8]], &[0]),
        ];
        for (name, cost, rows, draws, room, chances, expected) in table {
            assert_eq!(windows(cost, rows, draws, room, &guesses(chances)), expected, "{name}");
        }
    }

    #[test]
    fn never_slower_than_without_by_the_costs_that_are_known() {
        for seed in 0..500_u64 {
            let number = |salt: u64| {
                let bits = (seed * 1_000_003 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (bits >> 40) as f64 / f64::from(1 << 24)
            };
            let cost = |rows: u32| Some((0..u64::from(rows)).map(number).sum::<f64>() + 0.1);
            let chances: Vec<Guesses> = (0..3)
                .map(|sequence| Guesses { chances: (0..6).map(|at| number(1000 + sequence * 10 + at)).collect() })
                .collect();
            let taken = windows(cost, 3, 3, 9, &chances);
            let gains = |(sequence, taken): (&Guesses, &usize)| {
                sequence.chances[..*taken]
                    .iter()
                    .scan(1.0, |all, chance| {
                        *all *= chance;
                        Some(*all)
                    })
                    .sum::<f64>()
            };
            let tokens = 3.0 + chances.iter().zip(&taken).map(gains).sum::<f64>();
            let rows = 3 + taken.iter().sum::<usize>() as u32;
            assert!(rows <= 12);
            assert!(tokens / cost(rows).unwrap() >= 3.0 / cost(3).unwrap(), "{taken:?}");
        }
    }
}
