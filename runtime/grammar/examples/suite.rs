//! How much of JSON Schema grammars keep to, by the official suite: `cargo run --example suite -- FOLDER/tests/draft2020-12`.
//!
//! A schema that is not supported is refused, which is right. What a grammar takes must be valid; that it takes less than all that is valid
//! (properties in another order, say) costs a model some freedom and nobody an error.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use lime_grammar::{Form, Grammars, TokenText};
use serde_json::Value;

#[derive(Default)]
struct Count {
    refused: usize,
    valid_taken: usize,
    valid: usize,
    invalid_taken: usize,
    invalid: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: suite FOLDER")?;
    let mut tokens: Vec<TokenText> = (0..=255).map(|byte| TokenText::Text(vec![byte])).collect();
    tokens.push(TokenText::Mark("<end>".into()));
    let grammars = Grammars::new(tokens, &[256])?;
    let mut files: Vec<_> =
        fs::read_dir(Path::new(&folder))?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let groups: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let count = counts.entry(name).or_default();
        for group in groups.as_array().into_iter().flatten() {
            let Ok(grammar) = grammars.compile(&Form::JsonSchema(group["schema"].clone())) else {
                count.refused += 1;
                continue;
            };
            for test in group["tests"].as_array().into_iter().flatten() {
                let mut matcher = grammar.matcher();
                let text = test["data"].to_string();
                let fits = text
                    .bytes()
                    .all(|byte| matcher.allowed().contains(byte.into()) && matcher.advance(byte.into()).is_ok());
                let taken = fits && (matcher.is_over() || matcher.allowed().contains(256));
                let valid = test["valid"] == true;
                if valid {
                    count.valid += 1;
                    count.valid_taken += usize::from(taken);
                } else {
                    count.invalid += 1;
                    count.invalid_taken += usize::from(taken);
                    if taken {
                        println!(
                            "takes what is invalid: {} / {}: {}",
                            group["description"], test["description"], group["schema"]
                        );
                    }
                }
            }
        }
    }
    let sum = |of: fn(&Count) -> usize| counts.values().map(of).sum::<usize>();
    for (name, count) in &counts {
        println!(
            "{name}: {} schemas refused; valid taken {}/{}, invalid taken {}/{}",
            count.refused, count.valid_taken, count.valid, count.invalid_taken, count.invalid
        );
    }
    println!(
        "all: {} schemas refused; valid taken {}/{}, invalid taken {}/{}",
        sum(|count| count.refused),
        sum(|count| count.valid_taken),
        sum(|count| count.valid),
        sum(|count| count.invalid_taken),
        sum(|count| count.invalid)
    );
    Ok(())
}
