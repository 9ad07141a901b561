//! What may be done about a fault of the engine, by what it is and not by what it says.

use std::io::ErrorKind;

use lime_engine::{EngineError, KeeperError};
use lime_model::ModelError;
use lime_store::StoreError;

use crate::{compute::ComputeError, failure::Failure};

impl From<EngineError> for ComputeError {
    fn from(error: EngineError) -> Self {
        let failure = of_engine(&error);
        Self::from_error(error).because(failure)
    }
}

impl From<ModelError> for ComputeError {
    fn from(error: ModelError) -> Self {
        let failure = of_model(&error);
        Self::from_error(error).because(failure)
    }
}

impl From<StoreError> for ComputeError {
    fn from(error: StoreError) -> Self {
        let failure = of_store(&error);
        Self::from_error(error).because(failure)
    }
}

fn of_store(error: &StoreError) -> Failure {
    match error {
        StoreError::NoSpace { .. } => Failure::DiskFull,
        StoreError::Io { source, .. } | StoreError::Unwritable { source, .. }
            if source.kind() == ErrorKind::StorageFull =>
        {
            Failure::DiskFull
        }
        StoreError::Damaged { .. } | StoreError::Disk { .. } => Failure::Damaged { block: None },
        StoreError::Remote { .. } | StoreError::Changed { .. } | StoreError::NotThere { .. } => Failure::Source,
        _ => Failure::Unspecified,
    }
}

fn of_engine(error: &EngineError) -> Failure {
    match error {
        EngineError::Model(fault) => of_model(fault),
        // What the sequence itself is: no try can change it.
        EngineError::Token { .. } | EngineError::ContextFull { .. } => Failure::Refused { slot: None },
        EngineError::NotKept { .. } => Failure::Forgotten,
        EngineError::NotStored { block, .. } => Failure::Damaged { block: Some(*block) },
        EngineError::Truncated { .. } => Failure::Damaged { block: None },
        // Whether a block that could not be read is damaged is seen on its file alone: `Mending::after` says so.
        EngineError::NoRoom { .. } | EngineError::Memory(_) | EngineError::Keeper(KeeperError::NoRoom { .. }) => {
            Failure::NoRoom
        }
        _ => Failure::Unspecified,
    }
}

const fn of_model(error: &ModelError) -> Failure {
    match error {
        ModelError::Sampling { .. } => Failure::Refused { slot: None },
        ModelError::Logits { .. } => Failure::NotFinite,
        _ => Failure::Unspecified,
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
        for (error, failure) in [
            (EngineError::Token { token: 9, vocabulary: 8 }, Failure::Refused { slot: None }),
            (EngineError::ContextFull { slot: 0, length: 9, most: 8 }, Failure::Refused { slot: None }),
            (
                ModelError::Sampling { name: "top_p", expected: "less", found: "2".into() }.into(),
                Failure::Refused { slot: None },
            ),
            (ModelError::Logits { reason: "token 3 has NaN".into() }.into(), Failure::NotFinite),
            (
                EngineError::NotStored { block, source: io::Error::other("differs") },
                Failure::Damaged { block: Some(block) },
            ),
            (
                EngineError::Stream { block, path: "b".into(), source: io::ErrorKind::UnexpectedEof.into() },
                Failure::Unspecified,
            ),
            (EngineError::NoRoom { needed: Bytes(2), room: Bytes(1) }, Failure::NoRoom),
            (EngineError::NotKept { slot: 0, page: 3 }, Failure::Forgotten),
            (KeeperError::NoRoom { slot: 0, page: 3 }.into(), Failure::NoRoom),
            (KeeperError::Lost { keeper: "b".into() }.into(), Failure::Unspecified),
            (EngineError::NotHere { block }, Failure::Unspecified),
        ] {
            let text = error.to_string();
            let error = ComputeError::from(error);
            assert!(error.failure == failure && error.text.starts_with(&text), "{error:?}");
            assert!(error.source().is_some_and(|source| source.is::<EngineError>()), "the cause is kept: {error:?}");
        }
    }

    #[test]
    fn the_store_says_what_its_weights_lack() {
        let io = |kind: ErrorKind| StoreError::Io { action: "write", path: "b".into(), source: kind.into() };
        let remote = |cause| StoreError::Remote { url: "u".into(), reason: "r".into(), cause };
        let size = Bytes(1);
        for (error, failure) in [
            (StoreError::NoSpace { path: "b".into(), wanted: size, free: size, short: size }, Failure::DiskFull),
            (io(ErrorKind::StorageFull), Failure::DiskFull),
            (io(ErrorKind::TimedOut), Failure::Unspecified),
            (
                StoreError::Damaged { path: "b".into(), reason: "its digest differs".into() },
                Failure::Damaged { block: None },
            ),
            (remote(lime_store::RemoteCause::Trouble), Failure::Source),
            (remote(lime_store::RemoteCause::Forbidden), Failure::Source),
        ] {
            let text = error.to_string();
            assert_eq!(ComputeError::from(error).failure, failure, "{text}");
        }
    }
}
