//! Takes secrets out of objects and logs. What is not known to be harmless by its place goes by its form: rather a value too many
//! than one too few.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::{Captures, Regex};
use serde_json::Value;

/// What stands in a secret's place.
pub(crate) const REDACTED: &str = "REDACTED";

/// Annotations that repeat the object as it was applied, or name whoever wrote what.
const REPEATING: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];
/// Shortest value of a variable that is looked for in other texts: shorter ones are words.
const LEAST_VALUE: usize = 8;

#[allow(clippy::expect_used, reason = "the patterns are constants, and a test compiles them")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern that compiles")
}

/// A name under which secrets are kept.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(passw(or)?d|passphrase|secret|token|api[-_.]?key|private[-_.]?key|credential|authorization|auth[-_.]?header|cookie)s?$",
    )
});
/// Secrets by their form, with what goes before them and stays.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // Blocks of PEM, whole or cut off.
        r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        // Credentials in URLs.
        r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@\x22']+@",
        // Headers and arguments: `Bearer X`, `--api-key=X`, `token: X`, `password=X`, `"apiKey":"X"`.
        r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}",
        r#"(?i)(\b[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_.]?key|private[-_.]?key|credential|cookie)s?\\?["']?\s*[=:]\s*\\?["']?)[^\s"'\\,;&}]+"#,
        r"(?i)(--[\w-]*(?:password|passphrase|secret|token|api-key|credential)s?\s+)[^\s-]\S*",
        // Tokens that say what they are: hubs, OpenAI, GitHub, GitLab, Slack, AWS, JSON web tokens.
        r"(\b)(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}|xox[abpr]-[\w-]{8,}|AKIA[A-Z0-9]{12,})",
        r"(\b)eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?",
    ]
    .into_iter()
    .map(pattern)
    .collect()
});

/// Redacts, and remembers what it has seen of variables' values: those stand in logs as well.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    known: BTreeSet<String>,
}

impl Redactor {
    /// An object without its secrets.
    pub(crate) fn object(&mut self, mut object: Value) -> Value {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.retain(|name, _| !REPEATING.contains(&name.as_str()));
            }
        }
        if object.get("kind").and_then(Value::as_str) == Some("Secret") {
            for field in ["data", "stringData"] {
                blank(object.get_mut(field));
            }
        }
        self.learn(&object);
        self.value(&mut object);
        object
    }

    /// A text without secrets: those known from objects, and those that look like some.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longest first: one may be a part of another.
        let mut known: Vec<&String> = self.known.iter().collect();
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in known {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), REDACTED);
            }
        }
        for form in FORMS.iter() {
            let blanked = form.replace_all(&text, |found: &Captures<'_>| {
                let kept = found.get(1).map_or("", |kept| kept.as_str());
                let at = if kept.ends_with("://") { "@" } else { "" };
                format!("{kept}{REDACTED}{at}")
            });
            text = blanked.into_owned();
        }
        text
    }

    /// Remembers the values of variables.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for variable in fields.get("env").and_then(Value::as_array).into_iter().flatten() {
                    let said = variable.get("value").and_then(Value::as_str).filter(|said| said.len() >= LEAST_VALUE);
                    self.known.extend(said.map(str::to_owned));
                }
                fields.values().for_each(|value| self.learn(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.learn(value)),
            _ => {}
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => {
                self.arguments(values);
                values.iter_mut().for_each(|value| self.value(value));
            }
            Value::Object(fields) => {
                for variable in fields.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(said) = variable.get_mut("value") {
                        *said = REDACTED.into();
                    }
                }
                for (name, value) in fields {
                    // References to Secrets are objects, and say what is missing where one is.
                    if SECRET_NAME.is_match(name) && value.is_string() {
                        *value = REDACTED.into();
                    } else {
                        self.value(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// `--token X` is two words of a list.
    fn arguments(&self, values: &mut [Value]) {
        for at in 1..values.len() {
            let option = values[at - 1]
                .as_str()
                .is_some_and(|word| word.starts_with('-') && !word.contains('=') && SECRET_NAME.is_match(word));
            if option && values[at].is_string() {
                values[at] = REDACTED.into();
            }
        }
    }
}

fn blank(fields: Option<&mut Value>) {
    for value in fields.and_then(Value::as_object_mut).into_iter().flat_map(|fields| fields.values_mut()) {
        *value = REDACTED.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Everything that is planted begins so, and nothing else does.
    const PLANTED: &str = "s3cr3t";

    #[test]
    fn planted_secrets_are_in_no_object() {
        let object = json!({
            "kind": "Pod",
            "metadata": {
                "name": "m",
                "managedFields": [{ "manager": "s3cr3t-0" }],
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{\"env\":[{\"value\":\"s3cr3t-1\"}]}",
                    "example.com/api-key": "s3cr3t-2",
                    "note": "curl -H 'Authorization: Bearer s3cr3t-3'",
                },
            },
            "spec": {
                "source": "https://user:s3cr3t-4@mirror/model",
                "tokenSecretRef": { "name": "hf", "key": "token" },
                "containers": [{
                    "args": ["--api-keys=/keys/keys", "--token", "s3cr3t-5", "--password=s3cr3t-6", "--listen=0.0.0.0:8000"],
                    "env": [
                        { "name": "HF_TOKEN", "value": "s3cr3t-7" },
                        { "name": "OTHER", "value": "s3cr3t-8" },
                        { "name": "REF", "valueFrom": { "secretKeyRef": { "name": "hf", "key": "token" } } },
                    ],
                    "command": ["sh", "-c", "login --secret s3cr3t-9 && echo done"],
                }],
            },
        });
        let secret = json!({ "kind": "Secret", "metadata": { "name": "keys" }, "data": { "keys": "s3cr3t-10" },
            "stringData": { "token": "s3cr3t-11" } });
        let mut redactor = Redactor::default();
        let found = [redactor.object(object), redactor.object(secret)].map(|it| it.to_string()).concat();
        assert!(!found.contains(PLANTED), "{found}");
        // What helps stays.
        for kept in
            ["\"HF_TOKEN\"", "secretKeyRef", "tokenSecretRef", "--listen=0.0.0.0:8000", "mirror/model", "echo done"]
        {
            assert!(found.contains(kept), "{kept} is gone: {found}");
        }
    }

    #[test]
    fn planted_secrets_are_in_no_log() {
        let mut redactor = Redactor::default();
        redactor.object(json!({ "env": [{ "name": "X", "value": "s3cr3t-value" }, { "name": "Y", "value": "info" }] }));
        let log = "\
info the variable was s3cr3t-value
GET https://u:s3cr3t@host/x?token=s3cr3t-1&b=2
authorization: Bearer s3cr3t-abcdef
{\"api_key\":\"s3cr3t-2\",\"model\":\"m\"}
{\\\"password\\\":\\\"s3cr3t-3\\\"}
--api-key s3cr3t-4 --seed 1
-----BEGIN EC PRIVATE KEY-----
s3cr3t
-----END EC PRIVATE KEY-----
after";
        let found = redactor.text(log);
        assert!(!found.contains(PLANTED), "{found}");
        for kept in ["info the variable was", "b=2", "\"model\":\"m\"", "--seed 1", "after"] {
            assert!(found.contains(kept), "{kept} is gone: {found}");
        }
        for token in ["hf_abcdefghijkl", "sk-abcdefghijkl", "eyJhbGciOi.eyJzdWIiOi.sig-1", "ghp_0123456789abcdefghij"] {
            assert!(!redactor.text(&format!("with {token} in it")).contains(token), "{token}");
        }
    }

    #[test]
    fn what_is_harmless_stays_as_it_is() {
        let line = "epoch=3 rows=12 the ring is ready at http://10.0.0.1:7000, tokens/s: 5, prompt_tokens 12";
        assert_eq!(Redactor::default().text(line), line);
    }
}
