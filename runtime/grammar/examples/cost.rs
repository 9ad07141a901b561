//! What a mask costs over a vocabulary: `cargo run --release --example cost -- TOKENS`, a file with a token a line, its bytes in hexadecimal
//! digits, or `mark NAME`. Answers are drawn without a model, any token that may come being as likely.

use std::{
    error::Error,
    fs,
    time::{Duration, Instant},
};

use lime_grammar::{Form, Grammars, TokenText};
use serde_json::json;

const ANSWERS: u64 = 20;
const TOKENS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: cost TOKENS")?;
    let tokens: Vec<TokenText> = fs::read_to_string(path)?.lines().map(token).collect();
    let end =
        tokens.iter().position(|token| matches!(token, TokenText::Mark(_))).ok_or("there is no mark to end with")?
            as u32;
    println!("{} tokens", tokens.len());
    let begun = Instant::now();
    let grammars = Grammars::new(tokens, &[end])?;
    println!("laid out in {:?}", begun.elapsed());
    let person = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "age", "tags", "address"],
        "properties": {
            "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "email": {"type": "string", "format": "email"}, "tags": {"type": "array", "items": {"type": "string"}},
            "address": {"type": "object", "properties": {"street": {"type": "string"}, "born": {"type": "string", "format": "date"}}},
        },
    });
    let date = r"\d{4}-\d{2}-\d{2}";
    let sum = "start: sum\nsum: product ((\"+\"|\"-\") product)*\nproduct: atom ((\"*\"|\"/\") atom)*\natom: NUM | \"(\" sum \")\"\nNUM: /[0-9]+/";
    for (name, form) in [
        ("any object", Form::JsonObject),
        ("a person", Form::JsonSchema(person)),
        ("a date", Form::Regex(date.into())),
        ("words", Form::Regex("([a-z]+ )*[a-z]+\\.".into())),
        ("a sum", Form::Lark(sum.into())),
    ] {
        let begun = Instant::now();
        let grammar = grammars.compile(&form)?;
        let compiled = begun.elapsed();
        let (mut times, mut begins) = (Vec::new(), Vec::new());
        for seed in 0..ANSWERS {
            let mut random = fastrand::Rng::with_seed(seed);
            let begun = Instant::now();
            let mut matcher = grammar.matcher();
            begins.push(begun.elapsed());
            for _ in 0..TOKENS {
                let count = matcher.allowed().len();
                let Some(token) = matcher.allowed().iter().nth(random.u32(..count) as usize) else { break };
                if token == end {
                    break;
                }
                let begun = Instant::now();
                matcher.advance(token)?;
                times.push(begun.elapsed());
                if matcher.is_over() {
                    break;
                }
            }
        }
        println!(
            "{name}: compiled in {compiled:?}, begun in {:?}; {} tokens, median {:?}, nine in ten {:?}, longest {:?}",
            at(&mut begins, 0.5),
            times.len(),
            at(&mut times, 0.5),
            at(&mut times, 0.9),
            at(&mut times, 1.0)
        );
    }
    Ok(())
}

fn token(line: &str) -> TokenText {
    if let Some(name) = line.strip_prefix("mark ") {
        return TokenText::Mark(name.into());
    }
    let digits = line.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    TokenText::Text(digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect())
}

fn at(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times.get(((times.len().saturating_sub(1)) as f64 * part) as usize).copied().unwrap_or_default()
}
