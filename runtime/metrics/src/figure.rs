//! A figure of things that are at hand when somebody asks.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder},
    metrics::{MetricType, exemplar::Exemplar},
};

/// A figure that each `T` has, or may have: a row of a table.
#[derive(Debug)]
pub struct Figure<T> {
    name: &'static str,
    help: &'static str,
    counts: bool,
    value: fn(&T) -> Option<f64>,
}

impl<T> Figure<T> {
    /// What may go up and down. `help` is a sentence without its full stop.
    pub const fn gauge(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Self {
        Self { name, help, counts: false, value }
    }

    /// What only grows while its process lives; `_total` is added to `name`.
    pub const fn counter(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Self {
        Self { name, help, counts: true, value }
    }

    /// The figure of each of `things` that has it, under its labels and in their order.
    pub fn over<'a, L>(&self, things: impl IntoIterator<Item = (L, &'a T)>) -> Samples<L>
    where
        T: 'a,
    {
        let samples = things.into_iter().filter_map(|(labels, thing)| Some((labels, (self.value)(thing)?))).collect();
        Samples { name: self.name, help: self.help, counts: self.counts, samples }
    }
}

/// A figure of several things, as one family.
#[derive(Debug)]
pub struct Samples<L> {
    name: &'static str,
    help: &'static str,
    counts: bool,
    samples: Vec<(L, f64)>,
}

impl<L> Samples<L> {
    /// A gauge with a value for each of `samples`.
    pub fn gauge(name: &'static str, help: &'static str, samples: Vec<(L, f64)>) -> Self {
        Self { name, help, counts: false, samples }
    }
}

impl<L: EncodeLabelSet + fmt::Debug + Send + Sync + 'static> Collector for Samples<L> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.samples.is_empty() {
            return Ok(());
        }
        let kind = if self.counts { MetricType::Counter } else { MetricType::Gauge };
        let mut family = encoder.encode_descriptor(self.name, &format!("{}.", self.help), None, kind)?;
        for (labels, value) in &self.samples {
            let sample = family.encode_family(labels)?;
            match whole(*value) {
                Some(value) => one(sample, self.counts, value),
                None => one(sample, self.counts, *value),
            }?;
        }
        Ok(())
    }
}

fn one<N>(mut sample: MetricEncoder<'_>, counts: bool, value: N) -> fmt::Result
where
    N: prometheus_client::encoding::EncodeCounterValue + prometheus_client::encoding::EncodeGaugeValue,
{
    const NONE: Option<&Exemplar<[(&str, &str); 0], f64>> = None;
    if counts { sample.encode_counter(&value, NONE) } else { sample.encode_gauge(&value) }
}

/// Bytes and counts are told as the whole numbers that they are.
fn whole(value: f64) -> Option<u64> {
    (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_family_is_told_once_with_a_line_for_each_that_has_it() {
        let figure = Figure::<Option<f64>>::gauge("room", "What is\nleft", |it| *it);
        let things = [("b\"\\\n", Some(1.5)), ("a", None), ("c", Some(3e9)), ("d", Some(-1.0))];
        let mut registry = Registry::default();
        registry.register_collector(Box::new(
            figure.over(things.iter().map(|(name, value)| ([("of", (*name).to_owned())], value))),
        ));
        registry.register_collector(Box::new(Samples::<[(&str, &str); 1]>::gauge("none", "Nobody has it", vec![])));
        let text = crate::text(&registry);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "# HELP room What is\\nleft.",
                "# TYPE room gauge",
                "room{of=\"b\\\"\\\\\\n\"} 1.5",
                "room{of=\"c\"} 3000000000",
                "room{of=\"d\"} -1.0",
            ]
        );
    }
}
