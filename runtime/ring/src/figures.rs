//! A worker's figures as its status carries them: a part that an earlier build leaves out reads as nothing done.

use crate::proto::{KeptFigures, MemoryFigures, RemotePagesFigures, StatusReply, StreamFigures, WorkFigures};

impl StatusReply {
    /// What its memory holds.
    pub fn memory(&self) -> MemoryFigures {
        self.memory.unwrap_or_default()
    }

    /// What streaming has done.
    pub fn stream(&self) -> StreamFigures {
        self.stream.unwrap_or_default()
    }

    /// Its KV pages on another device.
    pub fn remote(&self) -> RemotePagesFigures {
        self.remote.unwrap_or_default()
    }

    /// KV pages of other devices.
    pub fn kept(&self) -> KeptFigures {
        self.kept.unwrap_or_default()
    }

    /// Its passes and where their time went.
    pub fn work(&self) -> WorkFigures {
        self.work.unwrap_or_default()
    }
}
