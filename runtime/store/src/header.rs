//! The header of a block's file: safetensors' own, padded with spaces so that the data begins on a page.

use std::fmt::Write as _;

use lime_model::{BLOCK_ALIGNMENT, BlockLayout, safetensors_dtype};
use lime_plan::Format;

use crate::{digest::Digest, part::Part};

const LENGTH_BYTES: usize = 8;
const DIGEST_KEY: &str = "\"digest\":\"";

/// The first bytes of the file with `part` of the model `key`: they follow from the layout and from the digest of the data,
/// so a header is right when it is equal to this one. Its size, a multiple of [`BLOCK_ALIGNMENT`], follows from the layout alone.
pub(crate) fn header(key: &str, part: Part, layout: &BlockLayout, digest: Digest) -> Vec<u8> {
    let mut json = format!(
        "{{\"__metadata__\":{{\"format\":\"lime-block-1\",\"model\":\"{key}\",\"block\":\"{}\",{DIGEST_KEY}{digest}\"}}",
        part.stem()
    );
    let (mut end, mut pads) = (0, 0);
    // safetensors allows no holes: what is between tensors is a tensor too.
    let mut pad = |json: &mut String, from: u64, to: u64| {
        if from < to {
            entry(json, &format!("__pad.{pads}"), "U8", &[(to - from) as usize], from, to);
            pads += 1;
        }
    };
    for tensor in &layout.entries {
        pad(&mut json, end, tensor.offset);
        end = tensor.offset + tensor.bytes;
        let name = tensor.role.file_name(part.block());
        match safetensors_dtype(tensor.format) {
            Some(dtype) => entry(&mut json, &name, &dtype, &tensor.shape, tensor.offset, end),
            // Bytes of a format that safetensors does not know.
            None => {
                let name = format!("{name}.{}", ending(tensor.format));
                entry(&mut json, &name, "U8", &[tensor.bytes as usize], tensor.offset, end);
            }
        }
    }
    pad(&mut json, end, layout.bytes);
    json.push('}');

    let size = (LENGTH_BYTES + json.len()).next_multiple_of(BLOCK_ALIGNMENT as usize);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(((size - LENGTH_BYTES) as u64).to_le_bytes());
    bytes.extend(json.as_bytes());
    bytes.resize(size, b' ');
    bytes
}

/// The digest that a header names, wherever in it that is; the header must still be compared with [`header`].
pub(crate) fn digest_in(header: &[u8]) -> Option<Digest> {
    let at = header.windows(DIGEST_KEY.len()).position(|window| window == DIGEST_KEY.as_bytes())?;
    let text = header.get(at + DIGEST_KEY.len()..)?.get(..32)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn entry(json: &mut String, name: &str, dtype: &str, shape: &[usize], from: u64, to: u64) {
    // Names and dtypes are LIME's own and need no escapes; writing to a string cannot fail.
    let _ = write!(json, ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{from},{to}]}}");
}

/// What the bytes of a format that safetensors does not know are called beside their tensor's name.
fn ending(format: Format) -> String {
    match format {
        Format::CompactBf16 => "compact".to_owned(),
        quantized => quantized.to_string().to_lowercase(),
    }
}
