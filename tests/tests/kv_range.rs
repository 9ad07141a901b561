//! KV entries beyond f16's range: kept as its greatest number, counted, told once, and the same for every plan.

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use lime_model::{ModelFolder, TensorRole};
use lime_plan::{Arithmetic, Block, Dtype, LayerIndex, Plan, ServingLimits};
use lime_tests::{
    fixtures,
    ring::{Outcome, Sequence, Workers, card, drive, even_plan},
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 128, max_concurrent_requests: 2, prefill_chunk_tokens: 64 };

/// Values of this layer are beyond f16's range.
const LAYER: LayerIndex = LayerIndex(4);

/// A bf16 number's exponent goes so much higher, or lower: no mantissa changes.
const STEPS: i32 = 20;

/// The bundled model with the values of a layer 2^20 times as large, and what they are multiplied with as much smaller: the very
/// same model where entries have f32's range.
fn with_large_values(dir: &Path) -> Result<PathBuf> {
    let model = dir.join("model");
    std::fs::create_dir(&model)?;
    for entry in std::fs::read_dir(fixtures::bard())? {
        let entry = entry?;
        std::fs::copy(entry.path(), model.join(entry.file_name()))?;
    }
    let folder = ModelFolder::open(&model)?;
    for tensor in folder.tensors(Block::Attention(LAYER))? {
        let steps = match tensor.role {
            TensorRole::V => STEPS,
            TensorRole::O => -STEPS,
            _ => continue,
        };
        let file = OpenOptions::new().read(true).write(true).open(&tensor.file)?;
        let mut bytes = vec![0; usize::try_from(tensor.bytes)?];
        file.read_exact_at(&mut bytes, tensor.offset)?;
        for number in bytes.chunks_exact_mut(2) {
            let bits = u16::from_le_bytes([number[0], number[1]]);
            let exponent = i32::from(bits >> 7 & 0xff);
            let moved = if exponent > STEPS { exponent + steps } else { 0 };
            let bits = bits & 0x807f | u16::try_from(moved)? << 7;
            number.copy_from_slice(&bits.to_le_bytes());
        }
        file.write_all_at(&bytes, tensor.offset)?;
    }
    Ok(model)
}

/// Lines of the log.
#[derive(Default)]
struct Log(Mutex<Vec<u8>>);

impl std::io::Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

static LOG: Log = Log(Mutex::new(Vec::new()));

fn told() -> usize {
    let log = LOG.0.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&log).matches("beyond the range of f16").count()
}

struct Ran {
    outcome: Outcome,
    saturated: u64,
}

async fn run(model: &Path, devices: usize, segments: u32, kv: Dtype, chunk: usize) -> Result<Ran> {
    run_plan(model, &even_plan(&card(model)?, devices, segments, SERVING, kv)?, chunk).await
}

async fn run_plan(model: &Path, plan: &Plan, chunk: usize) -> Result<Ran> {
    let mut workers = Workers::start(model, plan.devices.len(), 1).await?;
    let mut ring = workers.configure(plan).await?;
    let prompt = (0..40).map(|at| (at * 37 + 5) % 1000).collect();
    let sequences = [Sequence { prompt, draws: 24, temperature: 0.0, seed: 0 }];
    let outcome = drive(&mut ring, &sequences, chunk).await?.into_iter().next().context("one sequence")?;
    let saturated = workers.status().await?.iter().map(|status| status.memory().kv_saturated).sum();
    drop(ring);
    workers.stop().await?;
    Ok(Ran { outcome, saturated })
}

fn is_finite(outcome: &Outcome) -> bool {
    let mut numbers = outcome.logits.iter().flat_map(|logits| logits.chunks_exact(4));
    let finite = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).is_finite();
    !outcome.logits.is_empty() && numbers.all(finite)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_beyond_the_range_is_counted_told_once_and_never_an_infinity() -> Result<()> {
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).with_writer(|| &LOG);
    tracing::subscriber::set_global_default(subscriber.finish())?;
    let dir = tempfile::tempdir()?;
    let model = with_large_values(dir.path())?;

    let wide = run(&model, 1, 1, Dtype::F32, usize::MAX).await?;
    let bundled = run(&fixtures::bard(), 1, 1, Dtype::F32, usize::MAX).await?;
    assert_eq!(wide.outcome, bundled.outcome, "in f32 it is the bundled model, to the bit");
    let untouched = run(&fixtures::bard(), 1, 1, Dtype::F16, usize::MAX).await?;
    assert_eq!((wide.saturated, untouched.saturated, told()), (0, 0, 0));

    let narrow = run(&model, 1, 1, Dtype::F16, usize::MAX).await?;
    assert!(narrow.saturated > 0);
    assert_eq!(told(), 1, "once, though {} entries in 24 passes", narrow.saturated);
    assert!(is_finite(&narrow.outcome), "an infinity would have come through");

    for (devices, segments, chunk) in [(3, 2, usize::MAX), (2, 1, 7)] {
        let other = run(&model, devices, segments, Dtype::F16, chunk).await?;
        assert_eq!(other.outcome, narrow.outcome, "{devices} devices, {segments} segments, chunks of {chunk}");
        assert_eq!(other.saturated, narrow.saturated, "{devices} devices");
    }
    assert_eq!(told(), 3, "once for each device that meets them");

    let exact = even_plan(&card(&model)?, 1, 1, SERVING, Dtype::F16)?;
    let candle = run_plan(&model, &exact.changed(|plan| plan.arithmetic = Arithmetic::Candle)?, usize::MAX).await?;
    assert!(candle.saturated > 0 && is_finite(&candle.outcome), "{}", candle.saturated);
    assert_eq!(told(), 4);
    Ok(())
}
