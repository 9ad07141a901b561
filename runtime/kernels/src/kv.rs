//! The layout of KV pages, and storing into them.

use lime_plan::Dtype;

use crate::kv_entries;

/// KV positions of a page; also the block of the canonical attention order.
pub const KV_PAGE_TOKENS: usize = 64;

/// How a KV page is laid out: for each layer, for each KV head, K `[64][head_dim]` and then V `[64][head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Type of the entries.
    pub ty: Dtype,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Layers that share a page.
    pub layers: usize,
}

impl KvLayout {
    /// Bytes of one page.
    pub const fn page_bytes(&self) -> usize {
        self.layers * self.layer_bytes()
    }

    /// Where layer `layer` begins in a page.
    pub const fn layer_offset(&self, layer: usize) -> usize {
        layer * self.layer_bytes()
    }

    /// Bytes of one layer in a page.
    pub const fn layer_bytes(&self) -> usize {
        2 * self.kv_heads * self.plane_bytes()
    }

    /// Bytes of the K (or V) entries of one KV head.
    pub(crate) const fn plane_bytes(&self) -> usize {
        KV_PAGE_TOKENS * self.head_dim * self.ty.size() as usize
    }

    /// Where the K entries of a KV head begin in a page; the V entries follow them.
    pub(crate) const fn head_offset(&self, layer: usize, kv_head: usize) -> usize {
        self.layer_offset(layer) + 2 * kv_head * self.plane_bytes()
    }
}

/// Stores one position's keys and values (each kv_heads x head_dim), rounded to the layout's type. A number beyond the type's
/// range becomes the greatest of its sign; returns how many did.
///
/// # Panics
/// When `page`, `layer`, `offset_in_page`, `k` or `v` does not fit the layout.
#[must_use = "numbers beyond the range are to be told of"]
pub fn kv_store(
    layout: &KvLayout,
    page: &mut [u8],
    layer: usize,
    offset_in_page: usize,
    k: &[f32],
    v: &[f32],
) -> usize {
    assert_eq!(page.len(), layout.page_bytes(), "bytes of a KV page");
    assert!(layer < layout.layers, "layer {layer} of {}", layout.layers);
    assert!(offset_in_page < KV_PAGE_TOKENS, "position {offset_in_page} of a page of {KV_PAGE_TOKENS}");
    assert_eq!(k.len(), layout.kv_heads * layout.head_dim, "keys of one position");
    assert_eq!(v.len(), layout.kv_heads * layout.head_dim, "values of one position");
    if layout.head_dim == 0 {
        return 0;
    }
    let entry = layout.head_dim * layout.ty.size() as usize;
    let heads = k.chunks_exact(layout.head_dim).zip(v.chunks_exact(layout.head_dim));
    let mut saturated = 0;
    for (head, (k, v)) in heads.enumerate() {
        let at = layout.head_offset(layer, head) + offset_in_page * entry;
        saturated += kv_entries::store(layout.ty, k, &mut page[at..at + entry]);
        let at = at + layout.plane_bytes();
        saturated += kv_entries::store(layout.ty, v, &mut page[at..at + entry]);
    }
    saturated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_land_where_the_layout_says() {
        let layout = KvLayout { ty: Dtype::F32, kv_heads: 2, head_dim: 3, layers: 2 };
        assert_eq!(layout.page_bytes(), 2 * 2 * 2 * 64 * 3 * 4);
        let mut page = vec![0; layout.page_bytes()];
        let (k, v): (Vec<f32>, Vec<f32>) = ((1..7).map(|x| x as f32).collect(), (11..17).map(|x| x as f32).collect());
        assert_eq!(kv_store(&layout, &mut page, 1, 5, &k, &v), 0);
        let plane = 64 * 3;
        let at = |element: usize| f32::from_le_bytes(page[element * 4..][..4].try_into().unwrap());
        assert_eq!(at(4 * plane + 15), 1.0);
        assert_eq!(at(5 * plane + 15), 11.0);
        assert_eq!(at(6 * plane + 17), 6.0);
        assert_eq!(at(7 * plane + 17), 16.0);
        assert_eq!(at(6 * plane + 18), 0.0);
    }

    #[test]
    #[should_panic(expected = "bytes of a KV page")]
    fn a_short_page_panics() {
        let layout = KvLayout { ty: Dtype::F16, kv_heads: 1, head_dim: 4, layers: 1 };
        let _ = kv_store(&layout, &mut [0; 8], 0, 0, &[0.0; 4], &[0.0; 4]);
    }
}
