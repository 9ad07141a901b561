//! Figures as Prometheus reads them: what `prometheus-client` leaves to be said, once for the gateway and for the operator.
//!
//! Counted figures are its own types ([`prometheus_client::metrics`]). What is only known when somebody asks (a worker's status, the
//! fleet as the API server has it) is a table of [`Figure`]s over the things that have them. What is exported is described by what is
//! exported: [`described`] reads it back, and docs and dashboards are held against that.
//!
//! ```
//! use lime_metrics::{Figure, described, text};
//! use prometheus_client::registry::Registry;
//!
//! struct Disk {
//!     name: &'static str,
//!     read: u64,
//! }
//!
//! const OF_DISKS: [Figure<Disk>; 1] = [Figure::counter("disk_read_bytes", "Read so far", |disk| Some(disk.read as f64))];
//!
//! let disks = [Disk { name: "nvme0", read: 4096 }];
//! let mut registry = Registry::default();
//! for figure in &OF_DISKS {
//!     registry.register_collector(Box::new(figure.over(disks.iter().map(|disk| ([("disk", disk.name)], disk)))));
//! }
//! let text = text(&registry);
//! assert!(text.contains("disk_read_bytes_total{disk=\"nvme0\"} 4096\n"));
//! assert_eq!(described(&text)[0].labels, ["disk"]);
//! ```

mod described;
mod figure;

pub use described::{Family, described};
pub use figure::{Figure, Samples};
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use prometheus_client::{encoding::prometheus_text::encode, registry::Registry};

/// Everything of `registry`, in the text form of content type [`CONTENT_TYPE`].
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, and nothing of ours refuses to be written.
    let _ = encode(&mut text, registry);
    text
}
