//! The asking side: the compute thread orders and waits, a task carries orders and answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lime_engine::{KeeperError, PageKeeper};
use lime_plan::KeptRows;
use lime_ring::{
    Checksummed as _, LinkShape, ShapedLink,
    proto::{self, KeepOrder, KeepPage, KeepQuestion, ProbeRequest, keep_order::Order},
};
use tokio::sync::mpsc;

use super::{from_wire, to_wire};

/// The keeper as the compute thread sees it.
#[derive(Debug)]
pub(crate) struct RemoteKeeper {
    name: String,
    epoch: u64,
    orders: mpsc::Sender<KeepOrder>,
    answers: mpsc::Receiver<Bytes>,
    link: Option<ShapedLink>,
}

/// The other ends, for the task that carries.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(super) orders: mpsc::Receiver<KeepOrder>,
    pub(super) answers: mpsc::Sender<Bytes>,
}

/// A keeper for the compute thread, and what carries its orders to the device `name`.
pub(crate) fn asking(name: &str, epoch: u64, link: Option<LinkShape>) -> (RemoteKeeper, Asking) {
    let (order, orders) = mpsc::channel(1);
    let (answer, answers) = mpsc::channel(1);
    let link = link.map(ShapedLink::new);
    let keeper = RemoteKeeper { name: name.to_owned(), epoch, orders: order, answers, link };
    (keeper, Asking { orders, answers: answer })
}

impl RemoteKeeper {
    fn order(&mut self, order: Order) -> Result<Bytes, KeeperError> {
        let order = KeepOrder { epoch: self.epoch, order: Some(order), checksum: 0 }.sealed();
        if let Some(link) = &mut self.link {
            link.carry(&order);
        }
        let sent = self.orders.blocking_send(order).ok();
        sent.and_then(|()| self.answers.blocking_recv()).ok_or_else(|| KeeperError::Lost { keeper: self.name.clone() })
    }

    /// An answer of `found` bytes, where there should be `expected`.
    fn answered(&self, found: usize, expected: usize) -> KeeperError {
        KeeperError::Answer { keeper: self.name.clone(), found, expected }
    }
}

impl PageKeeper for RemoteKeeper {
    fn name(&self) -> &str {
        &self.name
    }

    fn store(&mut self, slot: u32, page: u32, bytes: &[u8]) -> Result<(), KeeperError> {
        let entries = Bytes::copy_from_slice(bytes);
        self.order(Order::Store(KeepPage { slot, page, entries })).map(drop)
    }

    fn take_back(&mut self, slot: u32, page: u32, into: &mut [u8]) -> Result<(), KeeperError> {
        let entries = self.order(Order::TakeBack(proto::KeptPage { slot, page }))?;
        if entries.len() != into.len() {
            return Err(self.answered(entries.len(), into.len()));
        }
        into.copy_from_slice(&entries);
        Ok(())
    }

    fn attend(&mut self, layer: u32, rows: &[KeptRows], queries: &[f32], state: &mut [f32]) -> Result<(), KeeperError> {
        let rows = rows.iter().copied().map(Into::into).collect();
        let answer = self.order(Order::Ask(KeepQuestion { layer, rows, queries: to_wire(queries) }))?;
        if from_wire(&answer, state) { Ok(()) } else { Err(self.answered(answer.len(), size_of_val(state))) }
    }

    fn release(&mut self, slot: u32) -> Result<(), KeeperError> {
        self.order(Order::Release(slot)).map(drop)
    }

    fn probe(&mut self, question: usize, answer: usize) -> Result<Duration, KeeperError> {
        let began = Instant::now();
        let payload = Bytes::from(vec![0; question]);
        let reply_bytes = u32::try_from(answer)
            .map_err(|_| KeeperError::Refused { what: format!("a reply of {answer} bytes is too long") })?;
        self.order(Order::Probe(ProbeRequest { payload, reply_bytes }))?;
        Ok(began.elapsed())
    }
}
