//! The agent's life: a beat every ten seconds, and with it whatever is due.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use lime_api::{HEARTBEAT_SECONDS, LimeNodeProfileStatus};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::carried;
use crate::change::worth_writing;
use crate::cluster::Cluster;
use crate::due::{BUSY, Measured, due};
use crate::figures::{Figures, Link, Long, Probe};
use crate::memory::LowWater;
use crate::peers::Peers;
use crate::status::status;

/// A peer that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The others' profiles are looked at once in so many beats,
const BEATS_PER_LOOK: u64 = 6;
/// and at each of the first ones: the agents of a new fleet start within seconds of one another.
const FIRST_LOOKS: u64 = 12;

/// One agent.
pub struct Agent<P> {
    cluster: Cluster,
    probe: P,
    link_endpoint: Option<String>,
    /// A machine that never rests is measured all the same after so long.
    longest_wait: Duration,
    began: Instant,
    beats: u64,
    figures: Figures,
    low_water: LowWater,
    peers: Peers,
    /// Whether an earlier agent's figures have been taken over.
    settled_in: bool,
    /// The last long measurement, and whether others used the machine meanwhile.
    measured: Option<(Instant, bool)>,
    measuring: Option<(JoinHandle<Long>, bool)>,
    /// What was written last, and when. Nothing after a failed write: the next is tried whatever moved.
    written: Option<(LimeNodeProfileStatus, Instant)>,
}

impl<P: Probe> Agent<P> {
    /// An agent that knows nothing yet. A machine that never rests is measured all the same after the longest wait.
    #[must_use]
    pub fn new(cluster: Cluster, probe: P, link_endpoint: Option<String>, longest_wait: Duration) -> Self {
        Self {
            cluster,
            probe,
            link_endpoint,
            longest_wait,
            began: Instant::now(),
            beats: 0,
            figures: Figures::default(),
            low_water: LowWater::default(),
            peers: Peers::default(),
            settled_in: false,
            measured: None,
            measuring: None,
            written: None,
        }
    }

    /// Lives for ever. An API server that is away, or a kind that is not installed, is waited for.
    pub async fn run(mut self) {
        let mut ticks = interval(Duration::from_secs(u64::from(HEARTBEAT_SECONDS.unsigned_abs())));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.cluster.beat(Timestamp::now()).await {
                tracing::warn!(%error, "the heartbeat could not be written");
            }
            self.settle_in().await;
            self.collect().await;
            self.look_at_the_machine();
            self.look_at_the_others().await;
            if let Err(error) = self.report().await {
                self.written = None;
                tracing::warn!(%error, "the profile could not be written: are the custom resources installed?");
            }
            self.beats += 1;
        }
    }

    /// Takes over what an earlier agent of this node measured.
    async fn settle_in(&mut self) {
        if self.settled_in {
            return;
        }
        let status = match self.cluster.ensure_profile().await {
            Ok(profile) => profile.status,
            Err(error) => {
                return tracing::warn!(%error, "the profile cannot be read: are the custom resources installed?");
            }
        };
        self.settled_in = true;
        let Some(status) = status else { return };
        let cores = self.probe.cores();
        self.figures = carried::figures(&status, cores);
        let machine = &self.figures.machine;
        // Speeds of formats are absent where an agent from before there were any wrote the profile.
        let known = machine.memory_bytes_per_second.is_some() && !machine.formats.is_empty();
        if known && self.figures.disk.read_bytes_per_second.is_some() {
            self.measured = Some((Instant::now(), machine.busy || self.figures.disk.busy));
        }
        tracing::info!(
            links = self.figures.links.len(),
            known = self.measured.is_some(),
            "an earlier agent's figures stand"
        );
        self.written = Some((status, Instant::now()));
    }

    fn look_at_the_machine(&mut self) {
        let seconds = self.began.elapsed().as_secs();
        match self.probe.memory() {
            Ok(memory) => {
                self.figures.low_water_bytes = Some(self.low_water.take(seconds, memory.available_bytes));
                self.figures.memory = Some(memory);
            }
            Err(error) => tracing::warn!(%error, "memory could not be read"),
        }
        let space = self.probe.disk_space();
        self.figures.disk.total_bytes = space.total_bytes;
        self.figures.disk.free_bytes = space.free_bytes;
        if let Some(problem) = space.problem {
            self.figures.disk.problem = Some(problem);
        }
        self.figures.machine.cores = self.probe.cores();
        let busy = self.probe.busy_share().unwrap_or(0.0);
        let last = self.measured.map(|(at, busy)| Measured { age: at.elapsed(), busy });
        if self.settled_in && self.measuring.is_none() && due(last, self.began.elapsed(), busy, self.longest_wait) {
            self.measuring = Some((spawn_blocking(self.probe.long()), busy >= BUSY));
        }
    }

    /// Takes in a long measurement that has ended.
    async fn collect(&mut self) {
        let Some((measuring, busy)) = self.measuring.take_if(|(measuring, _)| measuring.is_finished()) else { return };
        self.measured = Some((Instant::now(), busy));
        let Long { compute, disk } = match measuring.await {
            Ok(measured) => measured,
            Err(error) => return tracing::error!(%error, "the measurement failed"),
        };
        match compute {
            Ok(speed) => {
                self.figures.machine.memory_bytes_per_second = Some(speed.memory);
                self.figures.machine.compact_bytes_per_second = speed.compact;
                self.figures.machine.operations_per_second = Some(speed.operations);
                self.figures.machine.formats = speed.formats;
                self.figures.machine.busy = busy;
            }
            Err(error) => tracing::warn!(error, "processor and memory could not be measured"),
        }
        match disk {
            Ok(bytes) => {
                self.figures.disk.read_bytes_per_second = Some(bytes);
                self.figures.disk.busy = busy;
                self.figures.disk.problem = None;
            }
            Err(problem) => self.figures.disk.problem = Some(problem),
        }
    }

    async fn look_at_the_others(&mut self) {
        if self.beats < FIRST_LOOKS || self.beats.is_multiple_of(BEATS_PER_LOOK) || self.peers.count() == 0 {
            match self.cluster.endpoints().await {
                Ok(endpoints) => self.peers.update(endpoints, &mut self.figures.links),
                Err(error) => tracing::warn!(%error, "the other nodes' profiles could not be listed"),
            }
        }
        let now = self.began.elapsed().as_secs();
        let Some((node, endpoint)) = self.peers.due(now) else { return };
        let (node, endpoint) = (node.to_owned(), endpoint.to_owned());
        let measured = measure(&endpoint).await;
        self.peers.tried(&node, now, measured.is_ok());
        match measured {
            Ok(link) => {
                self.figures.links.insert(node, link);
            }
            // What was measured stands: an agent that is being upgraded says nothing of the way to its node.
            Err(error) => tracing::warn!(%node, %endpoint, %error, "the way to a node could not be measured"),
        }
    }

    async fn report(&mut self) -> kube::Result<()> {
        if !self.settled_in {
            return Ok(());
        }
        let before = self.written.as_ref();
        let status = status(
            &self.figures,
            &self.peers,
            self.link_endpoint.as_deref(),
            before.map(|(status, _)| status),
            Timestamp::now(),
        );
        let age = before.map_or(0, |(_, when)| when.elapsed().as_secs());
        let Some(reason) = worth_writing(before.map(|(status, _)| status), &status, age) else { return Ok(()) };
        self.cluster.ensure_profile().await?;
        self.cluster.write_status(&status).await?;
        tracing::info!(?reason, "the profile is written");
        self.written = Some((status, Instant::now()));
        Ok(())
    }
}

/// Measures the way to another agent.
async fn measure(endpoint: &str) -> Result<Link, String> {
    let uri = format!("http://{endpoint}");
    match timeout(PATIENCE, lime_profiler::link(&uri)).await {
        Ok(Ok(speed)) => Ok(Link {
            bits_per_second: speed.bandwidth_bits,
            // The profiler gives one way.
            round_trip_microseconds: speed.latency_nanos.saturating_mul(2) / 1000,
            // To the second, as it is written.
            measured_at: Timestamp::from_second(Timestamp::now().as_second()).ok(),
        }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn agents_measure_the_way_to_each_other() {
        let listener = lime_profiler::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let endpoint = listener.addr().to_string();
        let link = measure(&endpoint).await.unwrap();
        assert!(link.bits_per_second > 1_000_000 && link.round_trip_microseconds < 1_000_000, "{link:?}");
        listener.stop().await;
        let silent = measure(&endpoint).await.unwrap_err();
        assert!(silent.contains(&endpoint), "{silent}");
    }
}
