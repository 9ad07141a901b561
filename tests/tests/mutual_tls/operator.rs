//! What the operator puts in Secrets is what the ring wants.

use anyhow::{Context as _, Result};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use lime_operator::{
    certificates::{self, Existing},
    wish::Wish,
};
use lime_ring::{connect, status};
use lime_tests::certificates::Member;
use serde_json::json;

use crate::{Joined, join, lone_worker};

/// Worker and gateway of a deployment.
fn members(name: &str) -> Result<[Joined; 2]> {
    let deployment = serde_json::from_value(json!({
        "apiVersion": lime_api::API_VERSION, "kind": "LimeDeployment",
        "metadata": { "name": name, "namespace": "llm", "uid": "u", "generation": 1 },
        "spec": { "model": { "source": "file:///models/m" } },
    }))?;
    let wish = Wish::check(&deployment).ok().context("a sound wish")?;
    let objects = certificates::ensure(&wish, &Existing::default(), Timestamp::now())?;
    let member = |name: String| {
        let object = objects.iter().find(|object| object.name == name).context("no such Secret")?;
        let data = serde_json::from_value::<Secret>(object.body.clone())?.data.unwrap_or_default();
        let text = |key: &str| anyhow::Ok(String::from_utf8(data.get(key).context("no such key")?.0.clone())?);
        join(&Member { authority: text("ca.crt")?, certificate: text("tls.crt")?, key: text("tls.key")? })
    };
    Ok([member(format!("{name}-worker-tls"))?, member(format!("{name}-gateway-tls"))?])
}

#[tokio::test]
async fn its_certificates_open_their_own_ring_and_no_other() -> Result<()> {
    let ([worker, gateway], [_, stranger]) = (members("m")?, members("n")?);
    let (running, peer) = lone_worker(&worker.transport).await?;
    for member in [&worker, &gateway] {
        assert_eq!(status(&member.transport, &peer).await?.phase, "idle");
    }
    connect(&stranger.transport, &peer.uri).await.unwrap_err();
    running.stop().await?;
    // A gateway's certificate does not make a worker.
    let (posing, peer) = lone_worker(&gateway.transport).await?;
    let error = connect(&worker.transport, &peer.uri).await.unwrap_err().to_string();
    assert!(error.contains(lime_ring::SERVER_NAME), "{error}");
    posing.stop().await?;
    Ok(())
}
