//! Names of KV pages, by which they are found again: whoever has the same beginning of the same sequence makes the same name.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::in_force::TokenBasis;

/// Names a full KV page by all that its bytes depend on: what tokens depend on, whose it is, and every token up to its end. A chain of
/// SHA-256: nobody finds two beginnings of one name, so a page that is found by its name is the page that would be computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageName([u8; Self::BYTES]);

/// Not a name of a page.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a name of a KV page: 32 bytes, or 64 hexadecimal digits")]
pub struct PageNameError;

impl PageName {
    /// Bytes of a name.
    pub const BYTES: usize = 32;

    /// What stands before the first page of `owner`'s sequences; without an owner, of everybody's.
    ///
    /// # Errors
    /// When the basis has no JSON form.
    pub fn root(basis: &TokenBasis, owner: Option<&str>) -> Result<Self, serde_json::Error> {
        let mut hash = Sha256::new_with_prefix(b"lime kv pages 1\0");
        let basis = serde_json::to_vec(basis)?;
        hash.update((basis.len() as u64).to_le_bytes());
        hash.update(basis);
        if let Some(owner) = owner {
            hash.update(owner);
        }
        Ok(Self(hash.finalize().into()))
    }

    /// The page of `tokens` that follows this one.
    #[must_use]
    pub fn followed_by(&self, tokens: &[u32]) -> Self {
        let mut hash = Sha256::new_with_prefix(self.0);
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        Self(hash.finalize().into())
    }

    /// As it goes over the wire.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PageName {
    type Error = PageNameError;

    fn try_from(bytes: &[u8]) -> Result<Self, PageNameError> {
        bytes.try_into().map(Self).map_err(|_| PageNameError)
    }
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As much as tells pages apart.
        f.write_str("PageName(")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl FromStr for PageName {
    type Err = PageNameError;

    /// Exactly what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, PageNameError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut name = [0; Self::BYTES];
        if text.len() != 2 * Self::BYTES {
            return Err(PageNameError);
        }
        for (byte, pair) in name.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = (digit(pair[0]).ok_or(PageNameError)?, digit(pair[1]).ok_or(PageNameError)?);
            *byte = high << 4 | low;
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Arithmetic, Bytes, Dtype, Plan, ServingLimits,
        testing::{self, DeviceBudget, PlanRequest, proportional},
    };

    fn plan(devices: usize, kv: Dtype) -> Plan {
        let device = |index| DeviceBudget { name: format!("device-{index}"), memory: Bytes::gib(64) };
        proportional(&PlanRequest {
            model: &testing::small_card(&mut testing::Random::new(1), 4),
            devices: &(0..devices).map(device).collect::<Vec<_>>(),
            serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 2, prefill_chunk_tokens: 16 },
            segments: 1,
            arithmetic: Arithmetic::Exact,
            residual: Dtype::F32,
            kv,
        })
        .unwrap()
    }

    #[test]
    fn a_name_is_of_all_that_the_bytes_depend_on_and_of_nothing_else() {
        let root = |plan: &Plan, owner| PageName::root(&TokenBasis::of(plan), owner).unwrap();
        let (one, two) = (plan(1, Dtype::F16), plan(2, Dtype::F16));
        assert_eq!(root(&one, None), root(&two, None), "the plan is no part of it");
        let others = [root(&one, Some("a")), root(&one, Some("b")), root(&plan(1, Dtype::F32), None)];
        assert!(others.iter().all(|other| *other != root(&one, None)) && others[0] != others[1]);
        let page = root(&one, None).followed_by(&[1, 2]).followed_by(&[3, 4]);
        for other in [
            root(&one, None).followed_by(&[1, 2, 3, 4]),
            root(&one, None).followed_by(&[1, 2]).followed_by(&[4, 3]),
            root(&one, None).followed_by(&[1, 9]).followed_by(&[3, 4]),
        ] {
            assert_ne!(page, other);
        }
    }

    #[test]
    fn a_name_comes_back_from_bytes_and_text_and_nothing_else_is_one() {
        let name = PageName([7; 32]).followed_by(&[1]);
        assert_eq!(PageName::try_from(name.as_bytes().as_slice()), Ok(name));
        assert_eq!(name.to_string().parse(), Ok(name));
        let text = name.to_string();
        for wrong in ["", "07", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<PageName>(), Err(PageNameError), "{wrong}");
        }
        assert_eq!(PageName::try_from([1_u8; 31].as_slice()), Err(PageNameError));
    }
}
