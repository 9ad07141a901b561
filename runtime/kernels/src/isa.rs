//! The instruction sets that the kernels are compiled for, and the choice among them.

use std::fmt;

/// An instruction set. All of them give the same bits; they differ in speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512F (with AVX2, FMA and F16C).
    Avx512,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AArch64 Advanced SIMD.
    Neon,
    /// Portable code with `f32::mul_add`.
    Scalar,
}

impl Isa {
    /// The instruction sets of this machine, fastest first. Never empty: scalar is always there.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if avx2 && is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
            if avx2 {
                found.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Self::Neon);
        found.push(Self::Scalar);
        found
    }

    /// The fastest instruction set of this machine, whatever is wished for.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            return if is_x86_feature_detected!("avx512f") { Self::Avx512 } else { Self::Avx2 };
        }
        if cfg!(target_arch = "aarch64") { Self::Neon } else { Self::Scalar }
    }

    /// The fastest instruction set of this machine, or the one named by `LIME_ISA` where it is available.
    pub fn detect() -> Self {
        let available = Self::available();
        let wish = std::env::var("LIME_ISA").unwrap_or_default();
        available.iter().copied().find(|isa| isa.name() == wish).unwrap_or(available[0])
    }

    /// The instruction set of that name, if this machine has it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// The name as `LIME_ISA` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Scalar => "scalar",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
