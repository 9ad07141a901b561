//! All that serving reads of a model beside its weights: how text becomes tokens and tokens become text.

use std::{fmt, path::Path};

use crate::{
    error::TextError, generation::GenerationConfig, model_tokens::ModelTokens, special::Names, template::ChatTemplate,
    tokenizer::Tokenizer,
};

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
        let mut keep = |fault: TextError| faults.push(fault);
        let generation = GenerationConfig::load(dir).map_err(|fault| keep(fault.into())).ok();
        let model = ModelTokens::load(dir).map_err(|fault| keep(fault.into())).ok();
        let names = Names::load(dir).map_err(|fault| keep(fault.into())).ok();
        // What is wrong with the small files is said once; tokenizer and template are looked at all the same.
        let (known_model, known_names) = (model.is_some(), names.is_some());
        let (model, names) = (model.unwrap_or_default(), names.unwrap_or_default());
        let eos = generation.iter().flat_map(|generation| &generation.eos);
        let tokenizer = Tokenizer::open_beside(dir, eos.copied(), &model, &names).map_err(&mut keep).ok();
        let template = ChatTemplate::open_beside(dir, &names).map_err(&mut keep).ok();
        match (generation, tokenizer, template) {
            (Some(generation), Some(tokenizer), Some(template)) if known_model && known_names => {
                Ok(Self { tokenizer, template, generation })
            }
            _ => Err(TextFaults(faults)),
        }
    }
}

/// Why a model's texts cannot be served: at least one fault.
#[derive(Debug)]
pub struct TextFaults(pub Vec<TextError>);

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
