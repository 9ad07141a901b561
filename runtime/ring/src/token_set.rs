//! Sets of tokens on the wire: few tokens, or all but few, as a list; others as bits. Whichever is shorter.

use bytes::Bytes;
use lime_plan::TokenSet;

use crate::proto;

impl From<&TokenSet> for proto::TokenSet {
    fn from(set: &TokenSet) -> Self {
        let others = set.len() > set.vocabulary() / 2;
        let listed = if others { set.others() } else { set.clone() };
        let bytes = set.vocabulary().div_ceil(u8::BITS) as usize;
        // A gap takes a byte at least: a longer list need not be made.
        if listed.len() as usize <= bytes {
            let gaps: Vec<u32> = gaps(&listed).collect();
            if gaps.iter().map(|gap| varint_bytes(*gap)).sum::<usize>() < bytes {
                return Self { others, gaps, bits: Bytes::new() };
            }
        }
        let mut bits: Vec<u8> = set.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        bits.truncate(bytes);
        Self { others: false, gaps: Vec::new(), bits: bits.into() }
    }
}

impl proto::TokenSet {
    /// The set, of a model of `vocabulary` tokens.
    ///
    /// # Errors
    /// What is wrong with it. One without a token is wrong too: nothing can be drawn from it.
    pub fn read(&self, vocabulary: u32) -> Result<TokenSet, &'static str> {
        let set = if self.bits.is_empty() { self.listed(vocabulary)? } else { self.of_bits(vocabulary)? };
        if set.is_empty() { Err("of the tokens that may be drawn there are none") } else { Ok(set) }
    }

    fn listed(&self, vocabulary: u32) -> Result<TokenSet, &'static str> {
        let mut listed = TokenSet::none(vocabulary);
        let mut next = 0u32;
        for gap in &self.gaps {
            let token = next.checked_add(*gap).filter(|token| *token < vocabulary);
            let token = token.ok_or("one of the tokens that may be drawn is none of the model's")?;
            listed.insert(token);
            next = token + 1;
        }
        Ok(if self.others { listed.others() } else { listed })
    }

    fn of_bits(&self, vocabulary: u32) -> Result<TokenSet, &'static str> {
        if self.others || !self.gaps.is_empty() {
            return Err("the tokens that may be drawn come in two forms");
        }
        if self.bits.len() != vocabulary.div_ceil(u8::BITS) as usize {
            return Err("the tokens that may be drawn are of another vocabulary");
        }
        let word = |bytes: &[u8]| {
            bytes.iter().enumerate().fold(0, |word, (place, byte)| word | u32::from(*byte) << (place as u32 * u8::BITS))
        };
        Ok(TokenSet::of_words(self.bits.chunks(4).map(word).collect(), vocabulary))
    }
}

/// How many tokens lie before each of a set's tokens, behind the one before.
fn gaps(set: &TokenSet) -> impl Iterator<Item = u32> {
    set.iter().scan(0, |next, token| {
        let gap = token - *next;
        *next = token + 1;
        Some(gap)
    })
}

/// Bytes of a number on the wire, seven bits each.
const fn varint_bytes(number: u32) -> usize {
    (number | 1).ilog2() as usize / 7 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn arrives(set: &TokenSet) {
        let bytes = proto::TokenSet::from(set).encode_to_vec();
        let most = set.vocabulary().div_ceil(8) as usize + 8;
        assert!(bytes.len() <= most, "{} bytes of {} tokens", bytes.len(), set.vocabulary());
        assert_eq!(proto::TokenSet::decode(bytes.as_slice()).unwrap().read(set.vocabulary()).as_ref(), Ok(set));
    }

    proptest! {
        #[test]
        fn sets_arrive_as_they_were_sent(words in proptest::collection::vec(any::<u32>(), 1..20), beyond in 0u32..32) {
            let vocabulary = words.len() as u32 * 32 - beyond;
            let mut set = TokenSet::of_words(words.clone(), vocabulary);
            set.insert(0);
            arrives(&set);
            let few = words.iter().map(|word| word & word.rotate_left(7) & word.rotate_left(13) & word.rotate_left(3));
            let mut few = TokenSet::of_words(few.collect(), vocabulary);
            few.insert(vocabulary - 1);
            arrives(&few);
            arrives(&TokenSet::all(vocabulary));
        }

        #[test]
        fn foreign_sets_are_read_or_refused(
            others in any::<bool>(),
            gaps in proptest::collection::vec(0u32..9, 0..20),
            bits in proptest::collection::vec(any::<u8>(), 0..9),
            vocabulary in 1u32..70,
        ) {
            let set = proto::TokenSet { others, gaps, bits: bits.into() };
            if let Ok(set) = set.read(vocabulary) {
                prop_assert!(!set.is_empty() && set.iter().all(|token| token < vocabulary));
            }
        }
    }

    #[test]
    fn short_lists_stay_short() {
        let mut set = TokenSet::none(128_256);
        [5, 90, 91, 70_000].into_iter().for_each(|token| set.insert(token));
        let wire = proto::TokenSet::from(&set);
        assert_eq!((wire.others, wire.gaps.as_slice(), wire.bits.len()), (false, [5, 84, 0, 69_908].as_slice(), 0));
        let wire = proto::TokenSet::from(&set.others());
        assert_eq!((wire.others, wire.gaps.len(), wire.encoded_len() < 16), (true, 4, true));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for (set, what) in [
            (proto::TokenSet { gaps: vec![3, u32::MAX], ..Default::default() }, "none of the model's"),
            (proto::TokenSet { gaps: vec![8], ..Default::default() }, "none of the model's"),
            (proto::TokenSet { bits: vec![1, 1].into(), ..Default::default() }, "another vocabulary"),
            (proto::TokenSet { bits: vec![1].into(), others: true, ..Default::default() }, "two forms"),
            (proto::TokenSet { bits: vec![0].into(), ..Default::default() }, "there are none"),
            (proto::TokenSet::default(), "there are none"),
        ] {
            assert!(set.read(8).unwrap_err().contains(what), "{set:?}");
        }
    }
}
