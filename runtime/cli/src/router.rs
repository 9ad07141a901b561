//! `lime router`: several models behind one endpoint.

use lime_gateway::start_router;

use crate::{args::RouterArgs, logging, stop::StopSignals};

/// Routes until a signal.
pub(crate) fn run(args: RouterArgs) -> anyhow::Result<()> {
    logging::start("info");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut signals = StopSignals::new()?;
        let router = start_router(args.listen, args.models).await?;
        println!("{}", serde_json::json!({ "listening": router.addr().to_string() }));
        signals.wait().await;
        router.stop().await;
        Ok(())
    })
}
