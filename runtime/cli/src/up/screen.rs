//! What a person sees: progress bars on a terminal, plain lines elsewhere. All of it on standard error.

use std::{collections::BTreeMap, io::IsTerminal as _};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lime_plan::{Bytes, Plan};

/// The person's view.
#[derive(Debug)]
pub(super) struct Screen {
    /// Present on a terminal.
    bars: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
    /// Devices whose loading has been told of as done.
    loaded: BTreeMap<String, bool>,
}

impl Screen {
    /// A view of a plan that is about to be loaded.
    pub(super) fn new(plan: &Plan) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let width = plan.devices.iter().map(|device| device.name.len()).max().unwrap_or_default();
            // Names of fields and widths only: the template cannot be wrong.
            let style = ProgressStyle::with_template("{prefix} {bar:32} {binary_bytes}/{binary_total_bytes} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = |name: &str, total: Bytes| {
                let bar = all.add(ProgressBar::new(total.0).with_style(style.clone()));
                bar.set_prefix(format!("{name:width$}"));
                bar.set_message("waiting");
                (name.to_owned(), bar)
            };
            let bars = plan.devices.iter().map(|device| bar(&device.name, device.memory.pinned)).collect();
            (all, bars)
        });
        Self { bars, loaded: BTreeMap::new() }
    }

    /// A device has read so much of its weights.
    pub(super) fn loading(&mut self, device: &str, loaded: Bytes, total: Bytes) {
        let done = loaded >= total;
        if let Some(bar) = self.bars.as_ref().and_then(|(_, bars)| bars.get(device)) {
            bar.set_length(total.0);
            bar.set_position(loaded.0);
            bar.set_message(if done { "loaded" } else { "loading" });
            return;
        }
        let told = self.loaded.entry(device.to_owned()).or_default();
        if done && !*told {
            *told = true;
            eprintln!("{device}: {total} loaded");
        }
    }

    /// One line for the person.
    pub(super) fn say(&self, line: &str) {
        match &self.bars {
            // Bars move down for it.
            Some((all, _)) => all.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Loading is over: bars go away.
    pub(super) fn settle(&mut self) {
        if let Some((all, bars)) = self.bars.take() {
            for bar in bars.values() {
                bar.finish_and_clear();
            }
            let _ = all.clear();
        }
    }
}
