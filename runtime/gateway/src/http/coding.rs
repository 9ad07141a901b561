//! Bodies that come compressed. What they become is bounded as it is written: a short body may hold a long one.

use std::io::{self, Read};

use axum::http::{HeaderMap, header};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::{BodyBudget, budget::Gathered, error::ApiError};
use crate::retry_after;

/// Bytes that are unpacked between two looks at the limits.
const STEP: usize = 64 << 10;

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is.
    #[default]
    Plain,
    Gzip,
    Deflate,
}

impl Coding {
    /// What `Content-Encoding` says.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(named) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Plain) };
        let named = String::from_utf8_lossy(named.as_bytes()).trim().to_ascii_lowercase();
        match named.as_str() {
            "" | "identity" => Ok(Self::Plain),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            other => Err(ApiError::content_coding(other)),
        }
    }

    /// The body unpacked, within the budget of bodies; `check` hears how many bytes it has so far.
    pub(super) fn unpack(
        self,
        body: Gathered,
        bodies: &BodyBudget,
        check: impl Fn(u64) -> Result<(), ApiError>,
    ) -> Result<Gathered, ApiError> {
        let packed = body.bytes.as_slice();
        let mut source: Box<dyn Read + '_> = match self {
            Self::Plain => return Ok(body),
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            // By the standard with a zlib header; some send none.
            Self::Deflate if is_zlib(packed) => Box::new(ZlibDecoder::new(packed)),
            Self::Deflate => Box::new(DeflateDecoder::new(packed)),
        };
        let (mut share, mut bytes) = (bodies.open(), Vec::new());
        loop {
            let found = source.by_ref().take(STEP as u64).read_to_end(&mut bytes).map_err(|fault| damaged(&fault))?;
            if found == 0 {
                return Ok(Gathered { bytes, held: share.close() });
            }
            check(bytes.len() as u64)?;
            share.grow(found).map_err(|_| ApiError::crowded(retry_after::a_little()))?;
        }
    }
}

fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0)
}

fn damaged(fault: &io::Error) -> ApiError {
    let message = format!("The request's body is not what its 'Content-Encoding' says: {fault}.");
    ApiError::invalid("", "invalid_body", message)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn unpacked(coding: Coding, bytes: Vec<u8>, most: u64) -> Result<Vec<u8>, ApiError> {
        let bodies = BodyBudget::new(8 << 20);
        let body = Gathered { bytes, held: bodies.open().close() };
        let check = |bytes| if bytes <= most { Ok(()) } else { Err(ApiError::large_body(most as usize)) };
        coding.unpack(body, &bodies, check).map(|body| body.bytes)
    }

    fn packed(text: &[u8]) -> [(Coding, Vec<u8>); 3] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        zlib.write_all(text).unwrap();
        bare.write_all(text).unwrap();
        [
            (Coding::Gzip, gzip.finish().unwrap()),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, bare.finish().unwrap()),
        ]
    }

    #[test]
    fn every_form_is_unpacked() {
        let text = br#"{"model": "bard", "prompt": "To be"}"#;
        for (coding, bytes) in packed(text) {
            assert_eq!(unpacked(coding, bytes, 1000).unwrap(), text, "{coding:?}");
        }
        assert_eq!(unpacked(Coding::Plain, text.to_vec(), 0).unwrap(), text);
    }

    #[test]
    fn what_becomes_too_long_is_stopped_and_what_is_damaged_is_told() {
        for (coding, bytes) in packed(&vec![b' '; 64 << 20]) {
            assert!(bytes.len() < 1 << 20);
            assert_eq!(unpacked(coding, bytes.clone(), 1 << 20).unwrap_err().status, 413, "{coding:?}");
            // The budget ends it where no limit does.
            assert_eq!(unpacked(coding, bytes.clone(), u64::MAX).unwrap_err().status, 503, "{coding:?}");
            assert_eq!(unpacked(coding, bytes[..100].to_vec(), 1 << 20).unwrap_err().status, 400, "{coding:?}");
        }
        assert_eq!(unpacked(Coding::Gzip, b"{}".to_vec(), 100).unwrap_err().status, 400);
    }

    #[test]
    fn codings_are_named_in_any_case_and_others_refused() {
        let of = |name: &str| Coding::of(&HeaderMap::from_iter([(header::CONTENT_ENCODING, name.parse().unwrap())]));
        assert_eq!((of("GZIP").unwrap(), of("deflate").unwrap()), (Coding::Gzip, Coding::Deflate));
        assert_eq!((of("identity").unwrap(), Coding::of(&HeaderMap::new()).unwrap()), (Coding::Plain, Coding::Plain));
        assert_eq!(of("br").unwrap_err().status, 415);
        assert_eq!(of("gzip, gzip").unwrap_err().status, 415);
    }
}
