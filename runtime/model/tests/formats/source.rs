//! Model folders: found tensors, and every kind of damage.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lime_model::{BlockLayout, ModelConfig, ModelFolder, TensorRole};
use lime_plan::{Block, Dtype, Format, LayerIndex};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::places::{fixture, json as read_json, shared};

const CONFIG: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5, "max_position_embeddings": 8, "dtype": "float32"}"#;

/// Name, shape; all f32.
type Tensors = Vec<(&'static str, Vec<usize>)>;

fn tensors() -> Tensors {
    vec![
        ("model.embed_tokens.weight", vec![5, 4]),
        ("model.layers.0.input_layernorm.weight", vec![4]),
        ("model.layers.0.self_attn.q_proj.weight", vec![4, 4]),
        ("model.layers.0.self_attn.k_proj.weight", vec![2, 4]),
        ("model.layers.0.self_attn.v_proj.weight", vec![2, 4]),
        ("model.layers.0.self_attn.o_proj.weight", vec![4, 4]),
        ("model.layers.0.self_attn.q_proj.bias", vec![4]),
        ("model.layers.0.self_attn.k_proj.bias", vec![2]),
        ("model.layers.0.self_attn.v_proj.bias", vec![2]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", vec![1]),
        ("model.layers.0.post_attention_layernorm.weight", vec![4]),
        ("model.layers.0.mlp.gate_proj.weight", vec![6, 4]),
        ("model.layers.0.mlp.up_proj.weight", vec![6, 4]),
        ("model.layers.0.mlp.down_proj.weight", vec![4, 6]),
        ("model.norm.weight", vec![4]),
        ("lm_head.weight", vec![5, 4]),
    ]
}

fn header(tensors: &Tensors) -> (Value, usize) {
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * 4;
        header[*name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
    }
    (header, end)
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    bytes
}

fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let (header, data) = header(tensors);
    file(&header.to_string(), data)
}

fn folder(config: &str, weights: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    folder
}

fn refusal(weights: &[u8]) -> String {
    fault(folder(CONFIG, weights).path())
}

fn fault(folder: &Path) -> String {
    ModelFolder::open(folder).unwrap_err().to_string()
}

/// Every tensor of the folder lies in its file where the entry says, by the file's own parser.
fn entries_point_at_tensors(path: &Path) {
    let folder = ModelFolder::open(path).unwrap();
    for block in folder.card("m").all_blocks() {
        let entries = folder.tensors(block).unwrap();
        let layout = BlockLayout::of(folder.config(), block);
        assert_eq!(entries.len(), layout.entries.len());
        for (entry, place) in entries.iter().zip(&layout.entries) {
            assert_eq!((entry.role, entry.bytes, &entry.shape), (place.role, place.bytes, &place.shape));
            let bytes = fs::read(&entry.file).unwrap();
            let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let view = parsed.tensor(&entry.name).unwrap();
            let (from, to) = (entry.offset as usize, (entry.offset + entry.bytes) as usize);
            assert!(std::ptr::eq(view.data(), &bytes[from..to]), "{}", entry.name);
        }
    }
}

#[test]
fn the_bundled_model_opens() {
    entries_point_at_tensors(&fixture("models/bard-2m"));
}

#[test]
fn shared_models_open_in_every_form() {
    for name in
        ["stories260k", "stories260k/variants/bf16", "stories260k/variants/f16", "stories260k/variants/sharded-f32"]
    {
        let Some(path) = shared(name) else { return };
        entries_point_at_tensors(&path);
    }
}

#[test]
fn shards_are_those_of_the_index() {
    let Some(path) = shared("stories260k/variants/sharded-f32") else { return };
    let folder = ModelFolder::open(&path).unwrap();
    let index = read_json(path.join("model.safetensors.index.json"));
    for entry in folder.tensors(Block::Mlp(LayerIndex(4))).unwrap() {
        assert_eq!(entry.file, path.join(index["weight_map"][&entry.name].as_str().unwrap()));
    }
}

#[test]
fn tensors_that_the_model_does_not_use_are_ignored() {
    let folder = folder(CONFIG, &safetensors(&tensors()));
    let opened = ModelFolder::open(folder.path()).unwrap();
    assert_eq!(opened.tensors(Block::Attention(LayerIndex(0))).unwrap().len(), 8);
    assert!(opened.tensors(Block::Mlp(LayerIndex(1))).is_err());
}

#[test]
fn a_tied_matrix_has_either_name() {
    let tied = CONFIG.replace("\"dtype\"", "\"tie_word_embeddings\": true, \"dtype\"");
    for (without, used) in
        [("lm_head.weight", "model.embed_tokens.weight"), ("model.embed_tokens.weight", "lm_head.weight")]
    {
        let kept = tensors().into_iter().filter(|(name, _)| *name != without).collect();
        let folder = folder(&tied, &safetensors(&kept));
        let opened = ModelFolder::open(folder.path()).unwrap();
        let embedding = opened.tensors(Block::Embedding).unwrap().remove(0);
        let output = opened.tensors(Block::Head).unwrap().remove(1);
        assert_eq!((embedding.role, output.role), (TensorRole::Embedding, TensorRole::Output));
        assert_eq!((embedding.name.as_str(), output.name.as_str()), (used, used));
        assert_eq!((embedding.offset, output.format), (output.offset, Format::F32));
    }
    let neither =
        tensors().into_iter().filter(|(name, _)| !name.contains("embed") && !name.contains("lm_head")).collect();
    let message = fault(folder(&tied, &safetensors(&neither)).path());
    assert!(message.contains("\"model.embed_tokens.weight\" is missing (nor \"lm_head.weight\""), "{message}");
}

#[test]
fn a_head_of_its_own_is_used_whatever_the_config_says() {
    let tied = CONFIG.replace("\"dtype\"", "\"tie_word_embeddings\": true, \"dtype\"");
    let folder = folder(&tied, &safetensors(&tensors()));
    entries_point_at_tensors(folder.path());
    let opened = ModelFolder::open(folder.path()).unwrap();
    assert!(!opened.config().tied && !opened.card("m").tied);
    assert_eq!(opened.tensors(Block::Embedding).unwrap()[0].name, "model.embed_tokens.weight");
    assert_eq!(opened.tensors(Block::Head).unwrap()[1].name, "lm_head.weight");
    assert!(opened.remarks()[0].contains("lm_head.weight lies beside the embedding"), "{:?}", opened.remarks());
    // An index says the same of weights that are not there.
    let bare = sharded(&index());
    fs::write(bare.path().join("config.json"), &tied).unwrap();
    assert!(!ModelConfig::load_without_weights(bare.path()).unwrap().tied);
    fs::remove_file(bare.path().join("model.safetensors.index.json")).unwrap();
    assert!(ModelConfig::load_without_weights(bare.path()).unwrap().tied);
}

/// The file with some tensors stored in another type of as many bytes, or none.
fn retyped(types: &[(&str, &str)]) -> Vec<u8> {
    let mut header = json!({});
    let mut end = 0;
    for (name, shape) in tensors() {
        let dtype = types.iter().find(|(tensor, _)| *tensor == name).map_or("F32", |(_, dtype)| dtype);
        let start = end;
        end += shape.iter().product::<usize>() * if dtype == "F32" { 4 } else { 2 };
        header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
    }
    file(&header.to_string(), end)
}

#[test]
fn types_are_those_of_the_headers() {
    let norms = ["model.layers.0.input_layernorm.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"];
    let ends = ["model.embed_tokens.weight", "lm_head.weight"];
    let types: Vec<_> = norms.into_iter().chain(ends).map(|name| (name, "BF16")).collect();
    for declared in ["\"float32\"", "\"bfloat16\"", "\"auto\"", "null"] {
        let config = CONFIG.replace("\"float32\"", declared);
        let folder = folder(&config, &retyped(&types));
        entries_point_at_tensors(folder.path());
        let opened = ModelFolder::open(folder.path()).unwrap();
        assert_eq!(opened.config().dtype(), Dtype::F32);
        let found = |block| opened.tensors(block).unwrap().into_iter().map(|it| it.format).collect::<Vec<_>>();
        use Format::{Bf16, F32};
        let attention = Block::Attention(LayerIndex(0));
        assert_eq!(found(attention), [Bf16, F32, F32, F32, F32, Bf16, F32, F32]);
        assert_eq!((found(Block::Embedding), found(Block::Head)), (vec![Bf16], vec![Bf16, Bf16]));
        let said = opened
            .remarks()
            .iter()
            .any(|remark| remark.contains("config.json says bf16, the weights are stored as f32"));
        assert_eq!(said, declared == "\"bfloat16\"", "{:?}", opened.remarks());
    }
    let folder = folder(CONFIG, &retyped(&[("model.layers.0.mlp.up_proj.weight", "BF16")]));
    let message = fault(folder.path());
    assert!(message.contains("\"model.layers.0.mlp.up_proj.weight\" is stored as bf16"), "{message}");
    assert!(message.contains("other matrices of the layers as f32"), "{message}");
}

#[test]
fn tensors_without_a_place_are_counted_or_refused() {
    let opened = folder(CONFIG, &safetensors(&tensors()));
    let said = ModelFolder::open(opened.path()).unwrap().remarks().to_vec();
    assert_eq!(said, ["one tensor is not used: model.layers.0.self_attn.rotary_emb.inv_freq"]);
    let with = |more: &[&'static str]| {
        let mut all = tensors();
        all.extend(more.iter().map(|name| (*name, vec![4])));
        folder(CONFIG, &safetensors(&all))
    };
    let opened = with(&["score.weight", "value_head.weight"]);
    let said = ModelFolder::open(opened.path()).unwrap().remarks().to_vec();
    assert_eq!(said, ["3 tensors are not used, such as model.layers.0.self_attn.rotary_emb.inv_freq"]);
    for name in [
        "model.layers.0.self_attn.o_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "model.layers.1.input_layernorm.weight",
        "lm_head.bias",
    ] {
        let message = fault(with(&[name]).path());
        assert!(message.contains(&format!("{name:?} is in the file and has no place")), "{message}");
    }
}

#[test]
fn weights_in_another_form_are_named() {
    for (file, part) in [
        ("llama.Q4_K_M.gguf", "a GGUF file"),
        ("pytorch_model-00001-of-00002.bin", "pickled weights"),
        ("consolidated.safetensors", "their makers' own names"),
        ("model-00001-of-00002.safetensors", "without model.safetensors.index.json"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), "x").unwrap();
        let message = fault(folder.path());
        assert!(message.contains("config.json is missing: there is") && message.contains(part), "{message}");
        fs::write(folder.path().join("config.json"), CONFIG).unwrap();
        let message = fault(folder.path());
        assert!(message.contains("model.safetensors is missing: there is") && message.contains(file), "{message}");
    }
}

#[test]
fn an_index_goes_before_a_stray_file() {
    let folder = sharded(&index());
    fs::write(folder.path().join("model.safetensors"), "something else").unwrap();
    entries_point_at_tensors(folder.path());
}

#[test]
fn every_missing_tensor_is_named() {
    for (missing, _) in tensors() {
        if missing.ends_with("inv_freq") {
            continue;
        }
        let kept = tensors().into_iter().filter(|(name, _)| *name != missing).collect();
        let message = refusal(&safetensors(&kept));
        assert!(message.contains(&format!("tensor {missing:?} is missing")), "{message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn a_wrong_shape_or_dtype_is_named() {
    for place in [0, 2, 6, 13, 15] {
        let mut wrong = tensors();
        wrong[place].1[0] += 1;
        let message = refusal(&safetensors(&wrong));
        assert!(message.contains(wrong[place].0) && message.contains("has shape"), "{message}");
    }
    let mut transposed = tensors();
    transposed[13].1.reverse();
    assert!(refusal(&safetensors(&transposed)).contains("has shape [6, 4], config.json asks for [4, 6]"));
    let (mut header, data) = header(&tensors());
    header["model.norm.weight"]["dtype"] = json!("I32");
    let message = refusal(&file(&header.to_string(), data));
    assert!(message.contains("\"model.norm.weight\" is stored as I32, which is not supported"), "{message}");
}

#[test]
fn damaged_files_are_named() {
    let whole = safetensors(&tensors());
    let (good, data) = header(&tensors());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut header = good.clone();
        change(&mut header);
        file(&header.to_string(), data)
    };
    let lying = |length: u64| [&length.to_le_bytes()[..], &whole[8..]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "too few"),
        ("seven bytes", whole[..7].to_vec(), "too few"),
        ("length alone", whole[..8].to_vec(), "the header claims"),
        ("cut in the header", whole[..100].to_vec(), "the header claims"),
        ("cut in the data", whole[..whole.len() - 1].to_vec(), "cut short"),
        ("bytes at the end", [&whole[..], &[0]].concat(), "belong to no tensor"),
        ("huge header", lying(u64::MAX), "the header claims"),
        ("header past the end", lying(whole.len() as u64 - 7), "the header claims"),
        ("no header", lying(0), "header is damaged"),
        ("header too short", lying(20), "header is damaged"),
        ("not JSON", file("{]", data), "header is damaged"),
        ("not UTF-8", [&3u64.to_le_bytes()[..], &[0xff, 0xfe, 0xfd]].concat(), "header is damaged"),
        ("a list", file("[]", data), "header is damaged"),
        (
            "offsets past the end",
            with(&|h| h["lm_head.weight"]["data_offsets"][1] = json!(1u64 << 50)),
            "header is damaged",
        ),
        ("offsets reversed", with(&|h| h["lm_head.weight"]["data_offsets"] = json!([100, 20])), "header is damaged"),
        ("overlap", with(&|h| h["lm_head.weight"]["data_offsets"] = json!([0, 80])), "header is damaged"),
        ("shape overflows", with(&|h| h["lm_head.weight"]["shape"] = json!([1u64 << 62, 8])), "header is damaged"),
        ("shape negative", with(&|h| h["lm_head.weight"]["shape"] = json!([-5, 4])), "header is damaged"),
        ("unknown dtype", with(&|h| h["lm_head.weight"]["dtype"] = json!("Q9_9")), "header is damaged"),
        (
            "no offsets",
            with(&|h| drop(h["lm_head.weight"].as_object_mut().unwrap().remove("data_offsets"))),
            "header is damaged",
        ),
    ];
    for (what, bytes, part) in cases {
        let message = refusal(&bytes);
        assert!(message.contains("model.safetensors: ") && message.contains(part), "{what}: {message}");
    }
}

#[test]
fn a_folder_without_weights_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(fault(folder.path()).contains("config.json is missing"));
    assert!(fault(&folder.path().join("nowhere")).contains("config.json is missing"));
    fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    let message = fault(folder.path());
    assert!(message.contains("model.safetensors is missing") && message.contains("index.json"), "{message}");
}

fn sharded(index: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let all = tensors();
    let (first, second) = all.split_at(9);
    fs::write(folder.path().join("a.safetensors"), safetensors(&first.to_vec())).unwrap();
    fs::write(folder.path().join("b.safetensors"), safetensors(&second.to_vec())).unwrap();
    folder
}

fn index() -> Value {
    let place = |(number, (name, _)): (usize, (&str, Vec<usize>))| {
        (name.to_owned(), json!(if number < 9 { "a.safetensors" } else { "b.safetensors" }))
    };
    json!({"metadata": {}, "weight_map": Value::Object(tensors().into_iter().enumerate().map(place).collect())})
}

#[test]
fn a_damaged_index_is_named() {
    entries_point_at_tensors(sharded(&index()).path());
    let with = |tensor: &str, file: Value| {
        let mut index = index();
        index["weight_map"][tensor] = file;
        fault(sharded(&index).path())
    };
    let cases = [
        (fault(sharded(&json!({})).path()), "weight_map"),
        (fault(sharded(&json!([])).path()), "expected a JSON object"),
        (fault(sharded(&json!({"weight_map": []})).path()), "\"weight_map\" must be an object"),
        (with("lm_head.weight", json!(5)), "must be given the name of a file in this folder"),
        (with("lm_head.weight", json!("missing.safetensors")), "missing.safetensors is missing"),
        (
            with("lm_head.weight", json!("a.safetensors")),
            "\"lm_head.weight\" is missing; model.safetensors.index.json says",
        ),
        (with("lm_head.weight", json!("config.json")), "config.json: "),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message:?} does not contain {part:?}");
    }
    let mut short = index();
    short["weight_map"].as_object_mut().unwrap().remove("model.norm.weight");
    assert!(fault(sharded(&short).path()).contains("\"model.norm.weight\" is missing"));
    // Not even of a model whose config would do without it.
    let mut headless = index();
    headless["weight_map"].as_object_mut().unwrap().remove("lm_head.weight");
    let folder = sharded(&headless);
    fs::write(
        folder.path().join("config.json"),
        CONFIG.replace("\"dtype\"", "\"tie_word_embeddings\": true, \"dtype\""),
    )
    .unwrap();
    let message = fault(folder.path());
    assert!(
        message.contains("\"lm_head.weight\" is in this file, and model.safetensors.index.json does not"),
        "{message}"
    );
}

#[test]
fn an_index_cannot_leave_its_folder() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.safetensors");
    fs::write(&secret, safetensors(&tensors())).unwrap();
    let absolute = secret.to_str().unwrap().to_owned();
    for path in ["../b.safetensors", "..", ".", "", "/etc/passwd", "x/../../b.safetensors", "a\0b", "..\\b", &absolute]
    {
        let mut index = index();
        index["weight_map"]["lm_head.weight"] = json!(path);
        let message = fault(sharded(&index).path());
        assert!(message.contains("must be given the name of a file in this folder"), "{path:?}: {message}");
    }
}

#[test]
fn errors_name_the_path() {
    let folder = folder(CONFIG, b"nonsense!");
    let path: PathBuf = folder.path().join("model.safetensors");
    assert!(fault(folder.path()).starts_with(path.to_str().unwrap()));
}
