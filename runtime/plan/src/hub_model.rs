//! A model on the Hugging Face hub as people write it, behind `hf://`.

use std::{fmt, str::FromStr};

use thiserror::Error;

const GGUF: &str = ".gguf";
const LONGEST_REVISION: usize = 255;
const LONGEST_QUANT: usize = 64;

/// `ORG/NAME`, of a repository of GGUF files with `:QUANT` or `/FILE.gguf`, and `@REVISION` where it is not the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// `ORG/NAME`.
    pub repository: String,
    /// Which of the repository's GGUF files, where it is not its safetensors.
    pub pick: Option<GgufPick>,
    /// A branch, tag or commit, where one is asked for.
    pub revision: Option<String>,
}

/// Which of a repository's GGUF files is the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GgufPick {
    /// The one of this quantization, such as `Q4_K_M`.
    Quant(String),
    /// The one of this path in the repository; of a model in several files any of them.
    File(String),
}

/// Why a text names no model on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HubModelError {
    /// It is not `ORG/NAME`.
    #[error("a repository is named ORG/NAME")]
    Repository,
    /// What is behind `@`.
    #[error("{0:?} is not a branch, tag or commit")]
    Revision(String),
    /// What is behind `:`.
    #[error("{0:?} is not the name of a quantization, such as Q4_K_M")]
    Quant(String),
    /// What is behind the repository.
    #[error("{0:?} is not a GGUF file of a repository, such as FOLDER/NAME.gguf")]
    File(String),
    /// More than one of a kind.
    #[error("a file, a quantization or a revision is named twice")]
    Twice,
}

impl HubModel {
    /// Whether `text` can be a branch, tag or commit.
    pub fn is_revision(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        !text.is_empty() && text.len() <= LONGEST_REVISION && text.bytes().all(plain) && !text.contains("..")
    }
}

impl FromStr for HubModel {
    type Err = HubModelError;

    fn from_str(text: &str) -> Result<Self, HubModelError> {
        let end = text.find([':', '@']).unwrap_or(text.len());
        let (path, mut marks) = text.split_at(end);
        let (repository, mut pick) = repository(path)?;
        let mut revision = None;
        // Quant and revision come in either order, as people write both.
        while let Some(mark) = marks.chars().next() {
            let rest = &marks[1..];
            let (value, later) = rest.split_at(rest.find([':', '@']).unwrap_or(rest.len()));
            marks = later;
            let twice = match mark {
                ':' => pick.replace(behind_colon(value)?).is_some(),
                _ if HubModel::is_revision(value) => revision.replace(value.to_owned()).is_some(),
                _ => return Err(HubModelError::Revision(value.to_owned())),
            };
            if twice {
                return Err(HubModelError::Twice);
            }
        }
        Ok(Self { repository, pick, revision })
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.pick {
            Some(GgufPick::Quant(quant)) => write!(f, ":{quant}")?,
            Some(GgufPick::File(file)) => write!(f, "/{file}")?,
            None => {}
        }
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

fn is_plain(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
}

/// A repository, and the file in it where one is named.
fn repository(path: &str) -> Result<(String, Option<GgufPick>), HubModelError> {
    let mut parts = path.splitn(3, '/');
    let mut next = || parts.next().filter(|part| is_plain(part)).ok_or(HubModelError::Repository);
    let repository = format!("{}/{}", next()?, next()?);
    let Some(file) = parts.next() else { return Ok((repository, None)) };
    gguf_file(file).map(|pick| (repository, Some(pick))).ok_or_else(|| HubModelError::File(file.to_owned()))
}

fn gguf_file(path: &str) -> Option<GgufPick> {
    let ends = path.len() > GGUF.len() && path.to_ascii_lowercase().ends_with(GGUF);
    (ends && path.split('/').all(is_plain)).then(|| GgufPick::File(path.to_owned()))
}

/// A quantization; the name of a file there is understood too.
fn behind_colon(value: &str) -> Result<GgufPick, HubModelError> {
    match gguf_file(value) {
        Some(file) => Ok(file),
        None if is_plain(value) && value.len() <= LONGEST_QUANT => Ok(GgufPick::Quant(value.to_owned())),
        None => Err(HubModelError::Quant(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_as_people_write_them() {
        let quant = |text: &str| Some(GgufPick::Quant(text.into()));
        let file = |text: &str| Some(GgufPick::File(text.into()));
        for (text, pick, revision, again) in [
            ("a/b", None, None, "a/b"),
            ("a/b@refs/pr/1", None, Some("refs/pr/1"), "a/b@refs/pr/1"),
            ("a/b-GGUF:Q4_K_M", quant("Q4_K_M"), None, "a/b-GGUF:Q4_K_M"),
            ("a/b:q8_0@v1", quant("q8_0"), Some("v1"), "a/b:q8_0@v1"),
            ("a/b@v1:UD-Q4_K_XL", quant("UD-Q4_K_XL"), Some("v1"), "a/b:UD-Q4_K_XL@v1"),
            ("a/b/c.Q4_0.gguf", file("c.Q4_0.gguf"), None, "a/b/c.Q4_0.gguf"),
            ("a/b:c.gguf", file("c.gguf"), None, "a/b/c.gguf"),
            (
                "a/b/Q8_0/c-00001-of-00002.gguf@v1",
                file("Q8_0/c-00001-of-00002.gguf"),
                Some("v1"),
                "a/b/Q8_0/c-00001-of-00002.gguf@v1",
            ),
        ] {
            let found: HubModel = text.parse().unwrap();
            assert_eq!((&found.pick, found.revision.as_deref()), (&pick, revision), "{text}");
            assert!(found.repository.starts_with("a/b") && found.repository.matches('/').count() == 1);
            assert_eq!(found.to_string(), again);
            assert_eq!(again.parse::<HubModel>().unwrap(), found);
        }
    }

    #[test]
    fn what_names_no_model_is_refused_by_kind() {
        let revision = |text: &str| HubModelError::Revision(text.into());
        let file = |text: &str| HubModelError::File(text.into());
        for (text, fault) in [
            ("", HubModelError::Repository),
            ("a", HubModelError::Repository),
            ("a/../b", HubModelError::Repository),
            ("/b", HubModelError::Repository),
            ("a/b@", revision("")),
            ("a/b@../c", revision("../c")),
            ("a/b:", HubModelError::Quant(String::new())),
            ("a/b:x/y", HubModelError::Quant("x/y".into())),
            ("a/b/c", file("c")),
            ("a/b/.gguf", file(".gguf")),
            ("a/b/../c.gguf", file("../c.gguf")),
            ("a/b:Q8_0:Q4_0", HubModelError::Twice),
            ("a/b/c.gguf:Q4_0", HubModelError::Twice),
            ("a/b@x@y", HubModelError::Twice),
        ] {
            assert_eq!(text.parse::<HubModel>(), Err(fault), "{text}");
        }
    }
}
