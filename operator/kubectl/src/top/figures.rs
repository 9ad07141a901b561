//! The figures of a gateway, read from the text that Prometheus reads.

use std::collections::BTreeMap;

/// Most lines that are looked at: a gateway has some forty for each device.
const MOST_LINES: usize = 200_000;

/// One look at a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    plain: BTreeMap<String, f64>,
    devices: BTreeMap<String, BTreeMap<String, f64>>,
    plan: Option<String>,
}

impl Figures {
    /// What can be read of `text`; lines that cannot are left out.
    pub(crate) fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().take(MOST_LINES).filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Some(value) = value.parse::<f64>().ok().filter(|value| value.is_finite()) else { continue };
            match series.split_once('{') {
                None => drop(found.plain.insert(series.to_owned(), value)),
                Some(("lime_plan_info", labels)) => found.plan = label(labels, "plan"),
                Some((name, labels)) => {
                    if label(labels, "source").is_some() {
                        *found.plain.entry(name.to_owned()).or_default() += value;
                    }
                    let figure = name.strip_prefix("lime_worker_");
                    if let (Some(figure), Some(device)) = (figure, label(labels, "device")) {
                        found.devices.entry(device).or_default().insert(figure.to_owned(), value);
                    }
                }
            }
        }
        found
    }

    /// The plan that the gateway follows.
    pub(crate) fn plan(&self) -> Option<&str> {
        self.plan.as_deref()
    }

    /// A figure of the gateway's own; one that is counted by where something came from is the sum.
    pub(crate) fn own(&self, name: &str) -> Option<f64> {
        self.plain.get(name).copied()
    }

    /// A figure of a device, without its prefix.
    pub(crate) fn of(&self, device: &str, name: &str) -> Option<f64> {
        self.devices.get(device)?.get(name).copied()
    }

    /// Every device that answered.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }
}

/// The value of a label in `a="b",c="d"}`, its escapes undone.
fn label(labels: &str, name: &str) -> Option<String> {
    let mut rest = labels;
    loop {
        let (found, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break at,
                (_, letter) => value.push(letter),
            }
        };
        if found.trim_start_matches([',', ' ']) == name {
            return Some(value);
        }
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_nonsense_is_left_out() {
        let text = "# HELP lime_ready 1\nlime_ready 1\nlime_queue_depth NaN\n\
                    lime_plan_info{plan=\"m-1\",generation=\"7\"} 1\n\
                    lime_worker_kv_bytes{device=\"a\"} 20\nlime_worker_kv_bytes{device=\"b\\\"c\"} 7\n\
                    lime_worker_kv_bytes{device=\"d 1\nlime_worker_kv_bytes{device=\"e\"} x\nnothing\n\
                    drafted{source=\"a\"} 3\ndrafted{source=\"b\"} 4\n";
        let found = Figures::read(text);
        assert_eq!(found.own("lime_ready"), Some(1.0));
        assert_eq!(found.own("lime_queue_depth"), None);
        assert_eq!(found.own("drafted"), Some(7.0));
        assert_eq!(found.plan(), Some("m-1"));
        assert_eq!(found.devices().collect::<Vec<_>>(), ["a", "b\"c"]);
        assert_eq!(found.of("b\"c", "kv_bytes"), Some(7.0));
    }
}
