//! `lime-operator`: the process around the steps.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use futures::StreamExt as _;
use kube::{
    Config, ResourceExt as _,
    runtime::{
        applier, controller,
        events::{Recorder, Reporter},
        reflector::ObjectRef,
    },
};
use lime_operator::{
    client, context::Context, http, leader, leader::Leadership, ledger, missing_events, names, pulse, reconcile,
    settings::Settings, world,
};

/// Watches LimeDeployments and node profiles and brings the cluster to what they ask for.
#[derive(Debug, Parser)]
#[command(name = "lime-operator", version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

/// What is logged unless LIME_LOG says otherwise. kube calls each answer an error that is asked for again; what is not borne is
/// logged where it matters.
const LOGGED: &str = "info,kube_client::client::builder=off";

/// Visits that run at once: deciding is serial, waiting for the API server is not.
const CONCURRENT: u16 = 8;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LIME_LOG").unwrap_or_else(|_| LOGGED.into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    run(Cli::parse().settings).await
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let config = Config::infer().await.context("no cluster is named: run in a pod, or set KUBECONFIG")?;
    let leadership = if settings.no_leader_election { Leadership::always() } else { Leadership::default() };
    let (client, leasing) = client::connect(config, leadership.clone()).context("the cluster cannot be asked")?;
    let (watched, queue) = world::watch(&client, &settings);
    let reporter = Reporter { controller: names::MANAGER.into(), instance: Some(settings.identity.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let context = Arc::new(Context::new(client.clone(), watched, settings.clone(), leadership.clone(), recorder));

    let listener = tokio::net::TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("{} cannot be listened on: choose another with --listen", settings.listen))?;
    tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
    let server = tokio::spawn(axum::serve(listener, http::router(context.clone())).into_future());

    let filling = context.clone();
    tokio::spawn(async move { filling.fill().await });

    // A new leader visits everything: changes of the time without one were seen by nobody.
    let (won, wins) = futures::channel::mpsc::unbounded();
    let feeling = {
        let (context, heard) = (context.clone(), won.clone());
        async move {
            context.until_filled().await;
            // The receiver lives as long as the process.
            pulse::feel(context, move |deployment| drop(heard.unbounded_send(Ok(deployment)))).await;
        }
    };
    tokio::spawn(feeling);
    let everything = {
        let context = context.clone();
        move || {
            for deployment in context.world.deployments.state() {
                // The receiver lives as long as the process.
                let _ = won.unbounded_send(Ok(ObjectRef::from_obj(&*deployment)));
            }
        }
    };
    let competing = (!settings.no_leader_election).then(|| {
        let (namespace, identity) = (settings.namespace.clone(), settings.identity.clone());
        let (leasing, context, leadership) = (leasing.clone(), context.clone(), leadership.clone());
        tokio::spawn(async move {
            context.until_filled().await;
            leader::compete(leasing, namespace, identity, leadership, everything).await;
        })
    });
    let visits = {
        let context = context.clone();
        async move {
            context.until_filled().await;
            let config = controller::Config::default().concurrency(CONCURRENT).debounce(Duration::from_millis(200));
            let queue = futures::stream::select(queue, wins);
            let store = context.world.deployments.clone();
            let visit = |deployment, context| Box::pin(reconcile::reconcile(deployment, context));
            let results = applier(visit, reconcile::retry, context.clone(), store, queue, config);
            // Failures have been logged and counted where they happened.
            results.for_each(|_| async {}).await;
        }
    };
    tokio::spawn(ledger::keep(context.clone()));
    tokio::spawn(missing_events::tell(context.clone(), leasing.clone()));
    let tidy = {
        let context = context.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(600)).await;
                let alive: BTreeSet<String> =
                    context.world.deployments.state().iter().filter_map(|d| d.uid()).collect();
                context.forget_all_but(&alive);
            }
        }
    };
    tokio::select! {
        () = visits => {}
        () = tidy => {}
        ended = server => ended.context("the HTTP server ended")??,
        stopped = stop() => stopped?,
    }
    if let Some(competing) = competing {
        competing.abort();
        leader::release(leasing, &settings.namespace, &settings.identity).await;
    }
    Ok(())
}

async fn stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
