//! What reads foreign bytes, by name: the same functions are fuzzed (`tests/fuzz`), replayed over its corpus and run over damaged files.
//! None may panic, take memory that the bytes have not earned, or not end.

use std::{fs, sync::Arc};

use lime_engine::{Isa, KeptPages};
use lime_model::{Gguf, ModelConfig, ModelFolder, header_file};
use lime_plan::{DeviceIndex, DeviceSteps, Dtype, FleetFile, MemoryModel, Nanos, Plan, PlanInForce, StepsInForce};
use lime_ring::{
    FrameLimits,
    proto::{Frame, Pass, PassResult},
};
use lime_text::{ChatTemplate, GenerationConfig, Tokenizer};
use prost::Message as _;
use serde_json::{Map, json};

use crate::fixtures;

/// One entrance for foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Reads the bytes; whether they were sound.
    pub read: fn(&[u8]) -> bool,
    /// Damaged inputs that a test of seconds has time for: a file that is written first costs ten times as much.
    pub inputs: u64,
}

const IN_MEMORY: u64 = 4000;
const FROM_FILE: u64 = 400;

/// All of them.
pub const READERS: [Reader; 11] = [
    Reader { name: "config", read: config, inputs: IN_MEMORY },
    Reader { name: "fleet", read: fleet, inputs: IN_MEMORY },
    Reader { name: "frame", read: frame, inputs: IN_MEMORY },
    Reader { name: "generation", read: generation, inputs: FROM_FILE },
    Reader { name: "gguf", read: gguf, inputs: FROM_FILE },
    Reader { name: "pass", read: pass, inputs: IN_MEMORY },
    Reader { name: "plan", read: plan, inputs: IN_MEMORY },
    Reader { name: "plan_in_force", read: plan_in_force, inputs: IN_MEMORY },
    Reader { name: "safetensors", read: safetensors, inputs: FROM_FILE },
    Reader { name: "template", read: template, inputs: IN_MEMORY },
    Reader { name: "tokenizer", read: tokenizer, inputs: FROM_FILE },
];

/// The reader of this name.
///
/// # Panics
/// Where there is none: names are written down in targets and folders.
pub fn reader(name: &str) -> Reader {
    *READERS.iter().find(|reader| reader.name == name).unwrap_or_else(|| panic!("no reader is named {name:?}"))
}

fn config(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        let read = ModelConfig::parse(text);
        if let Ok(config) = &read {
            let _ = config.card("foreign").weight_bytes();
        }
        read.is_ok()
    })
}

fn fleet(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    serde_saphyr::from_str::<FleetFile>(&text).is_ok_and(|fleet| fleet.check().is_ok())
}

/// Limits of a small ring, as a plan gives them.
const LIMITS: FrameLimits = FrameLimits {
    segments: 3,
    slots: 4,
    max_rows: 32,
    context: 128,
    hidden: 8,
    vocabulary: 1000,
    residual: Dtype::F32,
};

fn frame(bytes: &[u8]) -> bool {
    Frame::decode(bytes).is_ok_and(|frame| LIMITS.check_frame(&frame).is_ok())
}

fn pass(bytes: &[u8]) -> bool {
    let _ = PassResult::decode(bytes);
    Pass::decode(bytes).is_ok_and(|pass| LIMITS.check_pass(&pass).is_ok())
}

fn generation(bytes: &[u8]) -> bool {
    in_folder("generation_config.json", bytes, |folder| GenerationConfig::load(folder).is_ok())
}

fn plan(bytes: &[u8]) -> bool {
    Plan::from_json(bytes).as_ref().map(look_at).is_ok()
}

fn plan_in_force(bytes: &[u8]) -> bool {
    let found = PlanInForce::from_json(&String::from_utf8_lossy(bytes));
    found.as_ref().map(|found| look_at(&found.plan)).is_ok()
}

/// All that is done with a plan before anything is loaded.
fn look_at(plan: &Plan) {
    let model = MemoryModel::of(plan);
    for (index, device) in plan.devices.iter().enumerate() {
        let _ = model.device(&device.blocks).used();
        let _ = plan.expected_blocks(DeviceIndex(index as u32)).len();
        let _ = plan.successor(DeviceIndex(index as u32));
        if let Ok(steps) = DeviceSteps::of(plan, device) {
            let _ = steps.choose(steps.most(), StepsInForce::default(), Nanos(u64::MAX));
            // What a device keeps for this one takes memory only when pages come.
            let asker = DeviceIndex(index as u32);
            let keeper = steps.hand_over().map(|over| over.to);
            let kept = keeper.map(|keeper| KeptPages::new(plan, asker, keeper, (Isa::Scalar, 1), Arc::default()));
            let _ = kept.is_some_and(|kept| kept.is_ok());
        }
    }
    let limits = FrameLimits::of(plan);
    let _ = (limits.pass_message_bytes(), limits.frame_message_bytes(), limits.result_message_bytes());
}

/// The header alone, beside the bundled model's config: what follows it is not read when a model is looked at.
fn safetensors(bytes: &[u8]) -> bool {
    let name = header_file("model.safetensors".as_ref());
    in_folder(&name.to_string_lossy(), bytes, |folder| {
        let config = fs::copy(fixtures::bard().join("config.json"), folder.join("config.json"));
        config.is_ok()
            && ModelFolder::open(folder).is_ok_and(|model| {
                let _ = model.card("foreign").weight_bytes();
                true
            })
    })
}

/// The header alone, as a weight store keeps it: what it says of the model, its tensors and its tokenizer.
fn gguf(bytes: &[u8]) -> bool {
    in_folder("model.gguf.header", bytes, |folder| {
        let path = folder.join("model.gguf");
        let files = Gguf::open(&path).and_then(|gguf| gguf.small_files(None));
        let model = ModelFolder::open(&path).map(|model| model.card("foreign").weight_bytes());
        files.is_ok() && model.is_ok()
    })
}

fn template(bytes: &[u8]) -> bool {
    let Ok(template) = ChatTemplate::from_source(&String::from_utf8_lossy(bytes), Map::new()) else { return false };
    let messages = json!([{"role": "user", "content": "Who goes there?"}, {"role": "assistant", "content": "Nay."}]);
    template.render(&messages, true, None, &Map::new()).is_ok()
}

fn tokenizer(bytes: &[u8]) -> bool {
    in_folder("tokenizer.json", bytes, |folder| {
        let Ok(tokenizer) = Tokenizer::open(folder) else { return false };
        let encoded = tokenizer.encode("To be, or not to be \u{e9}\u{1F600}", true);
        let _ = encoded.as_ref().map(|tokens| tokenizer.decode(tokens, false));
        let _ = tokenizer.decode(&[0, 1, 7, u32::MAX], true);
        encoded.is_ok()
    })
}

/// Reads `bytes` as the file `name` of a folder that is gone afterwards.
fn in_folder(name: &str, bytes: &[u8], read: impl FnOnce(&std::path::Path) -> bool) -> bool {
    let folder = tempfile::tempdir().expect("a folder for a moment");
    fs::write(folder.path().join(name), bytes).expect("a file in it");
    read(folder.path())
}
