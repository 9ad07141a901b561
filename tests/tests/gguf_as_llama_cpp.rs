//! GGUF files mean what llama.cpp makes of them: ids of texts.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::Result;
use lime_model::Gguf;
use lime_tests::{fixtures::repository, real_model::smollm2_gguf};
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

fn golden<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = repository().join("tests/fixtures/gguf").join(name);
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// The GGUF file behind a golden name; says so where it is not to be had.
fn file(name: &str) -> Result<Option<PathBuf>> {
    if name == "smollm2" {
        return smollm2_gguf();
    }
    let path = repository().join("../shared/models/stories260k/gguf/stories260k-Q8_0.gguf");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return Ok(None);
    }
    Ok(Some(path))
}

#[test]
fn texts_have_the_ids_of_llama_cpp() -> Result<()> {
    let golden: Tokens = golden("tokens.json")?;
    assert_eq!(golden.models.len(), 2);
    for (name, Ids { plain, around }) in &golden.models {
        let Some(path) = file(name)? else { continue };
        let folder = tempfile::tempdir()?;
        for (file, bytes) in Gguf::open(&path)?.small_files(None)? {
            fs::write(folder.path().join(file), bytes)?;
        }
        let tokenizer = Tokenizer::open(folder.path())?;
        let mut wrong = Vec::new();
        for (ids, special) in [(plain, false), (around, true)] {
            for (text, ids) in golden.texts.iter().zip(ids) {
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
