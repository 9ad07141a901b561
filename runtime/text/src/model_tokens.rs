//! Which tokens begin and end a text, as `config.json` says. The rest of that file is about weights.

use std::path::Path;

use lime_files::{Fields, FileError, read_bounded};
use serde_json::Value;

const CONFIG_FILE: &str = "config.json";
const LIMIT: u64 = 16 << 20;

/// The tokens that `config.json` names; none where the folder has no such file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelTokens {
    /// The token that begins a text.
    pub(crate) bos: Option<u32>,
    /// The tokens that end an answer.
    pub(crate) eos: Vec<u32>,
}

impl ModelTokens {
    pub(crate) fn load(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(CONFIG_FILE);
        let bytes = match read_bounded(&path, LIMIT, "") {
            Err(FileError::Missing { .. }) => return Ok(Self::default()),
            other => other?,
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|fault| FileError::Wrong { path: path.clone(), reason: format!("not valid JSON: {fault}") })?;
        let fields = Fields::new(&path, &value)?;
        Ok(Self { bos: fields.token_ids("bos_token_id")?.first().copied(), eos: fields.token_ids("eos_token_id")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: Option<&str>) -> Result<ModelTokens, FileError> {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(folder.path().join(CONFIG_FILE), text).unwrap();
        }
        ModelTokens::load(folder.path())
    }

    #[test]
    fn one_or_several_tokens_end_a_text() {
        assert_eq!(load(None).unwrap(), ModelTokens::default());
        assert_eq!(
            load(Some(r#"{"bos_token_id": 1, "eos_token_id": 2}"#)).unwrap(),
            ModelTokens { bos: Some(1), eos: vec![2] }
        );
        assert_eq!(load(Some(r#"{"bos_token_id": null, "eos_token_id": [5, 6]}"#)).unwrap().eos, [5, 6]);
        for wrong in ["[]", "{", r#"{"eos_token_id": "</s>"}"#, r#"{"eos_token_id": -1}"#] {
            assert!(load(Some(wrong)).unwrap_err().to_string().contains(CONFIG_FILE), "{wrong}");
        }
    }
}
