//! The engine's figures as a status carries them.

use lime_engine::{KeptFigures as Kept, ResidencyFigures, StreamFigures as Streaming};
use lime_plan::{Bytes, Nanos};
use lime_ring::proto::{KeptFigures, MemoryFigures, RemotePagesFigures, StreamFigures};

use crate::compute::Footprint;

/// What its memory holds.
pub(crate) fn memory(footprint: &Footprint, residency: &ResidencyFigures) -> MemoryFigures {
    MemoryFigures {
        pinned_bytes: footprint.pinned.0,
        prefetch_bytes: footprint.prefetch.0,
        kv_bytes: footprint.kv.0,
        kv_room_bytes: residency.kv_room.0,
        kv_saturated: residency.saturated,
        activation_bytes: footprint.activations.0,
        shortage_bytes: residency.shortage.0,
        steps_in_force: residency.level,
        steps_planned: residency.steps,
        steps_taken: residency.taken,
        steps_undone: residency.undone,
        passes_refused: residency.refused,
    }
}

/// What streaming has done.
pub(crate) fn stream(streaming: &Streaming) -> StreamFigures {
    StreamFigures {
        blocks: streaming.streamed_blocks,
        bytes: streaming.streamed_size,
        read_bytes: streaming.read_bytes,
        wasted_bytes: streaming.wasted_bytes,
        wait_micros: u64::try_from(streaming.waited.as_micros()).unwrap_or(u64::MAX),
        hits: streaming.hits,
        misses: streaming.misses,
        read_retries: streaming.retries,
        buffered: streaming.buffered,
    }
}

/// Its KV pages on another device.
pub(crate) fn remote_pages(residency: &ResidencyFigures) -> RemotePagesFigures {
    let micros = |time: Nanos| time.0 / 1000;
    RemotePagesFigures {
        bytes: residency.remote.0,
        room_bytes: residency.remote_room.0,
        handed_over: residency.handed_over,
        brought_back: residency.brought_back,
        cost_micros: micros(residency.remote_costs),
        wait_micros: micros(residency.remote_waited),
    }
}

/// KV pages of other devices, for which `lent` is reserved.
pub(crate) fn kept(lent: Bytes, kept: &Kept) -> KeptFigures {
    KeptFigures { lent_bytes: lent.0, bytes: kept.bytes.0, pages: kept.pages, questions: kept.questions }
}
