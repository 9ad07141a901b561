//! Where a model comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use lime_model::is_gguf;
use lime_plan::{GgufPick, HubModel, HubModelError};

use crate::error::StoreError;

/// The revision where none is asked for.
const MAIN: &str = "main";

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A Hugging Face folder on this machine.
    Folder(PathBuf),
    /// A GGUF file on this machine: the whole model, or any part of one in several files.
    Gguf(PathBuf),
    /// A repository on the Hugging Face hub, or a server that speaks as it does.
    Hub {
        /// `ORG/NAME`.
        repository: String,
        /// Which of its GGUF files, where it is not its safetensors.
        pick: Option<GgufPick>,
        /// A branch, tag or commit.
        revision: String,
    },
    /// A folder of files on a web server, or a GGUF file there; ends without a slash.
    Http(String),
}

impl Source {
    /// The same source at another revision.
    ///
    /// # Errors
    /// When it has none, or this is not one.
    pub fn at(self, wanted: &str) -> Result<Self, StoreError> {
        match self {
            Self::Hub { repository, pick, .. } if HubModel::is_revision(wanted) => {
                Ok(Self::Hub { repository, pick, revision: wanted.into() })
            }
            Self::Hub { .. } => Err(fault(&self, format!("{wanted:?} is not a branch, tag or commit"))),
            Self::Folder(_) | Self::Gguf(_) | Self::Http(_) => {
                Err(fault(&self, "only hf:// sources have revisions; leave --revision out".into()))
            }
        }
    }

    /// The same source, of which this is the GGUF file that was asked for otherwise.
    pub(crate) fn in_file(self, path: &str) -> Self {
        match self {
            Self::Hub { repository, revision, .. } => {
                Self::Hub { repository, pick: Some(GgufPick::File(path.to_owned())), revision }
            }
            other => other,
        }
    }

    /// The same repository, of which the GGUF file of this quantization is meant.
    ///
    /// # Errors
    /// When it is no repository on the hub, or this is not the name of a quantization.
    pub fn with_quant(&self, quant: &str) -> Result<Self, StoreError> {
        let Self::Hub { repository, revision, .. } = self else {
            return Err(fault(self, "only hf:// sources have quantizations to choose from; name the file".into()));
        };
        let model: Result<HubModel, _> = format!("{repository}:{quant}").parse();
        let HubModel { repository, pick, .. } = model.map_err(|it| fault(self, it.to_string()))?;
        Ok(Self::Hub { repository, pick, revision: revision.clone() })
    }

    /// The source without its revision, as it is written: the same for every spelling of the same place.
    pub fn place(&self) -> String {
        match self {
            Self::Folder(path) | Self::Gguf(path) => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                format!("file://{}", path.display())
            }
            Self::Hub { repository, pick, .. } => {
                let (repository, pick) = (repository.clone(), pick.clone());
                format!("hf://{}", HubModel { repository, pick, revision: None })
            }
            Self::Http(url) => url.clone(),
        }
    }

    /// The revision that is asked for, where this kind of source has them.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Self::Hub { revision, .. } => Some(revision),
            Self::Folder(_) | Self::Gguf(_) | Self::Http(_) => None,
        }
    }

    /// A short name for people and for folders.
    pub fn name(&self) -> String {
        let text = match self {
            Self::Folder(path) | Self::Gguf(path) => {
                path.canonicalize().unwrap_or_else(|_| path.clone()).display().to_string()
            }
            Self::Hub { repository, pick: None, .. } => repository.clone(),
            Self::Hub { pick: Some(GgufPick::File(path)), .. } => path.clone(),
            // Of the quantization is what says so, better than that it is a GGUF file.
            Self::Hub { repository, pick: Some(GgufPick::Quant(quant)), .. } => {
                let of = repository.len().saturating_sub("-GGUF".len());
                let ends = repository.get(of..).is_some_and(|end| end.eq_ignore_ascii_case("-GGUF"));
                let plain = repository.get(..of).filter(|_| ends).unwrap_or(repository);
                format!("{plain}-{quant}")
            }
            Self::Http(url) => url.clone(),
        };
        let name = text.rsplit('/').find(|part| !part.is_empty()).unwrap_or("model");
        let stem = name.rsplit_once('.').filter(|_| is_gguf(Path::new(name))).map(|(stem, _)| stem);
        stem.unwrap_or(name).to_owned()
    }

    /// The folder, where it is one on this machine.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Gguf(_) | Self::Hub { .. } | Self::Http(_) => None,
        }
    }
}

impl From<PathBuf> for Source {
    /// A folder, or a GGUF file by its name.
    fn from(path: PathBuf) -> Self {
        if is_gguf(&path) && !path.is_dir() { Self::Gguf(path) } else { Self::Folder(path) }
    }
}

impl FromStr for Source {
    type Err = StoreError;

    /// `hf://ORG/NAME[:QUANT][@REVISION]`, `hf://ORG/NAME/FILE.gguf[@REVISION]`, `http(s)://…`, `file://…`, or a path.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let fault = |reason: String| StoreError::Source { source_text: text.to_owned(), reason };
        if let Some(rest) = text.strip_prefix("hf://") {
            let HubModel { repository, pick, revision } =
                rest.parse().map_err(|it: HubModelError| fault(it.to_string()))?;
            return Ok(Self::Hub { repository, pick, revision: revision.unwrap_or_else(|| MAIN.to_owned()) });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = text.trim_end_matches('/');
            let host = url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
            if host.is_empty()
                || url.contains(['?', '#', ' '])
                || host.split('/').next().is_some_and(|h| h.contains('@'))
            {
                return Err(fault("expected http(s)://HOST/FOLDER without user, parameters or fragment".into()));
            }
            return Ok(Self::Http(url.to_owned()));
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(fault("this kind of source is not known here".into()));
        }
        Ok(PathBuf::from(path).into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::Gguf(path) => write!(f, "{}", path.display()),
            Self::Hub { revision, .. } if revision == MAIN => f.write_str(&self.place()),
            Self::Hub { revision, .. } => write!(f, "{}@{revision}", self.place()),
            Self::Http(url) => f.write_str(url),
        }
    }
}

fn fault(source: &Source, reason: String) -> StoreError {
    StoreError::Source { source_text: source.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_as_people_write_them() {
        let hub = |repository: &str, revision: &str| Source::Hub {
            repository: repository.into(),
            pick: None,
            revision: revision.into(),
        };
        let picked = |pick, revision: &str| Source::Hub {
            repository: "a/b-GGUF".into(),
            pick: Some(pick),
            revision: revision.into(),
        };
        for (text, source) in [
            ("hf://meta-llama/Llama-3.2-1B", hub("meta-llama/Llama-3.2-1B", "main")),
            ("hf://a/b@refs/pr/1", hub("a/b", "refs/pr/1")),
            ("hf://a/b-GGUF:Q4_K_M", picked(GgufPick::Quant("Q4_K_M".into()), "main")),
            ("hf://a/b-GGUF/c.gguf@v1", picked(GgufPick::File("c.gguf".into()), "v1")),
            ("https://models.example/b.gguf", Source::Http("https://models.example/b.gguf".into())),
            ("https://models.example/bard/", Source::Http("https://models.example/bard".into())),
            ("file:///models/bard", Source::Folder("/models/bard".into())),
            ("models/bard", Source::Folder("models/bard".into())),
            ("file:///models/bard.Q8_0.gguf", Source::Gguf("/models/bard.Q8_0.gguf".into())),
        ] {
            assert_eq!(text.parse::<Source>().unwrap(), source, "{text}");
        }
    }

    #[test]
    fn names_are_short_and_say_what_is_chosen() {
        for (text, name) in [
            ("hf://a/b", "b"),
            ("hf://a/b-GGUF:Q4_K_M", "b-Q4_K_M"),
            ("hf://a/b:Q4_K_M@v1", "b-Q4_K_M"),
            ("hf://a/b/deep/c.Q8_0.gguf", "c.Q8_0"),
            ("http://host/b.gguf", "b"),
            ("http://host/b.v1", "b.v1"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().name(), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused_with_the_forms_that_are() {
        for text in [
            "",
            "hf://a",
            "hf://a/../b",
            "hf://a/b@",
            "hf://a/b@../c",
            "http://",
            "http://x/y?z",
            "http://u@h/",
            "s3://a/b",
        ] {
            let fault = text.parse::<Source>().unwrap_err().to_string();
            assert!(fault.contains("hf://ORG/NAME"), "{text}: {fault}");
        }
    }

    #[test]
    fn another_quantization_is_of_the_same_repository_and_revision() {
        let source: Source = "hf://a/b-GGUF:Q8_0@v1".parse().unwrap();
        assert_eq!(source.with_quant("Q4_K_M").unwrap().to_string(), "hf://a/b-GGUF:Q4_K_M@v1");
        assert!(source.with_quant("a/b").is_err());
        assert!("models/bard".parse::<Source>().unwrap().with_quant("Q8_0").is_err());
    }

    #[test]
    fn only_the_hub_has_revisions() {
        let source: Source = "hf://a/b".parse().unwrap();
        assert_eq!(source.at("v1").unwrap().to_string(), "hf://a/b@v1");
        assert!("models/bard".parse::<Source>().unwrap().at("v1").is_err());
    }
}
