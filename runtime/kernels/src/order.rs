//! The canonical order, in words.
//!
//! **Dot product** over k, in blocks of 32 padded with zeros: `first[16]` and `second[16]` f32 lanes,
//! k ascending, fused multiply-add; then `a[l] = first[l] + second[l]`; then the tree `l+8`, `l+4`, `l+2`,
//! `l+1`. Which k goes to which lane depends on the stored dtype only:
//!
//! | dtype | `first[l]` takes | `second[l]` takes |
//! |---|---|---|
//! | bf16 | `32b + 2l` | `32b + 2l + 1` |
//! | f16, f32 | `32b + l` | `32b + 16 + l` |
//!
//! A bias is added after the tree.
//!
//! **Sums of vectors** (RMSNorm, softmax): 16 lanes by `index % 16`, the same tree.
//!
//! **Attention**, for each query row and head: KV positions in blocks of one page
//! ([`KV_PAGE_TOKENS`](crate::KV_PAGE_TOKENS)) anchored at position 0. In a block, `s[j] = dot(q, k[j]) * scale`
//! (canonical dot over head_dim, lanes by the KV dtype); `m = max s`; `p[j] = exp(s[j] - m)`; `l` = sum of `p` on 16
//! lanes; `acc[d]` = fused multiply-add of `p[j] * v[j][d]`, j ascending from zero. Blocks are merged ascending:
//! `M = max(m_run, m)`, `a = exp(m_run - M)`, `b = exp(m - M)`, `l_run = fma(l, b, l_run * a)`, and
//! `acc_run[d] = fma(acc[d], b, acc_run[d] * a)`. The result is `acc_run[d] / l_run`.
//!
//! **RMSNorm**: `inv = 1 / sqrt(sum / n + eps)`, `out = (x * inv) * weight`. **RoPE**: products and sums rounded
//! apart (no fusion). **SwiGLU**: `(g / (1 + exp(-g))) * u`. **exp**: see `math.rs`; 0 below ln(2^-126), infinite
//! above 88.37, NaN for NaN.
