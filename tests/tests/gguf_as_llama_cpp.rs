//! GGUF files mean what llama.cpp makes of them: ids of texts, and the tokens that follow prompts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use lime_model::{Gguf, ModelFolder, gguf_header_bytes};
use lime_tests::{fixtures::repository, one_engine::OneEngine, real_model::smollm2_gguf};
use lime_text::Tokenizer;
use serde::{Deserialize, de::DeserializeOwned};

/// Texts and their ids by model: without and with what is put around a text.
#[derive(Deserialize)]
struct Tokens {
    texts: Vec<String>,
    models: BTreeMap<String, Ids>,
}

#[derive(Deserialize)]
struct Ids {
    plain: Vec<Vec<u32>>,
    around: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Greedy {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    /// How far the best logit is above the second.
    margins: Vec<f32>,
    /// How far llama.cpp's likeliest logits are from those of the same weights in f32: it rounds activations too.
    off: f32,
}

fn golden<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = repository().join("tests/fixtures/gguf").join(name);
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// The GGUF file behind a golden name; says so where it is not to be had.
fn file(name: &str) -> Result<Option<PathBuf>> {
    if name == "smollm2" || is_cut(name) {
        return smollm2_gguf();
    }
    let path = repository().join("../shared/models/stories260k/gguf/stories260k-Q8_0.gguf");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return Ok(None);
    }
    Ok(Some(path))
}

/// Whether a golden name is the way in which texts are cut, by the vocabulary of SmolLM2.
fn is_cut(name: &str) -> bool {
    !matches!(name, "smollm2" | "stories260k")
}

/// Whether llama.cpp means to do with a text what the makers of such tokenizers do: it does not compose letters and marks, as those of
/// Qwen do, and its expression for tekken knows no letters beyond ASCII.
fn is_alike(name: &str, text: &str) -> bool {
    match name {
        "qwen2" => !text.contains('\u{301}'),
        "tekken" => text.is_ascii(),
        _ => true,
    }
}

/// The header of SmolLM2's file, whose texts are cut as `pre` says, and which does not say whether they begin with a token of their own.
fn cut_as(path: &Path, pre: &str) -> Result<Gguf> {
    let mut header = fs::read(path)?;
    let (size, _) = gguf_header_bytes(&header).map_err(|reason| anyhow!(reason))?;
    header.truncate(size.context("a whole file has a whole header")? as usize);
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let place = |header: &[u8], bytes: &[u8]| header.windows(bytes.len()).position(|window| window == bytes);
    let key = place(&header, b"add_bos_token").context("the file says whether")?;
    header[key] = b'x';
    let (old, new) = (text("smollm"), text(pre));
    let at = place(&header, &old).context("its texts are cut as smollm says")?;
    header.splice(at..at + old.len(), new);
    // The end of the header is padded anew.
    header.extend([0; 64]);
    Ok(Gguf::of_headers([(path.to_owned(), &header[..])])?)
}

#[test]
fn texts_have_the_ids_of_llama_cpp() -> Result<()> {
    let golden: Tokens = golden("tokens.json")?;
    assert_eq!(golden.models.len(), 6);
    for (name, Ids { plain, around }) in &golden.models {
        let Some(path) = file(name)? else { continue };
        let gguf = if is_cut(name) { cut_as(&path, name)? } else { Gguf::open(&path)? };
        let folder = tempfile::tempdir()?;
        for (file, bytes) in gguf.small_files(None)? {
            fs::write(folder.path().join(file), bytes)?;
        }
        let tokenizer = Tokenizer::open(folder.path())?;
        let mut wrong = Vec::new();
        for (ids, special) in [(plain, false), (around, true)] {
            for (text, ids) in golden.texts.iter().zip(ids).filter(|(text, _)| is_alike(name, text)) {
                let found = tokenizer.encode(text, special)?;
                if found != *ids {
                    wrong.push(format!("{text:?}: {found:?}, llama.cpp's {ids:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{name}: {} of {}: {wrong:#?}", wrong.len(), 2 * golden.texts.len());
    }
    Ok(())
}

#[test]
fn what_follows_prompts_is_what_llama_cpp_says_up_to_near_ties() -> Result<()> {
    let Some(path) = smollm2_gguf()? else { return Ok(()) };
    let golden: Greedy = golden("greedy.json")?;
    assert_eq!(golden.cases.len(), 20);
    let mut engine = OneEngine::load(&path, 128, 2)?;
    let (mut same, mut all) = (0, 0);
    for (number, Case { prompt, ids, margins, off }) in golden.cases.iter().enumerate() {
        // Each place is looked at after llama.cpp's own tokens, so that one near tie does not hide what comes behind it.
        let sequence: Vec<u32> = prompt.iter().chain(&ids[..ids.len() - 1]).copied().collect();
        let logits = engine.logits(&sequence)?;
        for ((row, id), margin) in logits[prompt.len() - 1..].iter().zip(ids).zip(margins) {
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or_default();
            (same, all) = (same + usize::from(best as u32 == *id), all + 1);
            let ours = row[best] - row[*id as usize];
            if best as u32 != *id {
                println!("prompt {number}: {best} by {ours} instead of {id}, llama.cpp's by {margin}");
            }
            assert!(ours < *off, "prompt {number}: {best}, by {ours}, instead of {id}, llama.cpp's by {margin}");
        }
    }
    println!("{same} of {all} tokens are llama.cpp's");
    assert!(same * 100 >= all * 98);
    // The bytes of this file, and no other, gave the golden tokens.
    assert_eq!(ModelFolder::open(&path)?.config().vocabulary, 49_152);
    Ok(())
}
