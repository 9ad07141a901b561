//! Predicted against measured: settings are planned with what `lime` measures of this machine, then served by `lime up`, and the
//! time between tokens is taken where a person sees them, on its standard output.

use std::{
    fmt::Write as _,
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lime_plan::{Plan, Residency};

use crate::{
    Bench,
    report::{Samples, ratio},
};

/// One machine playing some devices.
struct Setting {
    what: &'static str,
    devices: usize,
    /// Megabytes of each.
    memory: u32,
    threads: usize,
    /// Of each device, as a LocalFleet writes them.
    disk: Option<&'static str>,
    link: Option<&'static str>,
    segments: Option<u32>,
}

const PLAIN: Setting =
    Setting { what: "", devices: 1, memory: 3000, threads: 2, disk: None, link: None, segments: None };

const SETTINGS: [Setting; 9] = [
    Setting { what: "one device, in memory", ..PLAIN },
    Setting {
        what: "two devices, in memory, 100 Mbit/s and 2 ms",
        devices: 2,
        memory: 1300,
        threads: 1,
        link: Some("{ bandwidth: 100Mbit, latency: 2ms }"),
        ..PLAIN
    },
    Setting { what: "one device of 1200 MB", memory: 1200, ..PLAIN },
    Setting { what: "one device of 1200 MB, disk 500 MB/s", memory: 1200, disk: Some("500MB"), ..PLAIN },
    Setting { what: "two devices of 800 MB", devices: 2, memory: 800, threads: 1, ..PLAIN },
    Setting {
        what: "two devices of 800 MB, disks 200 MB/s",
        devices: 2,
        memory: 800,
        threads: 1,
        disk: Some("200MB"),
        ..PLAIN
    },
    Setting {
        what: "two devices of 800 MB, disks 500 MB/s, 100 Mbit/s and 2 ms, two segments",
        devices: 2,
        memory: 800,
        threads: 1,
        disk: Some("500MB"),
        link: Some("{ bandwidth: 100Mbit, latency: 2ms }"),
        segments: Some(2),
    },
    Setting { what: "four devices of 400 MB", devices: 4, memory: 400, threads: 1, ..PLAIN },
    Setting {
        what: "four devices of 400 MB, disks 200 MB/s, 100 Mbit/s and 2 ms",
        devices: 4,
        memory: 400,
        threads: 1,
        disk: Some("200MB"),
        link: Some("{ bandwidth: 100Mbit, latency: 2ms }"),
        ..PLAIN
    },
];

/// Tokens before the watch starts: the prompt's pass, and buffers that were full from the pause before.
const SKIPPED: usize = 3;
/// A token may be so late.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plans, serves and compares each setting.
pub(crate) fn measure(bench: &Bench, lime: &Path) -> Result<()> {
    println!("{:<86} {:>9} {:>9}", "predicted and measured time per token, ms", "predicted", "measured");
    for setting in &SETTINGS {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(file.path(), setting.document(&bench.folder)?)?;
        let plan = plan(lime, file.path())?;
        let outlook = plan.outlook.as_ref().context("a plan without a prediction")?;
        let predicted = outlook.prediction.time_per_token.seconds();
        let measured = serve(lime, file.path(), tokens(predicted))?;
        let streams = plan.devices.iter().flat_map(|device| &device.blocks);
        let streams = streams.filter(|placed| placed.residency == Residency::Streamed).count();
        let what = format!("{} ({} used, k = {}, {streams} streamed)", setting.what, plan.devices.len(), plan.segments);
        println!("{what:<86} {:>9.1} {:>9.1}", predicted * 1e3, measured.median() * 1e3);
        ratio("  measured / predicted", &measured.times(1.0 / predicted), "0.9 to 1.1");
    }
    Ok(())
}

/// Enough for some seconds.
fn tokens(predicted: f64) -> usize {
    SKIPPED + ((12.0 / predicted) as usize).clamp(6, 60)
}

impl Setting {
    fn document(&self, model: &Path) -> Result<String> {
        let model = fs::canonicalize(model)?;
        let (devices, memory, threads) = (self.devices, self.memory, self.threads);
        let mut text = format!(
            "kind: LimeDeployment\napiVersion: lime.dev/v1alpha1\nmetadata: {{ name: truth }}\nspec:\n  model: {{ source: 'file://{}' }}\n  \
             serving: {{ maxContextTokens: 256, maxConcurrentRequests: 1, prefillChunkTokens: 16 }}\n  nodes: {{ minCount: {devices} }}\n\
             ---\nkind: LocalFleet\napiVersion: lime.dev/v1alpha1\nmetadata: {{ name: truth }}\nspec:\n",
            model.display(),
        );
        if let Some(segments) = self.segments {
            writeln!(text, "  segments: {segments}")?;
        }
        writeln!(text, "  devices:")?;
        for index in 0..devices {
            write!(text, "    - {{ name: device-{index}, memory: {memory}M, threads: {threads}")?;
            if let Some(disk) = self.disk {
                write!(text, ", disk: {{ bandwidth: {disk} }}")?;
            }
            if let Some(link) = self.link {
                write!(text, ", link: {link}")?;
            }
            writeln!(text, " }}")?;
        }
        Ok(text)
    }
}

/// What `lime up` will do, with this machine measured anew.
fn plan(lime: &Path, file: &Path) -> Result<Plan> {
    let output = Command::new(lime).args(["plan", "--measure", "-o", "json", "-f"]).arg(file).output();
    let output = output.with_context(|| format!("cannot run {}", lime.display()))?;
    ensure!(output.status.success(), "lime plan failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the plan's JSON")
}

/// Seconds between the tokens of one answer, as means of three stretches of it.
fn serve(lime: &Path, file: &Path, tokens: usize) -> Result<Samples> {
    let mut up = Command::new(lime)
        .args(["up", "--port", "0", "--once", "--prompt", "t100 t200 t300 t400 t500 t600 t700 t800"])
        .args(["--max-tokens", &tokens.to_string(), "-f"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", lime.display()))?;
    let mut output = up.stdout.take().context("the answer")?;
    let mut complaints = up.stderr.take().context("what it says")?;
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        complaints.read_to_string(&mut text).map(|_| text)
    });
    let (mut times, mut buffer) = (Vec::new(), [0; 4096]);
    let begin = Instant::now();
    loop {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        times.push(begin.elapsed().as_secs_f64());
        ensure!(begin.elapsed() < PATIENCE * tokens as u32, "the answer takes too long");
    }
    let ended = up.wait()?;
    let said = said.join().map_err(|_| anyhow::anyhow!("a reading thread panicked"))??;
    ensure!(ended.success(), "lime up failed: {said}");
    // The prompt itself comes first, the end of the line last.
    let times = times.get(1..times.len().saturating_sub(1)).unwrap_or_default();
    ensure!(times.len() + 1 >= tokens, "only {} of {tokens} tokens were seen: {said}", times.len());
    let steady = &times[SKIPPED..];
    let stretch = (steady.len() - 1) / 3;
    let mut means = Samples::default();
    for part in 0..3 {
        let (first, last) = (steady[part * stretch], steady[(part + 1) * stretch]);
        means.push((last - first) / stretch as f64);
    }
    Ok(means)
}
