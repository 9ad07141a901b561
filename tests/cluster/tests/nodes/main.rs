//! Pods of LIME on real nodes. Run by `make test-nodes`.

#![allow(missing_docs, clippy::unwrap_used)]
