//! How often guesses hold, by how long the text before them had been seen. Every guess is noted that a drawn token proves right or wrong,
//! whether its row was sent or not: a request that has given guessing up finds out for nothing that it would pay again.

/// A number of tokens that a class of matches reaches up to, and how many of its guesses hold where nothing is known yet.
const CLASSES: [(u32, f64); 6] = [(1, 0.1), (2, 0.3), (4, 0.5), (8, 0.7), (16, 0.8), (u32::MAX, 0.9)];
/// As much as so many guesses counts what is held true at first.
const BELIEF: f64 = 2.0;
/// What each guess leaves of the weight of those before it: some twenty count.
const MEMORY: f64 = 0.95;

/// The guesses of one request so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acceptance {
    held: [f64; CLASSES.len()],
    tried: [f64; CLASSES.len()],
}

impl Acceptance {
    /// A guess after a match of `length` tokens was right, or not.
    pub(crate) fn note(&mut self, length: u32, right: bool) {
        let class = class(length);
        self.held[class] = self.held[class] * MEMORY + f64::from(u8::from(right));
        self.tried[class] = self.tried[class] * MEMORY + 1.0;
    }

    /// The chance that the guess after a match of `length` tokens is right.
    pub(crate) fn chance(&self, length: u32) -> f64 {
        if length == 0 {
            return 0.0;
        }
        let class = class(length);
        (self.held[class] + BELIEF * CLASSES[class].1) / (self.tried[class] + BELIEF)
    }
}

fn class(length: u32) -> usize {
    CLASSES.iter().position(|(most, _)| length <= *most).unwrap_or(CLASSES.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_takes_the_place_of_what_was_believed() {
        let mut acceptance = Acceptance::default();
        assert_eq!((acceptance.chance(0), acceptance.chance(3)), (0.0, 0.5));
        assert!(acceptance.chance(20) > acceptance.chance(5), "longer matches are surer");
        (0..40).for_each(|_| acceptance.note(3, false));
        assert!(acceptance.chance(3) < 0.1 && acceptance.chance(20) == 0.9, "each class has its own");
        (0..40).for_each(|_| acceptance.note(4, true));
        assert!(acceptance.chance(3) > 0.8, "and what is past is forgotten");
    }
}
