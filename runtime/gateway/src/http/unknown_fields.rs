//! Fields of requests that nobody here knows: let through, as other servers do, and named once in the log; refused with `--strict`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use super::{error::ApiError, fields::Fields};

/// Names that are remembered; clients may invent any number of them.
const MOST: usize = 64;
/// Characters of a name that are repeated.
const LONGEST: usize = 64;

/// What is done about them.
#[derive(Debug)]
pub(crate) struct UnknownFields {
    strict: bool,
    named: Mutex<BTreeSet<String>>,
}

impl UnknownFields {
    /// With `strict`, requests that have some are refused.
    pub(crate) const fn new(strict: bool) -> Self {
        Self { strict, named: Mutex::new(BTreeSet::new()) }
    }

    /// Looks for fields that are none of `known`.
    pub(super) fn check(&self, fields: Fields<'_>, known: &[&[&str]]) -> Result<(), ApiError> {
        for name in fields.beside(known) {
            let name: String = name.chars().take(LONGEST).collect();
            if self.strict {
                let message = format!("Unrecognized request argument supplied: {name}.");
                return Err(ApiError::invalid(&name, "unknown_parameter", message));
            }
            if self.is_new(&name) {
                tracing::warn!(field = ?name, "requests carry a field that this server does not know: it is ignored");
            }
        }
        Ok(())
    }

    fn is_new(&self, name: &str) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.len() < MOST && named.insert(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn each_name_is_new_once_and_not_for_ever() {
        let unknown = UnknownFields::new(false);
        assert!(unknown.is_new("a") && !unknown.is_new("a"));
        let many: Map<_, _> = (0..1000).map(|number| (format!("{number}{}", "x".repeat(1000)), json!(1))).collect();
        let body = json!(many);
        unknown.check(Fields::of_body(&body).unwrap(), &[]).unwrap();
        let named = unknown.named.lock().unwrap();
        assert!(named.len() == MOST && named.iter().all(|name| name.len() <= LONGEST));
    }

    #[test]
    fn strictly_the_first_is_refused() {
        let body = json!({"model": "m", "max_token": 3});
        let check = |strict| UnknownFields::new(strict).check(Fields::of_body(&body).unwrap(), &[&["model"]]);
        assert!(check(false).is_ok());
        assert!(check(true).unwrap_err().message.contains("max_token"));
    }
}
