//! Every primitive of every instruction set against portable code.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;
use crate::isa::Isa;

/// Runs all primitives on some bytes, and keeps what they give.
struct Primitives<'a> {
    bytes: &'a [u8; 512],
    out: &'a RefCell<Vec<i32>>,
}

impl DotsTask for Primitives<'_> {
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        let (p, mut out) = (self.bytes.as_ptr(), self.out.borrow_mut());
        let word = |at: usize| u64::from_le_bytes(*self.bytes[at..].first_chunk().expect("bytes are left"));
        let table = self.bytes[400..].first_chunk::<16>().expect("bytes are left").map(|byte| byte as i8);
        // SAFETY: whoever runs this vouches for the instruction set; all that is read lies in the bytes.
        unsafe {
            let (a, b) = (D::load(p.add(1)), D::load(p.add(65)));
            let small = D::and(a, 127);
            let mut results = vec![
                a,
                D::load_two(p.add(3), p.add(50)),
                D::twice(p.add(5)),
                D::nibbles(p.add(7), p.add(100)),
                D::splat4(p.add(9)),
                D::splat4_two(p.add(13), p.add(77)),
                small,
                D::or(a, b),
                D::add_where(small, [word(11) as u32, word(200) as u32], 16),
                D::levels(&table, D::and(b, 15)),
            ];
            // Bits that stay in their bytes.
            let mask = |place: i32| if place < 0 { 255 << -place } else { 255 >> place };
            for place in -4..6 {
                for next in [place, place + 1, place + 2] {
                    results.push(D::bits(a, place, next, (mask(place) & mask(next)) as u8));
                }
            }
            for result in results {
                let mut bytes = [0; 64];
                D::store(bytes.as_mut_ptr(), result);
                out.extend(bytes.map(i32::from));
            }

            // Activations are above -128.
            let x = D::add_where(D::and(b, 127), [word(17) as u32 & !1, word(21) as u32 & !1], 128);
            let x = D::or(x, D::splat4([1, 1, 1, 1].as_ptr()));
            let (ints, more) = (D::load_ints(p.add(33).cast()), D::load_ints(p.add(133).cast()));
            let (ints, more) = (shrunk::<D>(ints), shrunk::<D>(more));
            let plain = D::accumulate(ints, small, x, false);
            let signed = D::accumulate(more, D::bias(a), x, true);
            // What the bias adds to the products.
            let excess = D::mul(D::accumulate(D::zero(), D::splat4([1; 4].as_ptr()), x, false), D::splat(D::BIAS));
            let signed = D::sub(signed, excess);
            // As many sums as 16 bits hold: 127 times 15, twice, eight times.
            let halves_of_bytes = D::and(a, 15);
            let mut words = D::no_words();
            for _ in 0..8 {
                words = D::accumulate_words(words, halves_of_bytes, x);
            }
            let [first, second] = D::fold_halves([ints, more, plain, signed, more, ints, signed, plain]);
            let [evens, odds] = D::evens_odds([word(300), word(301), word(302), word(303)]);
            let evens_there: [i32; 8] = std::array::from_fn(|at| word(350 + 4 * at) as i32 >> 8);
            let results = [
                ints,
                plain,
                signed,
                first,
                second,
                D::fold([ints, more, plain, signed, plain, signed, ints, more]),
                evens,
                odds,
                D::add(ints, more),
                D::mul(evens, odds),
                D::ints_twice(evens_there.as_ptr()),
                D::add_words(ints, words),
            ];
            for result in results {
                let mut floats = [0f32; 16];
                D::S::store(floats.as_mut_ptr(), D::floats(result));
                out.extend(floats.map(|float| float as i32));
            }
            let halves: [u16; 16] = std::array::from_fn(|at| word(320 + 2 * at) as u16);
            let eight: [f32; 8] = std::array::from_fn(|at| word(340 + 4 * at) as u32 as f32);
            let results = [
                D::byte_floats([word(310), word(319)]),
                D::half_floats(halves),
                D::floats_twice(eight.as_ptr()),
                D::splat_two(eight[0], eight[1]),
            ];
            for result in results {
                let mut floats = [0f32; 16];
                D::S::store(floats.as_mut_ptr(), result);
                out.extend(floats.map(|float| if float.is_nan() { 0 } else { float.to_bits() as i32 }));
            }
        }
    }
}

/// Numbers that stay exact in f32 when eight of them are added.
#[inline(always)]
unsafe fn shrunk<D: Dots>(ints: D::Ints) -> D::Ints {
    let mut floats = [0f32; 16];
    // SAFETY: the caller's instruction set; there is room.
    unsafe {
        D::S::store(floats.as_mut_ptr(), D::floats(ints));
        D::load_ints(floats.map(|float| float as i32 >> 12).as_ptr())
    }
}

fn primitives(isa: Isa, bytes: &[u8; 512]) -> Vec<i32> {
    let out = RefCell::new(Vec::new());
    // SAFETY: only instruction sets of this machine are asked for.
    unsafe { run_dots(isa, Primitives { bytes, out: &out }) };
    out.into_inner()
}

/// Products of bytes `w`, `signed` or not, with bytes `x`.
struct Extremes {
    w: u8,
    x: i8,
    signed: bool,
}

impl DotsTask for &Extremes {
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        // SAFETY: whoever runs this vouches for the instruction set.
        let found = unsafe {
            let (w, x) = (D::splat4([self.w; 4].as_ptr()), D::splat4([self.x as u8; 4].as_ptr()));
            let w = if self.signed { D::bias(w) } else { w };
            let mut floats = [0f32; 16];
            D::S::store(floats.as_mut_ptr(), D::floats(D::accumulate(D::zero(), w, x, self.signed)));
            let excess = if self.signed { 4 * D::BIAS * i32::from(self.x) } else { 0 };
            floats.map(|float| float as i32 - excess)
        };
        let w = if self.signed { i32::from(self.w as i8) } else { i32::from(self.w) };
        assert_eq!(found, [4 * w * i32::from(self.x); 16]);
    }
}

#[test]
fn the_greatest_bytes_do_not_overflow() {
    for isa in Isa::available() {
        for x in [127, -127, 0, 5] {
            for (w, signed) in [(128, true), (127, true), (129, true), (0, true), (127, false), (0, false)] {
                // SAFETY: the instruction set is there.
                unsafe { run_dots(isa, &Extremes { w, x, signed }) };
            }
        }
    }
}

proptest! {
    #[test]
    fn every_primitive_equals_scalar(bytes in proptest::collection::vec(any::<u8>(), 512)) {
        let bytes = bytes.try_into().expect("so many");
        let expected = primitives(Isa::Scalar, &bytes);
        for isa in Isa::available() {
            let found = primitives(isa, &bytes);
            prop_assert_eq!(found.len(), expected.len());
            for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
                prop_assert_eq!(a, b, "{}, number {}", isa, at);
            }
        }
    }
}
