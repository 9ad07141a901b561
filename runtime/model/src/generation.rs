//! What `generation_config.json` says about sampling: defaults for requests that leave it open.

use std::path::Path;

use serde_json::Value;

use crate::{
    ModelError,
    json::{Fields, read_bounded},
};

const GENERATION_FILE: &str = "generation_config.json";
const GENERATION_LIMIT: u64 = 1 << 20;

/// A model's own sampling defaults. Whatever the file leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Whether the model's makers sample at all; greedy where false.
    pub do_sample: Option<bool>,
    /// Temperature.
    pub temperature: Option<f32>,
    /// Nucleus.
    pub top_p: Option<f32>,
    /// Number of likeliest tokens; 0 for all.
    pub top_k: Option<u32>,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
}

impl GenerationConfig {
    /// Reads `generation_config.json` in `dir`. A folder without one has no defaults.
    ///
    /// # Errors
    /// A file that cannot be read, is no JSON, or has a value out of range.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(GENERATION_FILE);
        let bytes = match read_bounded(&path, GENERATION_LIMIT, "") {
            Err(ModelError::Missing { .. }) => return Ok(Self::default()),
            other => other?,
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|fault| ModelError::Config { path: path.clone(), reason: format!("not valid JSON: {fault}") })?;
        let fields = Fields::new(&path, &value)?;
        let do_sample = match fields.get("do_sample") {
            Some(_) => Some(fields.flag("do_sample", false)?),
            None => None,
        };
        let number = |name, high| Ok::<_, ModelError>(fields.number(name, 0.0, high)?.map(|number| number as f32));
        Ok(Self {
            do_sample,
            temperature: number("temperature", 100.0)?,
            top_p: number("top_p", 1.0)?,
            // Some write -1 for all.
            top_k: fields.number("top_k", -1.0, f64::from(u32::MAX))?.map(|count| count.max(0.0) as u32),
            eos: fields.token_ids("eos_token_id")?,
        })
    }
}
