//! Where a model comes from.

use std::{fmt, str::FromStr};

use lime_plan::HubModel;
use thiserror::Error;

/// A model's source, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// `hf://ORGANISATION/NAME`, of GGUF files with a quantization or a file.
    Hub(HubModel),
    /// `pvc://CLAIM/PATH`
    Claim {
        /// The PersistentVolumeClaim.
        claim: String,
        /// The folder within it, or the GGUF file.
        path: String,
    },
    /// `file:///PATH`; a relative path (`file://PATH`) is for `lime up` only, which takes it from the file that names it.
    File {
        /// The folder, or the GGUF file.
        path: String,
    },
    /// `http://` or `https://`
    Web {
        /// The address of the folder, or of the GGUF file.
        url: String,
    },
}

impl ModelSource {
    /// The folder and the name of the GGUF file in it, where the source is such a file on a volume or a node.
    pub fn gguf(&self) -> Option<(&str, &str)> {
        let (Self::Claim { path, .. } | Self::File { path }) = self else { return None };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_gguf = name.len() > GGUF.len() && name.to_ascii_lowercase().ends_with(GGUF);
        is_gguf.then_some((folder, name))
    }
}

const GGUF: &str = ".gguf";

/// A source that is none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a model source: write hf://ORGANISATION/NAME, pvc://CLAIM/PATH, file:///PATH or http(s)://HOST/PATH; of GGUF files \
     hf://ORGANISATION/NAME:QUANT, hf://ORGANISATION/NAME/FILE.gguf, or the file behind the others"
)]
pub struct SourceError(String);

impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let fault = || SourceError(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
        let pair = || rest.split_once('/').filter(|(first, second)| !first.is_empty() && !second.is_empty());
        match scheme {
            "hf" => rest.parse().map(Self::Hub).map_err(|_| fault()),
            "pvc" => {
                let (claim, path) = pair().ok_or_else(fault)?;
                Ok(Self::Claim { claim: claim.to_owned(), path: path.to_owned() })
            }
            "file" if !rest.is_empty() => Ok(Self::File { path: rest.to_owned() }),
            "http" | "https" if !rest.is_empty() && !rest.starts_with('/') => Ok(Self::Web { url: text.to_owned() }),
            _ => Err(fault()),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(model) => write!(f, "hf://{model}"),
            Self::Claim { claim, path } => write!(f, "pvc://{claim}/{path}"),
            Self::File { path } => write!(f, "file://{path}"),
            Self::Web { url } => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_a_round_trip() {
        let gguf = ["hf://org/name-GGUF:Q4_K_M", "hf://org/name/deep/file.gguf@v1", "https://host/a.gguf"];
        for text in gguf {
            assert_eq!(text.parse::<ModelSource>().unwrap().to_string(), text);
        }
        for text in ["hf://org/name", "pvc://claim/a/b", "file:///a/b", "file://a/b", "https://host/a", "http://host"] {
            assert_eq!(text.parse::<ModelSource>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn gguf_files_are_told_from_folders() {
        for (text, expected) in [
            ("file:///models/a.Q8_0.gguf", Some(("/models", "a.Q8_0.gguf"))),
            ("file:///a.GGUF", Some(("", "a.GGUF"))),
            ("pvc://claim/a.gguf", Some(("", "a.gguf"))),
            ("pvc://claim/deep/a.gguf", Some(("deep", "a.gguf"))),
            ("file:///models/.gguf", None),
            ("file:///models/gguf", None),
            ("https://host/a.gguf", None),
        ] {
            assert_eq!(text.parse::<ModelSource>().unwrap().gguf(), expected, "{text}");
        }
    }

    #[test]
    fn others_are_refused_with_the_forms_that_are_read() {
        for text in ["", "org/name", "hf://name", "hf://a/b/c", "pvc://claim", "file://", "s3://a/b", "http:///a"] {
            let error = text.parse::<ModelSource>().unwrap_err().to_string();
            assert!(error.contains("file:///PATH"), "{error}");
        }
    }
}
