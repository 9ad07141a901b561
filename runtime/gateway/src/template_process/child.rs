//! The process that renders.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lime_text::ChatTemplate;
use lime_text::TextError;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::wire::{Conversation, LONGEST, Reply};

/// Memory for a template and its compiling; it is not a large file.
const OPENING: u64 = 1 << 30;
/// Memory for a conversation, beside what the process has at rest.
const WORKING: u64 = 256 << 20;
/// After so long nobody waits any more: whoever asked has gone, or would have ended this process.
const ABANDONED: Duration = Duration::from_secs(60);

/// Renders conversations by the template of the model in `folder`: reads them from standard input and answers on standard
/// output, until its end. Limits itself before it looks at the model.
///
/// # Errors
/// A template that cannot be opened, or a pipe that breaks.
pub fn render_templates(folder: &Path) -> io::Result<()> {
    limit(Resource::Core, 0);
    // It writes no files, whatever a template finds.
    limit(Resource::Fsize, 0);
    limit(Resource::As, OPENING);
    // When a pod's memory is gone, this one goes first. Not everybody may say so; then it is as it was.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let template = ChatTemplate::open(folder)
        .and_then(|found| found.ok_or_else(|| TextError::Template { reason: "the model has none".to_owned() }));
    let template = template.map_err(io::Error::other)?;
    answer(&Reply::Ready)?;
    watch_time();
    if let Some(resting) = address_space() {
        limit(Resource::As, resting + WORKING);
    }
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        input.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        BEGUN.store(now(), Ordering::Relaxed);
        answer(&render(&template, &line))?;
        BEGUN.store(0, Ordering::Relaxed);
    }
}

fn render(template: &ChatTemplate, line: &[u8]) -> Reply {
    let conversation: Conversation = match serde_json::from_slice(line) {
        Ok(conversation) => conversation,
        Err(fault) => return Reply::Refused(format!("the conversation cannot be handed to it: {fault}")),
    };
    match conversation.render(template) {
        Ok(text) => Reply::Text(text),
        Err(TextError::Template { reason }) => Reply::Refused(reason),
        Err(other) => Reply::Refused(other.to_string()),
    }
}

fn answer(reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

fn limit(resource: Resource, most: u64) {
    // A limit that is lower already stays.
    let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Bytes of address space of this process.
fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    Some(size.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
}

/// When the conversation that is rendered now began; 0: none is.
static BEGUN: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_secs() + 1
}

/// Ends the process when nobody can be waiting any more: its parent may have gone in the middle of a conversation.
fn watch_time() {
    now();
    let watch = || {
        loop {
            std::thread::sleep(ABANDONED / 4);
            let begun = BEGUN.load(Ordering::Relaxed);
            if begun > 0 && now().saturating_sub(begun) > ABANDONED.as_secs() {
                std::process::exit(1);
            }
        }
    };
    // Without the thread a process whose parent has gone ends with its conversation.
    let _ = std::thread::Builder::new().stack_size(64 << 10).spawn(watch);
}
