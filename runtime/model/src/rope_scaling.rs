//! How a set of rotary fields in a `config.json` stretches positions.

use lime_files::{Fields, FileError, kind};
use serde_json::Value;

use crate::{
    family::Family,
    layer_spec::RopeSpec,
    reach::Limit,
    rope::{RopeConfig, RopeScaling},
};

const MOST: f64 = 1e12;
const SMALLEST_FACTOR: f64 = 1e-6;

/// In every kind of scaling, obeyed or without a meaning for sums.
const COMMON_FIELDS: &[&str] = &[
    "finetuned",
    "llama_4_scaling_beta",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
];
/// These change nothing where they are one.
const FACTORS: &[&str] = &["attention_factor", "attn_factor", "extrapolation_factor", "factor"];

/// Rotary positions that are stretched, and the context that follows.
#[derive(Debug)]
pub(crate) struct Scaled {
    pub(crate) rope: RopeSpec,
    /// The context that the config says, or the longer one that YaRN stretches it to.
    pub(crate) context: usize,
    /// Where something sets in that this build does not have.
    pub(crate) limit: Option<Limit>,
    /// What a person should know of it.
    pub(crate) remarks: Vec<String>,
}

/// The rope's own fields and those around them.
pub(crate) struct Scaling<'a, 'f> {
    pub(crate) config: &'f Fields<'a>,
    pub(crate) nested: &'f Fields<'a>,
    /// As the config says it.
    pub(crate) context: usize,
    /// Elements of a head that are rotated.
    pub(crate) width: usize,
}

impl Scaling<'_, '_> {
    /// The fields with this base.
    pub(crate) fn read(&self, family: &Family, theta: f64) -> Result<Scaled, FileError> {
        let name = self.nested.text(self.nested.either("rope_type", "type")?)?.unwrap_or("default");
        let original = self.original_context()?;
        let mut rotation = Scaled {
            rope: RopeSpec { config: RopeConfig::plain(theta), width: self.width },
            context: self.context,
            limit: self.temperature(original)?,
            remarks: self.original_context_remark().into_iter().collect(),
        };
        match name {
            "default" => self.only(name, &[])?,
            "linear" => {
                self.only(name, &["factor"])?;
                rotation.rope.config.scaling = RopeScaling::Linear { factor: self.required(name, "factor")? };
            }
            "dynamic" => {
                self.only(name, &["factor"])?;
                self.required(name, "factor")?;
                let tokens = original.map_or(self.context, |original| (original as usize).min(self.context));
                rotation.remarks.push(format!(
                    "rope type \"dynamic\" turns positions otherwise beyond {tokens} tokens: up to there the model is exact without it, and \
                     the context ends there"
                ));
                rotation.context = tokens;
            }
            "llama3" => {
                self.only(name, &["factor", "low_freq_factor", "high_freq_factor"])?;
                rotation.rope.config.scaling = self.llama3(original)?;
            }
            "yarn" if family.rope.yarn => {
                const OWN: &[&str] = &[
                    "factor",
                    "beta_fast",
                    "beta_slow",
                    "mscale",
                    "mscale_all_dim",
                    "truncate",
                    "attention_factor",
                    "attn_factor",
                ];
                self.only(name, OWN)?;
                self.yarn(original, &mut rotation)?;
            }
            "longrope" | "su" | "yarn" if family.rope.long => {
                self.only(name, &["attention_factor", "factor", "long_factor", "short_factor"])?;
                self.long(original, &mut rotation)?;
            }
            other => {
                return Err(self.nested.error(format!(
                    "the rope type {other:?} is not supported: this build knows default, linear, llama3 and yarn, dynamic up to where \
                     it sets in, and longrope in Phi's models"
                )));
            }
        }
        Ok(rotation)
    }

    /// Refuses fields that this kind of rope does not have, unless they change nothing.
    fn only(&self, name: &str, own: &[&str]) -> Result<(), FileError> {
        let is_neutral = |field: &str, value: &serde_json::Value| {
            value.is_null() || (FACTORS.contains(&field) && value.as_f64() == Some(1.0))
        };
        let known = |field: &str| COMMON_FIELDS.contains(&field) || own.contains(&field);
        match self.nested.values().find(|(field, value)| !known(field) && !is_neutral(field, value)) {
            None => Ok(()),
            Some((field, value)) => {
                let value = kind(value);
                Err(self.nested.error(format!("the field {field:?} ({value}) is not known for the rope type {name:?}")))
            }
        }
    }

    fn required(&self, name: &str, field: &'static str) -> Result<f64, FileError> {
        let missing = || self.nested.error(format!("rope type {name:?} needs the field {field:?}"));
        self.nested.number(field, SMALLEST_FACTOR, MOST)?.ok_or_else(missing)
    }

    /// The context trained first, where it is given.
    fn original_context(&self) -> Result<Option<f64>, FileError> {
        let top = self.config.number("original_max_position_embeddings", 1.0, MOST)?;
        let inner = self.nested.number("original_max_position_embeddings", 1.0, MOST)?;
        Ok(top.or(inner))
    }

    /// Both places may say it; the one that transformers obeys is the outer one.
    fn original_context_remark(&self) -> Option<String> {
        let field = "original_max_position_embeddings";
        let (top, inner) = (self.config.get(field)?, self.nested.get(field)?);
        let differ = top.as_f64() != inner.as_f64();
        differ
            .then(|| format!("{field:?} is {top} and, of the rope, {inner}: the former is used, as transformers does"))
    }

    /// Ministral 3 makes queries warmer with their position, in steps of the context trained first: the first step is none.
    fn temperature(&self, original: Option<f64>) -> Result<Option<Limit>, FileError> {
        let beta = self.nested.number("llama_4_scaling_beta", -MOST, MOST)?.unwrap_or(0.0);
        let tokens = original.map_or(self.context, |original| original as usize);
        let why = format!("a temperature of attention that grows with the position (\"llama_4_scaling_beta\": {beta})");
        Ok((beta != 0.0).then_some(Limit { tokens, why }))
    }

    fn llama3(&self, original: Option<f64>) -> Result<RopeScaling, FileError> {
        let low_freq_factor = self.required("llama3", "low_freq_factor")?;
        let high_freq_factor = self.required("llama3", "high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            return Err(self.nested.error(format!(
                "rope type \"llama3\": \"high_freq_factor\" {high_freq_factor} must be above \"low_freq_factor\" \
                 {low_freq_factor}"
            )));
        }
        let (factor, original_context) = (self.required("llama3", "factor")?, original.unwrap_or(self.context as f64));
        Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context })
    }

    /// LongRoPE has other factors beyond the context trained first: what is computed with the one kind does not go together with what
    /// is computed with the other, so the context ends there.
    fn long(&self, original: Option<f64>, rotation: &mut Scaled) -> Result<(), FileError> {
        let factors = |name: &'static str| {
            let Some(listed) = self.nested.get(name) else { return Ok(None) };
            let numbers = listed.as_array().filter(|numbers| numbers.len() == self.width / 2).and_then(|numbers| {
                let number = |number: &Value| number.as_f64().filter(|it| (SMALLEST_FACTOR..=MOST).contains(it));
                numbers.iter().map(number).collect::<Option<Vec<f64>>>()
            });
            let expected = format!("a list of {} factors", self.width / 2);
            numbers.map(Some).ok_or_else(|| self.nested.wrong(name, &expected, listed))
        };
        let missing = || self.nested.error("rope type \"longrope\" needs the field \"short_factor\"");
        let (short, long) = (factors("short_factor")?.ok_or_else(missing)?, factors("long_factor")?);
        let original = original.unwrap_or(self.context as f64);
        let factor = self.nested.number("factor", SMALLEST_FACTOR, MOST)?.unwrap_or(self.context as f64 / original);
        let computed = match factor <= 1.0 || original <= 1.0 {
            true => 1.0,
            false => (1.0 + libm::log(factor) / libm::log(original)).sqrt(),
        };
        let attention_factor = self.nested.number("attention_factor", 0.0, MOST)?.unwrap_or(computed);
        if long.as_ref() != Some(&short) {
            let why = "a rope that turns otherwise in longer texts (\"long_factor\")".to_owned();
            rotation.limit = Some(Limit { tokens: original as usize, why });
        }
        rotation.rope.config.scaling = RopeScaling::Long { factors: short, attention_factor };
        Ok(())
    }

    fn yarn(&self, original: Option<f64>, rotation: &mut Scaled) -> Result<(), FileError> {
        let nested = self.nested;
        let original_context = original.unwrap_or(self.context as f64);
        let given = nested.number("factor", SMALLEST_FACTOR, MOST)?;
        let factor = given.unwrap_or(self.context as f64 / original_context);
        let scale = |mscale: f64| {
            if factor <= 1.0 { 1.0 } else { 0.1 * mscale * libm::log(factor) + 1.0 }
        };
        // Zero counts as absent here, as it does in transformers.
        let nonzero = |name| Ok::<_, FileError>(nested.number(name, 0.0, MOST)?.filter(|number| *number != 0.0));
        let computed = match (nonzero("mscale")?, nonzero("mscale_all_dim")?) {
            (Some(one), Some(all)) => scale(one) / scale(all),
            _ => scale(1.0),
        };
        let more = nested.number("attn_factor", 0.0, MOST)?.filter(|more| *more != 1.0);
        let attention_factor = match (nested.number("attention_factor", 0.0, MOST)?, more) {
            (Some(factor), None) => factor,
            (None, more) => computed * more.unwrap_or(1.0),
            (Some(_), Some(_)) => {
                return Err(nested.error("\"attention_factor\" and \"attn_factor\" say the same twice: remove one"));
            }
        };
        rotation.rope.config.scaling = RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast: nonzero("beta_fast")?.unwrap_or(32.0),
            beta_slow: nonzero("beta_slow")?.unwrap_or(1.0),
            truncate: nested.flag("truncate", true)?,
            attention_factor,
        };
        if let (Some(original), Some(factor)) = (original, given) {
            let (stretched, declared) =
                ((original * factor).min(lime_plan::Limit::MODEL_CONTEXT.most as f64) as usize, self.context);
            if stretched > declared {
                rotation.context = stretched;
                rotation.remarks.push(format!(
                    "YaRN stretches {original} tokens by {factor}: the context is {stretched}, not the {declared} of \
                     \"max_position_embeddings\""
                ));
            }
        }
        if let Some(more) = more {
            let also = "is obeyed, as vLLM does; transformers passes over it";
            rotation.remarks.push(format!("\"attn_factor\" {more} {also}"));
        }
        Ok(())
    }
}
