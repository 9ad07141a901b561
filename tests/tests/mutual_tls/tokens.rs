//! Encryption changes no bit.

use anyhow::Result;
use lime_ring::Transport;
use lime_tests::{
    certificates::Authority,
    fixtures,
    ring::{Workers, drive},
};

use crate::{bard_plan, join, sequence};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tokens_are_those_of_plain_text() -> Result<()> {
    let member = join(&Authority::new()?.worker()?)?;
    let mut reference = None;
    for (transport, devices, segments) in
        [(&Transport::Plaintext, 2, 2), (&member.transport, 2, 2), (&member.transport, 3, 1), (&member.transport, 1, 1)]
    {
        let mut workers = Workers::start_over(transport, &fixtures::bard(), devices).await?;
        let mut ring = workers.configure(&bard_plan(devices, segments)?).await?;
        let outcome = drive(&mut ring, &[sequence(12)], 16).await?;
        assert_eq!(outcome[0].tokens.len(), 12);
        let expected = reference.get_or_insert_with(|| outcome.clone());
        assert!(outcome == *expected, "{devices} devices, {segments} segments, {}", transport.scheme());
        drop(ring);
        workers.stop().await?;
    }
    Ok(())
}
