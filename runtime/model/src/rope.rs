//! Rotary position embeddings: the frequencies, computed in f64 as transformers defines them.

use std::f64::consts::PI;

/// Base and scaling of the rotary frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// The base of the geometric series of wavelengths.
    pub theta: f64,
    /// How the series is stretched for contexts beyond the one that was trained first.
    pub scaling: RopeScaling,
}

/// The kinds of rotary scaling that this build knows.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// Every frequency divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a smooth passage between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Wavelengths above the original context divided by this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below the original context divided by this are high frequencies.
        high_freq_factor: f64,
        /// The context trained first.
        original_context: f64,
    },
    /// YaRN: a linear ramp over dimensions between interpolation and extrapolation, and a temperature.
    Yarn {
        /// Divides the low frequencies.
        factor: f64,
        /// The context trained first.
        original_context: f64,
        /// Dimensions that turn more often than this are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this are divided.
        beta_slow: f64,
        /// Whether the ramp's ends are rounded outwards to whole dimensions.
        truncate: bool,
        /// What cos and sin are multiplied with.
        attention_factor: f64,
    },
    /// LongRoPE within the context that was trained first: every frequency divided by a factor of its own.
    Long {
        /// Divides each frequency.
        factors: Vec<f64>,
        /// What cos and sin are multiplied with.
        attention_factor: f64,
    },
}

impl RopeConfig {
    /// Plain rotary embeddings with base `theta`.
    pub const fn plain(theta: f64) -> Self {
        Self { theta, scaling: RopeScaling::Default }
    }

    /// The inverse frequencies of a head's `head_dim / 2` planes, and the factor on cos and sin. Where a part of the head is rotated,
    /// `head_dim` is its width.
    ///
    /// `context` is the model's longest context; it is the same for every request, so that no table depends on the load.
    pub fn inverse_frequencies(&self, head_dim: usize, context: usize) -> (Vec<f64>, f64) {
        debug_assert!(context > 0 && head_dim.is_multiple_of(2));
        let dim = head_dim as f64;
        let plain = (0..head_dim / 2).map(|plane| 1.0 / libm::pow(self.theta, (2 * plane) as f64 / dim));
        match self.scaling {
            RopeScaling::Default => (plain.collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|frequency| frequency / factor).collect(), 1.0),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let scale = |frequency: f64| {
                    let wavelength = 2.0 * PI / frequency;
                    if wavelength < original_context / high_freq_factor {
                        return frequency;
                    }
                    if wavelength > original_context / low_freq_factor {
                        return frequency / factor;
                    }
                    let smooth =
                        (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                (plain.map(scale).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate, attention_factor } => {
                let (low, high) = self.yarn_range(dim, original_context, beta_fast, beta_slow, truncate);
                let blend = |(plane, frequency): (usize, f64)| {
                    let interpolated = ((plane as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    frequency / factor * interpolated + frequency * (1.0 - interpolated)
                };
                (plain.enumerate().map(blend).collect(), attention_factor)
            }
            RopeScaling::Long { ref factors, attention_factor } => {
                debug_assert_eq!(factors.len(), head_dim / 2);
                (plain.zip(factors).map(|(frequency, factor)| frequency / factor).collect(), attention_factor)
            }
        }
    }

    /// The planes between which YaRN's ramp rises.
    fn yarn_range(&self, dim: f64, context: f64, beta_fast: f64, beta_slow: f64, truncate: bool) -> (f64, f64) {
        let plane_of = |turns: f64| dim * libm::log(context / (turns * 2.0 * PI)) / (2.0 * libm::log(self.theta));
        let (mut low, mut high) = (plane_of(beta_fast), plane_of(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        // The same guard against a division by zero as transformers has.
        if low == high { (low, high + 0.001) } else { (low, high) }
    }
}
