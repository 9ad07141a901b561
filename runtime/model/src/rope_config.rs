//! What a `config.json` says of rotary positions: which layers rotate how, how much of a head, and how far positions reach.

use lime_files::{Fields, FileError};

use crate::{
    family::{Family, WindowedRope},
    layer_spec::RopeSpec,
    reach::Limit,
    rope::RopeConfig,
    rope_scaling::{Scaled, Scaling},
};

/// Rotary positions and the context that follows from them.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// Of layers that look back to the start.
    pub(crate) rope: RopeSpec,
    /// Of layers with a window.
    pub(crate) windowed: RopeSpec,
    /// The context that the config says, or the longer one that YaRN stretches it to.
    pub(crate) context: usize,
    /// Where something sets in that this build does not have.
    pub(crate) limit: Option<Limit>,
    /// What a person should know of it.
    pub(crate) remarks: Vec<String>,
}

impl Rotation {
    /// Reads the rotary fields of a config with so many `max_position_embeddings` and heads so wide.
    pub(crate) fn read(
        config: &Fields<'_>,
        family: &Family,
        context: usize,
        head_dim: usize,
    ) -> Result<Self, FileError> {
        let page = &family.rope;
        let nested = nested(config)?;
        if nested.is_none() && page.required {
            return Err(
                config.error("the field \"rope_parameters\" is missing, without which its positions are not known")
            );
        }
        if let Some(nested) = &nested
            && let Some((layers, _)) = nested.values().find(|(_, value)| value.is_object())
        {
            if matches!(page.windowed, WindowedRope::AsOthers) {
                let reason = format!(
                    "\"rope_parameters\" apart for the layers {layers:?} are not supported: one set must hold for all layers"
                );
                return Err(config.error(reason));
            }
            return Self::by_layers(config, family, nested, (context, head_dim));
        }
        if let Some(nested) = &nested
            && let (Some(top), Some(inner)) = (config.get("rope_theta"), nested.get("rope_theta"))
            && top.as_f64() != inner.as_f64()
        {
            return Err(config.contradiction(("rope_theta", top), ("rope_theta of the rope", inner)));
        }
        let Scaled { rope, context, limit, remarks } =
            scaled(config, family, nested.as_ref(), page.theta, (context, head_dim))?;
        let windowed = match page.windowed {
            WindowedRope::AsOthers => rope.clone(),
            WindowedRope::Unscaled => RopeSpec { config: RopeConfig::plain(rope.config.theta), ..rope },
            WindowedRope::Own { field, theta } => {
                let theta = config.number(field, LEAST_THETA, MOST_THETA)?.unwrap_or(theta);
                RopeSpec { config: RopeConfig::plain(theta), ..rope }
            }
        };
        Ok(Self { rope, windowed, context, limit, remarks })
    }

    /// Where each kind of layer has its own fields.
    fn by_layers(
        config: &Fields<'_>,
        family: &Family,
        nested: &Fields<'_>,
        sizes: (usize, usize),
    ) -> Result<Self, FileError> {
        let known = ["full_attention", "sliding_attention"];
        if let Some((other, _)) =
            nested.values().find(|(name, value)| !value.is_null() && !known.contains(&name.as_str()))
        {
            let reason =
                format!("{other:?} beside fields for each kind of layer is not supported: {known:?} are known");
            return Err(nested.error(reason));
        }
        let of = |name, theta| scaled(config, family, nested.object(name)?.as_ref(), theta, sizes);
        let local = match family.rope.windowed {
            WindowedRope::Own { theta, .. } => theta,
            WindowedRope::AsOthers | WindowedRope::Unscaled => family.rope.theta,
        };
        let (full, windowed) = (of(known[0], family.rope.theta)?, of(known[1], local)?);
        // Windows end long before any of it sets in, and the others' context counts.
        let Scaled { rope, context, limit, remarks } = full;
        Ok(Self { rope, windowed: windowed.rope, context, limit: limit.or(windowed.limit), remarks })
    }
}

/// One set of rotary fields, or none.
fn scaled(
    config: &Fields<'_>,
    family: &Family,
    nested: Option<&Fields<'_>>,
    default_theta: f64,
    (context, head_dim): (usize, usize),
) -> Result<Scaled, FileError> {
    let width = width(config, nested, family, head_dim)?;
    let top_theta = theta(config)?;
    let Some(nested) = nested else {
        let rope = RopeSpec { config: RopeConfig::plain(top_theta.unwrap_or(default_theta)), width };
        return Ok(Scaled { rope, context, limit: None, remarks: Vec::new() });
    };
    let theta = theta(nested)?.or(top_theta).unwrap_or(default_theta);
    Scaling { config, nested, context, width }.read(family, theta)
}

/// How many leading elements of a head are rotated.
fn width(
    config: &Fields<'_>,
    nested: Option<&Fields<'_>>,
    family: &Family,
    head_dim: usize,
) -> Result<usize, FileError> {
    let part = |fields: &Fields<'_>| fields.number("partial_rotary_factor", 0.0, 1.0);
    let inner = nested.map(part).transpose()?.flatten();
    let given = match (part(config)?, inner) {
        (Some(top), Some(inner)) if top != inner => {
            let reason =
                format!("\"partial_rotary_factor\" is {top} and, of the rope, {inner}: remove the one that is wrong");
            return Err(config.error(reason));
        }
        (top, inner) => inner.or(top).unwrap_or(1.0),
    };
    if given != 1.0 && !family.rope.partial {
        return Err(
            config.error(format!("\"partial_rotary_factor\" {given} is not supported: whole heads are rotated"))
        );
    }
    let width = (head_dim as f64 * given) as usize;
    if width == 0 || !width.is_multiple_of(2) {
        let reason =
            format!("\"partial_rotary_factor\" {given} rotates {width} elements of a head, which must be even");
        return Err(config.error(reason));
    }
    Ok(width)
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

/// A base of 1 or less has no falling frequencies, and YaRN divides by its logarithm.
const LEAST_THETA: f64 = 1.001;
const MOST_THETA: f64 = 1e15;

fn theta(fields: &Fields<'_>) -> Result<Option<f64>, FileError> {
    fields.number("rope_theta", LEAST_THETA, MOST_THETA)
}
