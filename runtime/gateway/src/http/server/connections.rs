//! Who is connected: how many may be, which goes first, and how long one may stay without moving.
//!
//! A connection is *silent* until the head of its first request has come, *idle* between requests, and busy otherwise. Silent and
//! idle ones end by themselves after a while, and so does one whose client does not read its answers. Where there is no
//! place for a new one, a silent one gives its own up, else an idle one, else one whose request's body is still on its way; of each
//! kind the longest without a movement. Nothing of this depends on the version of HTTP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::options::Options;

/// How long a connection may be in each state without a movement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    silent: Duration,
    idle: Duration,
    unread: Duration,
}

impl Limits {
    pub(super) fn of(options: &Options) -> Self {
        Self { silent: options.header_timeout, idle: options.idle_timeout, unread: options.unread_timeout }
    }
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No request came.
    Silent,
    /// No further request came.
    Idle,
    /// Its client does not read the answers.
    Unread,
}

/// Every connection.
pub(super) struct Connections {
    open: Arc<Mutex<BTreeMap<u64, Known>>>,
    room: Arc<Semaphore>,
    last: u64,
}

/// A place for a new connection.
pub(super) enum Place {
    /// There was one.
    Free(Connection),
    /// Another connection gave way.
    Cleared(Connection),
    /// Everybody is busy.
    None,
}

struct Known {
    traffic: Traffic,
    unwanted: CancellationToken,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self { open: Arc::default(), room: Arc::new(Semaphore::new(most)), last: 0 }
    }

    /// A place for a new connection; where all are taken, one that does nothing for anybody gives its own up.
    pub(super) async fn place(&mut self) -> Place {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            return Place::Free(self.enter(room));
        }
        if !self.clear_one() {
            return Place::None;
        }
        // Its task has nothing left to do but to end, or another connection ended meanwhile. The semaphore is never closed.
        match self.room.clone().acquire_owned().await {
            Ok(room) => Place::Cleared(self.enter(room)),
            Err(_) => Place::None,
        }
    }

    fn enter(&mut self, room: OwnedSemaphorePermit) -> Connection {
        self.last += 1;
        let (traffic, unwanted) = (Traffic::new(), CancellationToken::new());
        lock(&self.open).insert(self.last, Known { traffic: traffic.clone(), unwanted: unwanted.clone() });
        Connection { number: self.last, open: self.open.clone(), traffic, unwanted, _room: room }
    }

    /// Ends the connection with which the least is lost.
    fn clear_one(&self) -> bool {
        let mut open = lock(&self.open);
        let expendable = open.iter().filter_map(|(number, known)| Some((known.traffic.expendable()?, *number)));
        let Some((_, number)) = expendable.min() else { return false };
        if let Some(known) = open.remove(&number) {
            known.unwanted.cancel();
        }
        true
    }
}

/// One of them, as its own task holds it. It leaves when it is dropped.
pub(super) struct Connection {
    number: u64,
    open: Arc<Mutex<BTreeMap<u64, Known>>>,
    traffic: Traffic,
    unwanted: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Until its place is given to another.
    pub(super) async fn unwanted(&self) {
        self.unwanted.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
    }
}

/// What goes on at a connection. Requests carry it as an extension.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Mutex<State>>);

struct State {
    /// Whether a request ever came.
    asked: bool,
    /// Requests without an answer.
    handling: usize,
    /// Those of them whose body is on its way.
    arriving: usize,
    /// Answers that are not sent whole.
    answering: usize,
    /// When something moved last.
    moved: Instant,
}

impl Traffic {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            asked: false,
            handling: 0,
            arriving: 0,
            answering: 0,
            moved: Instant::now(),
        })))
    }

    /// A request came.
    pub(super) fn begin(&self) -> UnderWay {
        self.change(|state| {
            state.asked = true;
            state.handling += 1;
        });
        UnderWay { traffic: self.clone(), answered: false }
    }

    /// Until the connection has not moved for too long.
    pub(super) async fn overdue(&self, limits: Limits) -> Overdue {
        loop {
            let (due, why) = self.due(limits);
            if due <= Instant::now() {
                return why;
            }
            sleep_until(due).await;
        }
    }

    fn due(&self, limits: Limits) -> (Instant, Overdue) {
        let state = lock(&self.0);
        match &*state {
            // An answer takes as long as it takes.
            State { handling: 1.., .. } => (Instant::now() + limits.unread, Overdue::Unread),
            State { answering: 1.., moved, .. } => (*moved + limits.unread, Overdue::Unread),
            State { asked: true, moved, .. } => (*moved + limits.idle, Overdue::Idle),
            State { moved, .. } => (*moved + limits.silent, Overdue::Silent),
        }
    }

    /// The body of a request is on its way, until what is given is dropped. A body that comes is no movement: one byte a second
    /// would be.
    pub(crate) fn arriving(&self) -> Arriving {
        lock(&self.0).arriving += 1;
        Arriving(self.clone())
    }

    /// Where nothing would be lost: how little, and the last movement. The least is the first to go.
    fn expendable(&self) -> Option<(u8, Instant)> {
        let state = lock(&self.0);
        let kind = match &*state {
            State { answering: 1.., .. } => return None,
            State { handling: 0, asked, .. } => u8::from(*asked),
            State { handling, arriving, .. } if handling == arriving => 2,
            _ => return None,
        };
        Some((kind, state.moved))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.0);
        change(&mut state);
        state.moved = Instant::now();
    }
}

/// A body on its way.
pub(crate) struct Arriving(Traffic);

impl Drop for Arriving {
    fn drop(&mut self) {
        lock(&self.0.0).arriving -= 1;
    }
}

/// A request under way, to the end of its answer.
pub(super) struct UnderWay {
    traffic: Traffic,
    answered: bool,
}

impl UnderWay {
    /// Its answer begins.
    pub(super) fn answered(&mut self) {
        if !self.answered {
            self.answered = true;
            self.traffic.change(|state| {
                state.handling -= 1;
                state.answering += 1;
            });
        }
    }

    /// Its answer is asked for.
    pub(super) fn moved(&self) {
        self.traffic.change(|_| {});
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let answered = self.answered;
        self.traffic.change(|state| {
            let under_way = if answered { &mut state.answering } else { &mut state.handling };
            *under_way -= 1;
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
