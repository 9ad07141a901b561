//! Elements one after another, as most files store them.

use std::marker::PhantomData;

use super::{FloatFormat, FloatReader, FloatRows};
use crate::compact::Expand;
use crate::lanes::BLOCK;
use crate::matrix::Matrix;
use crate::simd::Element;

/// Rows of stored elements.
pub(crate) struct Plain<E>(PhantomData<E>);

impl<E: Element> FloatFormat for Plain<E> {
    type Element = E;
    type Rows<'a> = PlainRows<'a, E>;
    const IN_PLACE: bool = true;

    #[inline(always)]
    fn rows<'a>(matrix: &Matrix<'a>) -> PlainRows<'a, E> {
        let stride = matrix.in_features() * E::TYPE.size() as usize;
        PlainRows { bytes: matrix.bytes(), stride, element: PhantomData }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct PlainRows<'a, E> {
    bytes: &'a [u8],
    stride: usize,
    element: PhantomData<E>,
}

impl<E: Element> FloatRows for PlainRows<'_, E> {
    type Reader = PlainReader<E>;

    #[inline(always)]
    fn stride(&self) -> usize {
        self.stride
    }

    #[inline(always)]
    fn row(&self, index: usize) -> PlainReader<E> {
        // No addition may pass the end, whoever asks.
        PlainReader { at: self.bytes.as_ptr().wrapping_add(index * self.stride), element: PhantomData }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct PlainReader<E> {
    at: *const u8,
    element: PhantomData<E>,
}

impl<E: Element> FloatReader for PlainReader<E> {
    #[inline(always)]
    unsafe fn next(&mut self, _expand: Expand, blocks: usize, _scratch: *mut u8, _ahead: usize) -> *const u8 {
        let here = self.at;
        self.at = here.wrapping_add(blocks * BLOCK * E::TYPE.size() as usize);
        here
    }
}
