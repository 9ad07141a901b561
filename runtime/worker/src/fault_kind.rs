//! What may be done about a fault of the engine, by what it is and not by what it says.

use std::io::ErrorKind;

use lime_engine::{EngineError, KeeperError};
use lime_model::ModelError;
use lime_ring::proto::FailureKind;
use lime_store::StoreError;

use crate::compute::ComputeError;

/// The fault as a pass carries it.
pub(crate) fn said(error: EngineError) -> ComputeError {
    let kind = of_engine(&error);
    ComputeError::from_error(error).of_kind(kind)
}

/// The same of a fault of the model's files or of what a request asks for.
pub(crate) fn said_by_model(error: ModelError) -> ComputeError {
    let kind = of_model(&error);
    ComputeError::from_error(error).of_kind(kind)
}

/// The same of a fault of the weight store or of the model's source.
pub(crate) fn said_by_store(error: StoreError) -> ComputeError {
    let kind = of_store(&error);
    ComputeError::from_error(error).of_kind(kind)
}

fn of_store(error: &StoreError) -> FailureKind {
    match error {
        StoreError::NoSpace { .. } => FailureKind::DiskFull,
        StoreError::Io { source, .. } | StoreError::Unwritable { source, .. }
            if source.kind() == ErrorKind::StorageFull =>
        {
            FailureKind::DiskFull
        }
        StoreError::Damaged { .. } | StoreError::Disk { .. } => FailureKind::Damaged,
        StoreError::Remote { .. } | StoreError::Changed { .. } | StoreError::NotThere { .. } => FailureKind::Source,
        _ => FailureKind::Unspecified,
    }
}

fn of_engine(error: &EngineError) -> FailureKind {
    match error {
        EngineError::Model(fault) => of_model(fault),
        // What the sequence itself is: no try can change it.
        EngineError::Token { .. } | EngineError::ContextFull { .. } => FailureKind::Refused,
        EngineError::NotStored { .. } | EngineError::Truncated { .. } => FailureKind::Damaged,
        // Whether a block that could not be read is damaged is seen on its file alone: `Mending::after` says so.
        EngineError::NoRoom { .. } | EngineError::Memory(_) | EngineError::Keeper(KeeperError::NoRoom { .. }) => {
            FailureKind::NoRoom
        }
        _ => FailureKind::Unspecified,
    }
}

const fn of_model(error: &ModelError) -> FailureKind {
    match error {
        ModelError::Sampling { .. } => FailureKind::Refused,
        ModelError::Logits { .. } => FailureKind::NotFinite,
        _ => FailureKind::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use lime_plan::{Block, Bytes};

    use super::*;

    #[test]
    fn what_may_be_done_follows_from_what_happened() {
        let block = Block::Head;
        for (error, kind) in [
            (EngineError::Token { token: 9, vocabulary: 8 }, FailureKind::Refused),
            (EngineError::ContextFull { slot: 0, length: 9, most: 8 }, FailureKind::Refused),
            (ModelError::Sampling { name: "top_p", expected: "less", found: "2".into() }.into(), FailureKind::Refused),
            (ModelError::Logits { reason: "token 3 has NaN".into() }.into(), FailureKind::NotFinite),
            (EngineError::NotStored { block, source: io::Error::other("differs") }, FailureKind::Damaged),
            (
                EngineError::Stream { block, path: "b".into(), source: io::ErrorKind::UnexpectedEof.into() },
                FailureKind::Unspecified,
            ),
            (EngineError::NoRoom { needed: Bytes(2), room: Bytes(1) }, FailureKind::NoRoom),
            (KeeperError::NoRoom { slot: 0, page: 3 }.into(), FailureKind::NoRoom),
            (KeeperError::Lost { keeper: "b".into() }.into(), FailureKind::Unspecified),
            (EngineError::NotHere { block }, FailureKind::Unspecified),
        ] {
            let text = error.to_string();
            let said = said(error);
            assert!(said.kind == kind && said.text.starts_with(&text), "{said:?}");
            assert!(said.source().is_some_and(|source| source.is::<EngineError>()), "the cause is kept: {said:?}");
        }
    }

    #[test]
    fn the_store_says_what_its_weights_lack() {
        let io = |kind: ErrorKind| StoreError::Io { action: "write", path: "b".into(), source: kind.into() };
        let remote = |cause| StoreError::Remote { url: "u".into(), reason: "r".into(), cause };
        let size = Bytes(1);
        for (error, kind) in [
            (StoreError::NoSpace { path: "b".into(), wanted: size, free: size, short: size }, FailureKind::DiskFull),
            (io(ErrorKind::StorageFull), FailureKind::DiskFull),
            (io(ErrorKind::TimedOut), FailureKind::Unspecified),
            (StoreError::Damaged { path: "b".into(), reason: "its digest differs".into() }, FailureKind::Damaged),
            (remote(lime_store::RemoteCause::Trouble), FailureKind::Source),
            (remote(lime_store::RemoteCause::Forbidden), FailureKind::Source),
        ] {
            let text = error.to_string();
            assert_eq!(said_by_store(error).kind, kind, "{text}");
        }
    }
}
