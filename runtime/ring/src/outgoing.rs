//! From the compute thread to the successor: a bounded queue, a link's shape, and the stream that the transport reads.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use prost::Message;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::{
    proto::Frame,
    settings::MAX_IN_FLIGHT,
    shape::{LinkSchedule, LinkShape},
};

/// More passes on the way than [`MAX_IN_FLIGHT`], or a successor that takes nothing any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the successor takes no more frames: more than {MAX_IN_FLIGHT} passes are in flight")]
pub struct QueueFull;

/// What a link has carried.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Microseconds between a frame being ready and the transport taking it.
    pub send_micros: AtomicU64,
}

struct Queued {
    ready: Instant,
    frame: Frame,
}

/// The sending end, for the compute thread: it never blocks.
#[derive(Clone, Debug)]
pub struct FrameQueue {
    frames: mpsc::Sender<Queued>,
}

impl FrameQueue {
    /// Hands a frame over.
    ///
    /// # Errors
    /// When the queue is full or the stream has ended.
    pub fn push(&self, frame: Frame) -> Result<(), QueueFull> {
        let queued = Queued { ready: Instant::now(), frame };
        self.frames.try_send(queued).map_err(|_| QueueFull)
    }
}

/// The receiving end, for the transport: a stream of frames that ends when every [`FrameQueue`] is gone.
#[derive(Debug)]
pub struct OutgoingFrames {
    frames: mpsc::Receiver<Queued>,
    counters: Arc<LinkCounters>,
}

/// A queue to a successor. A shaped link gets a thread of its own, whose sleeps are finer than a runtime's timer.
///
/// # Errors
/// When the system gives no thread.
pub fn outgoing(
    shape: Option<LinkShape>,
    counters: Arc<LinkCounters>,
) -> std::io::Result<(FrameQueue, OutgoingFrames)> {
    let (sender, direct) = mpsc::channel(MAX_IN_FLIGHT);
    let frames = match shape {
        None => direct,
        Some(shape) => {
            let (delayed, frames) = mpsc::channel(MAX_IN_FLIGHT);
            let pace = move || pace(direct, &delayed, LinkSchedule::new(shape));
            thread::Builder::new().name("lime-link".to_owned()).spawn(pace)?;
            frames
        }
    };
    Ok((FrameQueue { frames: sender }, OutgoingFrames { frames, counters }))
}

fn pace(mut from: mpsc::Receiver<Queued>, to: &mpsc::Sender<Queued>, mut schedule: LinkSchedule) {
    let origin = Instant::now();
    while let Some(queued) = from.blocking_recv() {
        let ready = queued.ready.saturating_duration_since(origin);
        let arrival = schedule.arrival(ready, queued.frame.encoded_len() as u64);
        if !sleep_until(origin, arrival, to) || to.blocking_send(queued).is_err() {
            return;
        }
    }
}

/// Sleeps in slices so that a link whose stream has ended does not outlive it for long; false when it has.
fn sleep_until(origin: Instant, arrival: Duration, to: &mpsc::Sender<Queued>) -> bool {
    const SLICE: Duration = Duration::from_millis(20);
    loop {
        let left = arrival.saturating_sub(origin.elapsed());
        if left.is_zero() || to.is_closed() {
            return !to.is_closed();
        }
        thread::sleep(left.min(SLICE));
    }
}

impl Stream for OutgoingFrames {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.frames.poll_recv(cx).map(|next| {
            let queued = next?;
            let micros = u64::try_from(queued.ready.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counters.send_micros.fetch_add(micros, Ordering::Relaxed);
            Some(queued.frame)
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_stream::StreamExt;

    use super::*;

    fn frame(pass: u64, bytes: usize) -> Frame {
        Frame { pass, activations: Bytes::from(vec![0; bytes]), ..Frame::default() }
    }

    #[tokio::test]
    async fn order_is_kept_and_a_full_queue_says_so() {
        let (queue, mut frames) = outgoing(None, Arc::default()).unwrap();
        for pass in 1..=MAX_IN_FLIGHT as u64 {
            queue.push(frame(pass, 8)).unwrap();
        }
        assert_eq!(queue.push(frame(99, 8)), Err(QueueFull));
        drop(queue);
        for pass in 1..=MAX_IN_FLIGHT as u64 {
            assert_eq!(frames.next().await.map(|frame| frame.pass), Some(pass));
        }
        assert!(frames.next().await.is_none());
    }

    #[tokio::test]
    async fn a_shaped_link_takes_its_time() {
        // 10 kB at 4 Mbit/s take 20 ms each, and 30 ms of latency once.
        let shape = LinkShape { bandwidth_bits: 4_000_000, latency: Duration::from_millis(30) };
        let (queue, mut frames) = outgoing(Some(shape), Arc::default()).unwrap();
        let begin = Instant::now();
        for pass in 1..=3 {
            queue.push(frame(pass, 10_000)).unwrap();
        }
        for pass in 1..=3 {
            assert_eq!(frames.next().await.map(|frame| frame.pass), Some(pass));
        }
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(90), "{took:?}");
    }

    #[tokio::test]
    async fn a_link_ends_with_its_stream() {
        let shape = LinkShape { bandwidth_bits: 1, latency: Duration::from_secs(1000) };
        let (queue, frames) = outgoing(Some(shape), Arc::default()).unwrap();
        queue.push(frame(1, 100)).unwrap();
        drop(frames);
        let closed = tokio::time::timeout(Duration::from_secs(5), queue.frames.closed()).await;
        assert!(closed.is_ok());
    }
}
