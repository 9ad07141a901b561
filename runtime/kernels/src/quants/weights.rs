//! Sixteen blocks of one weight row in registers, and their products.

use super::{CHUNK, Lanes, Offsets, QuantFormat, Quants, stored_bytes};
use crate::simd::{Dots, Simd};

/// Bytes of the longest chunk.
const MOST_BYTES: usize = 544;

/// How much greater the bytes of [`Weights`] are than the quants.
#[inline(always)]
pub(crate) const fn excess<D: Dots, F: QuantFormat>() -> i32 {
    match F::QUANTS {
        Quants::Signed => D::BIAS,
        Quants::Greater(by) => by,
    }
}

/// Whether bytes are such as [`Dots::accumulate`] calls signed.
#[inline(always)]
pub(crate) const fn signed<F: QuantFormat>() -> bool {
    matches!(F::QUANTS, Quants::Signed)
}

/// How many products of a byte sums of 16 bits hold, where they cost less than others and hold more than a few: some power of two below nine.
#[inline(always)]
pub(crate) const fn words<D: Dots, F: QuantFormat>() -> Option<usize> {
    // Two neighbours' products go to one sum.
    let most = i16::MAX as usize / (2 * 127 * F::GREATEST as usize);
    match most {
        _ if !D::NARROW || signed::<F>() => None,
        0..2 => None,
        2..4 => Some(2),
        4..8 => Some(4),
        _ => Some(8),
    }
}

/// Two blocks as [`Dots::accumulate`] wants them.
///
/// # Safety
/// As [`QuantFormat`] says.
#[inline(always)]
pub(crate) unsafe fn pair<D: Dots, F: QuantFormat>(units: *const u8, pair: usize) -> D::Bytes {
    // SAFETY: passed on to the caller.
    unsafe {
        let bytes = F::pair::<D>(units, pair);
        if signed::<F>() { D::bias(bytes) } else { bytes }
    }
}

/// `dots` without what the [`excess`] adds to them, where `sums` are those of the activations.
///
/// # Safety
/// `D` is available.
#[inline(always)]
pub(crate) unsafe fn without_excess<D: Dots, F: QuantFormat>(dots: D::Ints, sums: D::Ints) -> D::Ints {
    // SAFETY: passed on to the caller.
    unsafe {
        match excess::<D, F>() {
            0 => dots,
            by => D::sub(dots, D::mul(sums, D::splat(by))),
        }
    }
}

/// Room for a chunk that has fewer blocks than lanes.
pub(crate) struct Chunk([u8; MOST_BYTES]);

impl Chunk {
    pub(crate) const ZERO: Self = Self([0; MOST_BYTES]);

    /// The units of `blocks` blocks where they lie if that is a whole chunk, or else a copy with zeros after them.
    ///
    /// # Safety
    /// They are there; no block of another format or count was copied here before.
    #[inline(always)]
    pub(crate) unsafe fn whole<F: QuantFormat>(&mut self, units: *const u8, blocks: usize) -> *const u8 {
        const { assert!(stored_bytes::<F>(CHUNK) <= MOST_BYTES) };
        if blocks >= CHUNK {
            return units;
        }
        // SAFETY: by the caller's word; there is room for a whole chunk.
        unsafe { units.copy_to_nonoverlapping(self.0.as_mut_ptr(), stored_bytes::<F>(blocks)) };
        self.0.as_ptr()
    }
}

/// A chunk of one activation row.
#[derive(Clone, Copy)]
pub(crate) struct Activations {
    pub(crate) quants: *const u8,
    pub(crate) scales: *const f32,
    /// The sums of the quants of the blocks' first and second halves.
    pub(crate) sums: [*const i32; 2],
}

/// Sixteen blocks.
pub(crate) struct Weights<D: Dots> {
    /// Pairs of blocks, [`excess`] too great.
    pub(crate) bytes: [D::Bytes; CHUNK / 2],
    pub(crate) scales: Lanes<D>,
    pub(crate) offsets: Lanes<D>,
    pub(crate) factors: [D::Ints; 2],
    pub(crate) offset_factors: [D::Ints; 2],
}

impl<D: Dots> Weights<D> {
    /// # Safety
    /// As [`QuantFormat`] says.
    #[inline(always)]
    pub(crate) unsafe fn load<F: QuantFormat>(units: *const u8) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                bytes: [
                    pair::<D, F>(units, 0),
                    pair::<D, F>(units, 1),
                    pair::<D, F>(units, 2),
                    pair::<D, F>(units, 3),
                    pair::<D, F>(units, 4),
                    pair::<D, F>(units, 5),
                    pair::<D, F>(units, 6),
                    pair::<D, F>(units, 7),
                ],
                scales: F::scales::<D>(units),
                offsets: F::offsets::<D>(units),
                factors: F::half_factors::<D>(units),
                offset_factors: F::offset_factors::<D>(units),
            }
        }
    }

    /// Adds the products with `x` to the lanes.
    ///
    /// # Safety
    /// `D` is available; there is a whole chunk of activations.
    #[inline(always)]
    pub(crate) unsafe fn add<F: QuantFormat>(&self, x: &Activations, lanes: Lanes<D>) -> Lanes<D> {
        // SAFETY: passed on to the caller.
        unsafe {
            let mut dots = [D::zero(); CHUNK / 2];
            for pair in 0..CHUNK / 2 {
                let x = D::load(x.quants.add(64 * pair));
                dots[pair] = D::accumulate(D::zero(), self.bytes[pair], x, signed::<F>());
            }
            let sums = [D::load_ints(x.sums[0]), D::load_ints(x.sums[1])];
            let dots = if F::HALVES {
                let [first, second] = D::fold_halves(dots);
                let first = D::mul(without_excess::<D, F>(first, sums[0]), self.factors[0]);
                D::add(first, D::mul(without_excess::<D, F>(second, sums[1]), self.factors[1]))
            } else {
                without_excess::<D, F>(D::fold(dots), D::add(sums[0], sums[1]))
            };
            let x_scales = D::S::load(x.scales);
            let lanes = D::S::fma(D::S::mul(self.scales, x_scales), D::floats(dots), lanes);
            let sums = match F::OFFSETS {
                Offsets::None => return lanes,
                Offsets::Blocks => D::add(sums[0], sums[1]),
                Offsets::Halves => {
                    D::add(D::mul(sums[0], self.offset_factors[0]), D::mul(sums[1], self.offset_factors[1]))
                }
            };
            D::S::fma(self.offsets, D::S::mul(x_scales, D::floats(sums)), lanes)
        }
    }
}
