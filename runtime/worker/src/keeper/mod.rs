//! KV pages on another device: the side that asks and the side that keeps.

mod asking;
mod joining;
mod keeping;

pub(crate) use asking::{Asking, RemoteKeeper, asking};
pub(crate) use joining::join_keeper;
pub(crate) use keeping::{Keeping, keep};

/// Floats as the wire has them.
fn to_wire(floats: &[f32]) -> bytes::Bytes {
    let mut wire = vec![0; size_of_val(floats)];
    for (bytes, float) in wire.chunks_exact_mut(4).zip(floats) {
        bytes.copy_from_slice(&float.to_le_bytes());
    }
    wire.into()
}

/// Reads floats from the wire into `floats`; false where it has another length.
fn from_wire(wire: &[u8], floats: &mut [f32]) -> bool {
    if wire.len() != size_of_val(floats) {
        return false;
    }
    for (bytes, float) in wire.chunks_exact(4).zip(floats) {
        *float = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    true
}
