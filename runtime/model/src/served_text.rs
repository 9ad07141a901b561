//! All that serving reads of a model beside its weights: how text becomes tokens and tokens become text.

use std::{fmt, path::Path};

use crate::{ChatTemplate, GenerationConfig, ModelConfig, ModelError, Tokenizer, special::Names};

/// A model's tokenizer, chat template and sampling defaults.
pub struct ServedText {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// From conversations to text, where the model has one.
    pub template: Option<ChatTemplate>,
    /// Defaults for requests that leave sampling open.
    pub generation: GenerationConfig,
}

impl ServedText {
    /// Opens all of it in a model's folder.
    ///
    /// # Errors
    /// Every fault, not the first alone.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TextFaults> {
        let dir = dir.as_ref();
        let mut faults = Vec::new();
        let mut keep = |fault| faults.push(fault);
        let generation = GenerationConfig::load(dir).map_err(&mut keep).ok();
        let config = match ModelConfig::load(dir) {
            Ok(config) => Some(Some(config)),
            Err(ModelError::Missing { .. }) => Some(None),
            Err(fault) => {
                keep(fault);
                None
            }
        };
        // What is wrong with them is said once; tokenizer and template are looked at all the same.
        let names = Names::load(dir).map_err(&mut keep).ok();
        let known = names.is_some();
        let names = names.unwrap_or_default();
        let eos = generation.iter().flat_map(|generation| &generation.eos);
        let tokenizer = Tokenizer::open_beside(dir, eos.copied(), config.as_ref().and_then(Option::as_ref), &names);
        let tokenizer = tokenizer.map_err(&mut keep).ok();
        let template = ChatTemplate::open_beside(dir, &names).map_err(&mut keep).ok();
        match (generation, config, tokenizer, template) {
            (Some(generation), Some(_), Some(tokenizer), Some(template)) if known => {
                Ok(Self { tokenizer, template, generation })
            }
            _ => Err(TextFaults(faults)),
        }
    }
}

/// Why a model's texts cannot be served: at least one fault.
#[derive(Debug)]
pub struct TextFaults(pub Vec<ModelError>);

impl fmt::Display for TextFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.0.iter().enumerate() {
            let between = if place > 0 { "; " } else { "" };
            write!(f, "{between}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TextFaults {}
