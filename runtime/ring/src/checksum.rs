//! Checksums of what goes over the ring's links: TCP's own sums miss some of the bits that bad hardware and proxies flip, and
//! plain text has no other guard. A message that does not arrive as it was sent is a broken link and never computed with.

use std::mem::take;

use bytes::Bytes;
use prost::Message;
use twox_hash::XxHash3_64;

use crate::proto::{ConfigureRequest, Frame, KeepAnswer, KeepOrder, Pass, PassResult, keep_order::Order};

/// What is said of a message whose checksum does not fit.
pub const NOT_AS_SENT: &str = "what it sent did not arrive as it was sent: its checksum does not fit";

/// A message that carries a checksum of all its other fields.
pub trait Checksummed: Message + Sized {
    /// Where the checksum is, and the field that is long, if one is: it is hashed where it lies.
    #[doc(hidden)]
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>);

    /// The message with its checksum, ready to be sent.
    #[must_use]
    fn sealed(mut self) -> Self {
        *self.parts().0 = digest(&mut self);
        self
    }

    /// The message, if it has arrived as it was sent.
    fn unsealed(mut self) -> Option<Self> {
        let noted = *self.parts().0;
        (noted == digest(&mut self)).then_some(self)
    }
}

fn digest<M: Checksummed>(message: &mut M) -> u64 {
    let (noted, long) = message.parts();
    let noted = take(noted);
    let long = long.map(take).unwrap_or_default();
    let rest = message.encode_to_vec();
    let digest = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&rest), &long);
    let (sum, place) = message.parts();
    *sum = noted;
    if let Some(place) = place {
        *place = long;
    }
    digest
}

impl Checksummed for Frame {
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>) {
        (&mut self.checksum, Some(&mut self.activations))
    }
}

impl Checksummed for Pass {
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>) {
        (&mut self.checksum, None)
    }
}

impl Checksummed for PassResult {
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>) {
        (&mut self.checksum, None)
    }
}

impl Checksummed for KeepOrder {
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>) {
        let long = match &mut self.order {
            Some(Order::Store(page)) => Some(&mut page.entries),
            Some(Order::Ask(question)) => Some(&mut question.queries),
            Some(Order::Probe(probe)) => Some(&mut probe.payload),
            Some(Order::TakeBack(_) | Order::Release(_)) | None => None,
        };
        (&mut self.checksum, long)
    }
}

impl Checksummed for KeepAnswer {
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>) {
        (&mut self.checksum, Some(&mut self.payload))
    }
}

impl Checksummed for ConfigureRequest {
    fn parts(&mut self) -> (&mut u64, Option<&mut Bytes>) {
        (&mut self.checksum, Some(&mut self.plan_json))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;
    use crate::proto::{KeepPage, Rows, Sampling, Token};

    fn rows() -> Vec<Rows> {
        let sample = Sampling { temperature: 0.7, seed: 11, draw: 3, ..Sampling::default() };
        vec![
            Rows { start: 4, count: 1, sample: Some(sample), trace: vec![7; 24], ..Rows::default() },
            Rows { slot: 2, count: 2, ..Rows::default() },
        ]
    }

    fn frame() -> Frame {
        let activations = Bytes::from((0..400).map(|byte| byte as u8).collect::<Vec<u8>>());
        Frame { epoch: 5, pass: 9, rows: rows(), activation_type: 3, columns: 33, activations, ..Frame::default() }
    }

    fn whole<M: Checksummed + Clone + PartialEq + Debug + Default>(message: M) {
        let sealed = message.sealed();
        assert_eq!(sealed.clone().unsealed(), Some(sealed.clone()));
        let sent = M::decode(sealed.encode_to_vec().as_slice()).unwrap();
        assert_eq!(sent.unsealed(), Some(sealed));
        assert_ne!(M::default().sealed(), M::default(), "no checksum at all is none that fits");
    }

    #[test]
    fn what_arrives_as_it_was_sent_is_taken() {
        whole(frame());
        whole(Pass { epoch: 1, pass: 2, rows: rows(), tokens: vec![1, 2, 3], ..Pass::default() });
        let token = Token { slot: 1, token: 7, logprob: f32::NAN, ..Token::default() };
        let result = PassResult { pass: 3, tokens: vec![token], ..PassResult::default() };
        let sent = PassResult::decode(result.sealed().encode_to_vec().as_slice()).unwrap();
        assert!(sent.unsealed().is_some(), "whatever the floats are");
        let page = KeepPage { slot: 1, page: 2, entries: Bytes::from_static(&[7; 100]) };
        whole(KeepOrder { epoch: 1, order: Some(Order::Store(page)), ..KeepOrder::default() });
        whole(KeepAnswer { epoch: 1, payload: Bytes::from_static(&[7; 100]), ..KeepAnswer::default() });
        whole(ConfigureRequest { epoch: 1, plan_json: Bytes::from_static(b"{}"), ..ConfigureRequest::default() });
    }

    proptest! {
        /// Whichever bit flips on the way: it is not the message that was sent, or the same message.
        #[test]
        fn a_flipped_bit_is_noticed(place in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let sealed = frame().sealed();
            let mut wire = sealed.encode_to_vec();
            let at = place.index(wire.len());
            wire[at] ^= 1 << bit;
            if let Some(taken) = Frame::decode(wire.as_slice()).ok().and_then(Checksummed::unsealed) {
                prop_assert_eq!(taken, sealed);
            }
        }
    }
}
