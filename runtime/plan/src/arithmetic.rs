//! How sums are formed.

use serde::{Deserialize, Serialize};

/// How sums are formed. A ring never mixes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arithmetic {
    /// The canonical order of `lime-kernels`: the same bits on every CPU.
    #[default]
    Exact,
    /// candle's own operations on the worker's candle device: the way to GPUs, identical on like devices only.
    Candle,
}
