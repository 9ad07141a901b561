//! What a `config.json` says of rotary positions: base, scaling, and how far they reach.

use lime_files::{Fields, FileError, kind};

use crate::{
    family::Family,
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

/// Rotary positions and the context that follows from them.
#[derive(Debug)]
pub(crate) struct Rotation {
    pub(crate) rope: RopeConfig,
    /// The context that the config says, or the longer one that YaRN stretches it to.
    pub(crate) context: usize,
    /// Where something sets in that this build does not have.
    pub(crate) limit: Option<Limit>,
    /// What a person should know of it.
    pub(crate) remarks: Vec<String>,
}

impl Rotation {
    /// Reads the rotary fields of a config with so many `max_position_embeddings`.
    pub(crate) fn read(config: &Fields<'_>, family: &Family, context: usize) -> Result<Self, FileError> {
        refuse_partial_rotation(config)?;
        let top_theta = theta(config)?;
        let Some(nested) = nested(config)? else {
            if family.rope.required {
                return Err(
                    config.error("the field \"rope_parameters\" is missing, without which its positions are not known")
                );
            }
            let rope = RopeConfig::plain(top_theta.unwrap_or(family.rope.theta));
            return Ok(Self { rope, context, limit: None, remarks: Vec::new() });
        };
        refuse_partial_rotation(&nested)?;
        if let Some((layers, _)) = nested.values().find(|(_, value)| value.is_object()) {
            let reason = format!(
                "\"rope_parameters\" apart for the layers {layers:?} are not supported: one set must hold for all layers"
            );
            return Err(config.error(reason));
        }
        if let (Some(top), Some(inner)) = (config.get("rope_theta"), nested.get("rope_theta"))
            && top.as_f64() != inner.as_f64()
        {
            return Err(config.contradiction(("rope_theta", top), ("rope_theta of the rope", inner)));
        }
        let theta = theta(&nested)?.or(top_theta).unwrap_or(family.rope.theta);
        let scaling = Scaling { config, nested: &nested, context };
        scaling.read(family, theta)
    }
}

/// The fields of the rope, under either of their names.
fn nested<'a>(config: &Fields<'a>) -> Result<Option<Fields<'a>>, FileError> {
    let filled = |name| {
        let object = config.object(name)?;
        Ok::<_, FileError>(object.filter(|fields| fields.values().any(|(_, value)| !value.is_null())))
    };
    match (filled("rope_scaling")?, filled("rope_parameters")?) {
        (Some(old), Some(new)) => {
            for (name, value) in old.values().filter(|(_, value)| !value.is_null()) {
                let Some(other) = new.get(name) else { continue };
                if value != other && value.as_f64().is_none_or(|number| other.as_f64() != Some(number)) {
                    let (old, new) = (format!("rope_scaling.{name}"), format!("rope_parameters.{name}"));
                    return Err(config.contradiction((&old, value), (&new, other)));
                }
            }
            Ok(Some(old))
        }
        (old, new) => Ok(old.or(new)),
    }
}

/// The rope's own fields and those around them.
struct Scaling<'a, 'f> {
    config: &'f Fields<'a>,
    nested: &'f Fields<'a>,
    context: usize,
}

impl Scaling<'_, '_> {
    fn read(&self, family: &Family, theta: f64) -> Result<Rotation, FileError> {
        let name = self.nested.text(self.nested.either("rope_type", "type")?)?.unwrap_or("default");
        let original = self.original_context()?;
        let mut rotation = Rotation {
            rope: RopeConfig::plain(theta),
            context: self.context,
            limit: self.temperature(original)?,
            remarks: self.original_context_remark().into_iter().collect(),
        };
        match name {
            "default" => self.only(name, &[])?,
            "linear" => {
                self.only(name, &["factor"])?;
                rotation.rope.scaling = RopeScaling::Linear { factor: self.required(name, "factor")? };
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
                rotation.rope.scaling = self.llama3(original)?;
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
            other => {
                return Err(self.nested.error(format!(
                    "the rope type {other:?} is not supported: this build knows default, linear, llama3 and yarn, and dynamic up to \
                     where it sets in"
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

    fn yarn(&self, original: Option<f64>, rotation: &mut Rotation) -> Result<(), FileError> {
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
        rotation.rope.scaling = RopeScaling::Yarn {
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

fn theta(fields: &Fields<'_>) -> Result<Option<f64>, FileError> {
    // A base of 1 or less has no falling frequencies, and YaRN divides by its logarithm.
    fields.number("rope_theta", 1.001, 1e15)
}

fn refuse_partial_rotation(fields: &Fields<'_>) -> Result<(), FileError> {
    match fields.number("partial_rotary_factor", 0.0, 1.0)? {
        None | Some(1.0) => Ok(()),
        Some(part) => {
            Err(fields.error(format!("\"partial_rotary_factor\" {part} is not supported: whole heads are rotated")))
        }
    }
}
