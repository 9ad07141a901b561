//! Where a folder has its chat templates, as transformers looks for them.

use std::{collections::BTreeMap, path::Path};

use lime_files::{FileError, read_bounded};
use serde_json::{Map, Value};

use crate::error::TextError;

/// The name of the template that conversations are rendered by.
pub(crate) const DEFAULT: &str = "default";

const FILE: &str = "chat_template.jinja";
/// Templates for other purposes, beside the file.
const FOLDER: &str = "additional_chat_templates";
/// What processors wrote before there was the file.
const OLDER_FILE: &str = "chat_template.json";
const LIMIT: u64 = 4 << 20;
const MOST: usize = 32;

/// The templates of a folder by name: `chat_template.jinja` and those in `additional_chat_templates`, or
/// `chat_template.json`, or what `tokenizer_config.json` has under "chat_template".
pub(crate) fn sources(dir: &Path, config: &Map<String, Value>) -> Result<BTreeMap<String, String>, TextError> {
    let mut found = additional(dir)?;
    found.extend(text_file(&dir.join(FILE))?.map(|source| (DEFAULT.to_owned(), source)));
    if !found.is_empty() {
        return Ok(found);
    }
    if let Some(text) = text_file(&dir.join(OLDER_FILE))? {
        let object: Value = serde_json::from_str(&text)
            .map_err(|fault| TextError::Template { reason: format!("{OLDER_FILE} is not valid JSON: {fault}") })?;
        return of_value(object.get("chat_template"), OLDER_FILE);
    }
    of_value(config.get("chat_template"), "tokenizer_config.json")
}

fn additional(dir: &Path) -> Result<BTreeMap<String, String>, TextError> {
    let Ok(entries) = std::fs::read_dir(dir.join(FOLDER)) else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        let Some(name) = name.filter(|_| path.extension().is_some_and(|kind| kind == "jinja")) else { continue };
        if found.len() == MOST {
            return Err(TextError::Template { reason: format!("{FOLDER} holds more than {MOST} templates") });
        }
        found.extend(text_file(&path)?.map(|source| (name, source)));
    }
    Ok(found)
}

fn text_file(path: &Path) -> Result<Option<String>, TextError> {
    match read_bounded(path, LIMIT, "") {
        Err(FileError::Missing { .. }) => Ok(None),
        Err(other) => Err(other.into()),
        Ok(bytes) => {
            let name = path.file_name().unwrap_or_default().display().to_string();
            let text = String::from_utf8(bytes);
            text.map(Some).map_err(|_| TextError::Template { reason: format!("{name} is not UTF-8") })
        }
    }
}

fn of_value(value: Option<&Value>, file: &str) -> Result<BTreeMap<String, String>, TextError> {
    let malformed = || {
        let reason = format!("\"chat_template\" in {file} must be a string or a list of {{\"name\", \"template\"}}");
        TextError::Template { reason }
    };
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(source)) => Ok(BTreeMap::from([(DEFAULT.to_owned(), source.clone())])),
        Some(Value::Array(list)) => {
            let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
            let entries = list.iter().map(|entry| Some((text(entry, "name")?, text(entry, "template")?)));
            entries.collect::<Option<_>>().ok_or_else(malformed)
        }
        Some(_) => Err(malformed()),
    }
}
