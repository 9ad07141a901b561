//! The worker as it runs: with the real engine.

use std::{net::SocketAddr, sync::Arc};

use lime_engine::{EngineOptions, Isa};

use crate::{
    config::WorkerConfig,
    engine::EngineLoader,
    error::WorkerError,
    handle::{WorkerHandle, start_with},
};

/// Starts a worker that listens on `listen` and waits for a plan. The model is looked at when the plan comes.
///
/// # Errors
/// When the address cannot be bound, or the machine does not have the instruction set asked for.
pub async fn start(config: WorkerConfig, listen: SocketAddr) -> Result<WorkerHandle, WorkerError> {
    let isa = config.isa.as_deref().map(instruction_set).transpose()?;
    let options = EngineOptions {
        threads: config.threads.max(1),
        isa,
        gpu: config.gpu,
        disk_bytes_per_second: config.disk.map(|disk| disk.bytes_per_second),
        verify_reads: config.verify_reads,
    };
    let (model, store) = (config.model.clone(), config.store.clone());
    if config.page_disk.is_some() && store.is_none() {
        return Err(WorkerError::Config(
            "KV pages are kept on the disk beside the weights: name a store for both".into(),
        ));
    }
    let loader = EngineLoader { model, store, options, page_disk: config.page_disk, pages: Arc::default() };
    start_with(config, Box::new(loader), listen).await
}

fn instruction_set(name: &str) -> Result<Isa, WorkerError> {
    Isa::by_name(name).ok_or_else(|| {
        let available: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        let available = available.join(", ");
        WorkerError::Config(format!("this machine has no instruction set {name:?} for its kernels; it has {available}"))
    })
}
