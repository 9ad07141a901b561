//! Reads back what is exported.

/// What is said of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, `_total` included.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it means: a sentence.
    pub help: String,
    /// The labels of its samples.
    pub labels: Vec<String>,
}

/// The families of `text`, in its order. Labels are those of a family's first sample, without a histogram's `le`.
pub fn described(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut sampled = false;
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            families.push(Family { name: name.into(), kind: String::new(), help: help.into(), labels: Vec::new() });
            sampled = false;
        } else if let Some(family) = families.last_mut() {
            if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                family.kind = kind.into();
            } else if !sampled {
                sampled = true;
                family.labels = labels(line);
            }
        }
    }
    families
}

/// The names of a sample's labels. Values here are our own samples', without commas or equals signs.
fn labels(sample: &str) -> Vec<String> {
    let inner = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inner, _)| inner);
    let names = inner.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
    names.filter(|name| *name != "le").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_read_back() {
        let text = "# HELP a_total Such.\n# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total{z=\"1\"} 3\n\
                    # HELP b How long.\n# TYPE b histogram\nb_bucket{le=\"1\"} 0\nb_sum 0\n";
        let family = |name: &str, kind: &str, help: &str, labels: &[&str]| Family {
            name: name.into(),
            kind: kind.into(),
            help: help.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        };
        let found = [family("a_total", "counter", "Such.", &["x", "y"]), family("b", "histogram", "How long.", &[])];
        assert_eq!(described(text), found);
    }
}
