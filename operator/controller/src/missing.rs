//! Kinds of LIME that the API server does not serve: their definitions are gone, or not there yet. Nothing can be decided then, and it is
//! said where people look: the operator is not ready, and an event of its pod names them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::runtime::watcher;

/// Kinds that are not served, as the watches find out. Copies share what they know.
#[derive(Clone, Debug, Default)]
pub struct Missing(Arc<Mutex<BTreeSet<String>>>);

impl Missing {
    /// A watch of `kind` was told that there is no such kind.
    pub fn note(&self, kind: &str) {
        self.kinds().insert(kind.to_owned());
    }

    /// A watch of `kind` gets on.
    pub fn found(&self, kind: &str) {
        self.kinds().remove(kind);
    }

    /// What is missing, and what to do; `None` if nothing is.
    pub fn message(&self) -> Option<String> {
        let kinds: Vec<String> = self.kinds().iter().cloned().collect();
        let do_it =
            "install the CustomResourceDefinitions (crds.enabled: true in the chart, or kubectl apply -f crds/)";
        (!kinds.is_empty()).then(|| format!("the API server does not know {}: {do_it}", kinds.join(", ")))
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a watch failed because the API server knows no such kind.
pub fn is_unknown_kind(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return false,
    };
    status.code == 404
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_until_it_is_found() {
        let missing = Missing::default();
        assert_eq!(missing.message(), None);
        missing.note("LimePlan");
        missing.note("LimeDeployment");
        let told = missing.clone().message().unwrap();
        assert!(told.contains("LimeDeployment, LimePlan") && told.contains("crds.enabled"), "{told}");
        missing.found("LimePlan");
        missing.found("LimePlan");
        assert!(!missing.message().unwrap().contains("LimePlan"));
        missing.found("LimeDeployment");
        assert_eq!(missing.message(), None);
    }

    #[test]
    fn an_unknown_kind_is_told_from_other_troubles() {
        let of = |code| kube::Error::Api(Box::new(kube::core::Status { code, ..kube::core::Status::default() }));
        let table = [
            (watcher::Error::InitialListFailed(of(404)), true),
            (watcher::Error::WatchStartFailed(of(404)), true),
            (watcher::Error::InitialListFailed(of(403)), false),
            (watcher::Error::WatchStartFailed(of(410)), false),
            (watcher::Error::NoResourceVersion, false),
        ];
        for (index, (error, expected)) in table.into_iter().enumerate() {
            assert_eq!(is_unknown_kind(&error), expected, "row {index}");
        }
    }
}
