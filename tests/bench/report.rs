//! Medians and spreads.

/// One figure taken several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl<const N: usize> From<[f64; N]> for Samples {
    fn from(values: [f64; N]) -> Self {
        Self(values.into())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Every one times `factor`.
    pub(crate) fn times(&self, factor: f64) -> Self {
        self.map(|value| value * factor)
    }

    /// One over each.
    pub(crate) fn inverse(&self) -> Self {
        self.map(|value| 1.0 / value)
    }

    /// What `change` makes of each.
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }

    /// Pairwise quotients.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// Hands out each one.
    pub(crate) fn each(&self, take: impl FnMut(f64)) {
        self.0.iter().copied().for_each(take);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.sorted().get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl std::fmt::Display for Samples {
    /// `0.91 (0.88 to 0.93)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sorted = self.sorted();
        let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { return f.pad("-") };
        f.pad(&format!("{:.2} ({low:.2} to {high:.2})", self.median()))
    }
}

/// Prints a ratio beside its target.
pub(crate) fn ratio(what: &str, ratio: &Samples, target: &str) {
    println!("{what:<58} {ratio:<24} target {target}");
}

/// Prints a plain figure.
pub(crate) fn figure(what: &str, samples: &Samples, unit: &str) {
    println!("{what:<58} {samples} {unit}");
}
