//! Workers that stream their weights from a disk with faults, and workers that are killed while they do: `lime up` and its clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod killed;
mod mended;
mod reads;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Running, client, lime, wish};
use disk::{Disk, Disturbance};

/// Tokens of an answer.
const TOKENS: u32 = 60;
/// Two devices for 4.6 MiB of weights, in KiB: what is left over streams.
const DEVICES: [u32; 2] = [1600, 1600];

/// Workers, and the gateway that asks them.
struct Serving {
    up: Running,
    address: String,
    workers: Vec<u32>,
}

impl Serving {
    /// Devices of so many KiB, which read the store in `folder` through `disk`.
    fn start(folder: &Path, devices: &[u32], disk: Option<&Disk>) -> Self {
        let file = wish(folder, devices);
        let store = folder.join("store");
        let mut environment = vec![("LIME_STORE", store.as_path())];
        environment.extend(disk.iter().flat_map(|disk| disk.environment()));
        let mut up = Running::start_with(&["up", "-v", "--port", "0", "-f", &file], &environment);
        let line = up.wait_for("serving bard at");
        let (address, workers) = (client::address(&line), client::workers(&up.heard));
        assert_eq!(workers.len(), devices.len(), "{}", up.heard);
        Self { up, address, workers }
    }

    /// The same, and the answer that nothing disturbs, for which blocks have streamed.
    fn with_answer(folder: &Path, devices: &[u32], disk: &Disk) -> (Self, String) {
        let serving = Self::start(folder, devices, Some(disk));
        let undisturbed = serving.answer().unwrap();
        assert!(serving.figure("lime_worker_streamed_blocks") >= 8.0, "{}", serving.page("/metrics"));
        assert!(serving.figure("lime_worker_read_bytes_total") > 10e6, "{}", serving.page("/metrics"));
        assert_eq!(serving.figure("lime_worker_read_retries_total"), 0.0);
        (serving, undisturbed)
    }

    fn answer(&self) -> Result<String, String> {
        self.answer_while(&mut |_| {})
    }

    /// An answer; `between` hears how many events have come after each of them.
    fn answer_while(&self, between: &mut dyn FnMut(usize)) -> Result<String, String> {
        client::stream(&self.address, TOKENS, between)
    }

    /// A page of the gateway.
    fn page(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address).unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).unwrap();
        page
    }

    /// A figure of `/metrics`, summed up over the devices.
    fn figure(&self, name: &str) -> f64 {
        let page = self.page("/metrics");
        let of_name =
            page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        let values: Vec<f64> = of_name.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!values.is_empty(), "no {name} in {page}");
        values.iter().sum()
    }

    /// Kills one worker after the other, and waits until the ring is back each time.
    fn restart_workers(&mut self) {
        for worker in &self.workers {
            common::signal(*worker, "KILL");
            self.up.wait_for("the ring is back");
        }
    }

    /// The stem of the file of a block that streams, by the reads that its answers take.
    fn streamed(&self, disk: &Disk) -> String {
        let streams = |stem: &String| {
            disk.disturb(Disturbance::ShortByPages, None, stem);
            self.answer().unwrap();
            disk.disturbed() > 10
        };
        let found = (0..12).map(|layer| format!("mlp-{layer:04}")).find(streams);
        disk.recover();
        found.unwrap_or_else(|| panic!("no block streams: {}", self.page("/metrics")))
    }

    /// Ends everything.
    fn end(self) {
        self.up.signal("INT");
        assert_eq!(self.up.end().0, Some(0));
    }
}

/// The stored file of a block.
fn stored(folder: &Path, stem: &str) -> PathBuf {
    let models = fs::read_dir(folder.join("store/models")).unwrap();
    let mut files = models.map(|model| model.unwrap().path().join("blocks").join(format!("{stem}.safetensors")));
    files.find(|file| file.exists()).unwrap_or_else(|| panic!("there is no {stem} in the store"))
}

/// Has `lime store verify` read the store in `folder`.
///
/// # Errors
/// What it says where something is wrong.
fn verify(folder: &Path) -> Result<(), String> {
    let output = lime(&["store", "verify", "--store", folder.join("store").to_str().unwrap()]);
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }
}
