//! A set of a model's tokens: those that a draw may take.

/// Tokens of a model, as a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    /// 32 tokens each; bits of none beyond the vocabulary are set.
    words: Vec<u32>,
    vocabulary: u32,
}

impl TokenSet {
    /// None of `vocabulary` tokens.
    pub fn none(vocabulary: u32) -> Self {
        Self { words: vec![0; vocabulary.div_ceil(u32::BITS) as usize], vocabulary }
    }

    /// All of `vocabulary` tokens.
    pub fn all(vocabulary: u32) -> Self {
        Self::of_words(vec![u32::MAX; vocabulary.div_ceil(u32::BITS) as usize], vocabulary)
    }

    /// The tokens whose bits are set, token `t` at bit `t % 32` of word `t / 32`. Words that are missing have none, and what is beyond
    /// the vocabulary is left out.
    pub fn of_words(mut words: Vec<u32>, vocabulary: u32) -> Self {
        words.resize(vocabulary.div_ceil(u32::BITS) as usize, 0);
        let beyond = vocabulary % u32::BITS;
        if let Some(last) = words.last_mut().filter(|_| beyond > 0) {
            *last &= (1 << beyond) - 1;
        }
        Self { words, vocabulary }
    }

    /// Tokens of the model.
    pub const fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// The set, 32 tokens a word: see [`TokenSet::of_words`].
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Adds a token, if the model has it.
    pub fn insert(&mut self, token: u32) {
        if token < self.vocabulary {
            self.words[(token / u32::BITS) as usize] |= 1 << (token % u32::BITS);
        }
    }

    /// Whether it has `token`.
    pub fn contains(&self, token: u32) -> bool {
        self.words.get((token / u32::BITS) as usize).is_some_and(|word| word >> (token % u32::BITS) & 1 == 1)
    }

    /// How many tokens it has.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Its tokens, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).step_by(u32::BITS as usize).zip(&self.words).flat_map(|(first, word)| {
            // The lowest bit goes each time.
            std::iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| first + rest.trailing_zeros())
        })
    }

    /// The tokens that it does not have.
    #[must_use]
    pub fn others(&self) -> Self {
        Self::of_words(self.words.iter().map(|word| !word).collect(), self.vocabulary)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(vocabulary in 1u32..200, tokens in proptest::collection::btree_set(0u32..250, 0..60)) {
            let mut set = TokenSet::none(vocabulary);
            tokens.iter().for_each(|token| set.insert(*token));
            let expected: BTreeSet<u32> = tokens.into_iter().filter(|token| *token < vocabulary).collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), expected.clone());
            prop_assert_eq!(set.len() as usize, expected.len());
            prop_assert_eq!(set.is_empty(), expected.is_empty());
            prop_assert!((0..250).all(|token| set.contains(token) == expected.contains(&token)));
            prop_assert_eq!(set.others().others(), set.clone());
            prop_assert_eq!(set.others().len() + set.len(), vocabulary);
            prop_assert_eq!(TokenSet::of_words(set.words().to_vec(), vocabulary), set);
            prop_assert_eq!(TokenSet::none(vocabulary).others(), TokenSet::all(vocabulary));
        }
    }
}
