//! What is at hand is not computed again.

use anyhow::{Result, ensure};
use lime_gateway::PrefixCache;
use lime_plan::{Nanos, ServingLimits};
use lime_tests::ring::lending;
use serde_json::{Value, json};

use crate::served::{PAGE, SERVING, Setup, body, cached, drawn, plan, post, tokens};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_goes_on_from_what_was_computed_and_says_the_same() -> Result<()> {
    for segments in [1, 2] {
        let keeping = Setup::new(plan(SERVING, segments)?, PrefixCache::PerKey)?.start().await?;
        let plain = Setup::new(plan(SERVING, segments)?, PrefixCache::Off)?.start().await?;
        let both = async |body: &Value| -> Result<Value> {
            let (kept, expected) = (keeping.ask(body).await?, plain.ask(body).await?);
            ensure!(kept["choices"] == expected["choices"], "{kept} instead of {expected}");
            ensure!(cached(&expected) == 0, "{expected}");
            Ok(kept)
        };
        let first = tokens(0, 0, 180);
        let answer = both(&body(&first, 30, 1)).await?;
        ensure!(cached(&answer) == 0, "{answer}");

        let before = keeping.figure("lime_pass_rows_total").await?;
        let second = [first.clone(), drawn(&answer)?, tokens(1, 0, 40)].concat();
        let answer = both(&body(&second, 12, 2)).await?;
        // Of 209 positions of prompt and answer the whole pages.
        ensure!(cached(&answer) == 3 * PAGE as u64, "{answer}");
        let rows = keeping.figure("lime_pass_rows_total").await? - before;
        ensure!(rows as usize == second.len() - 3 * PAGE + 11, "{rows} rows");

        // The same once more: at least a row is computed, also where the prompt is nothing but whole pages.
        ensure!(cached(&both(&body(&second, 12, 3)).await?) == 3 * PAGE as u64);
        ensure!(cached(&both(&body(&second[..3 * PAGE], 5, 3)).await?) == 2 * PAGE as u64);

        // Several answers to one prompt, and requests that come together.
        let many = tokens(2, 0, 140);
        let before = keeping.figure("lime_pass_rows_total").await?;
        let mut several = body(&many, 4, 5);
        several["n"] = json!(4);
        both(&several).await?;
        let rows = keeping.figure("lime_pass_rows_total").await? - before;
        ensure!(rows as usize == 2 * PAGE + 4 * 12 + 4 * 3, "{rows} rows");
        let bodies = [0, 1, 2].map(|own| body(&[tokens(3, 0, 150), tokens(4 + own, 0, 30)].concat(), 8, 7));
        let [one, two, three] = bodies;
        tokio::try_join!(both(&one), both(&two), both(&three))?;
        ensure!(keeping.figure("lime_prefix_pages_reused_total").await? >= 3 + 3 + 2 + 3 * 2 + 2 * 2);
        ensure!(plain.figure("lime_prefix_pages").await? == 0);
        keeping.stop().await?;
        plain.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_gives_way_to_requests() -> Result<()> {
    // A slot alone, and a device that has to stream or to hand pages over where it holds more than half of the longest requests.
    let alone = ServingLimits { max_concurrent_requests: 1, ..SERVING };
    let shorter = ServingLimits { max_context_tokens: 330, ..SERVING };
    for plan in [plan(alone, 1)?, lending(plan(shorter, 2)?, 2, 12, Nanos(1_000_000_000))?] {
        let keeping = Setup::new(plan.clone(), PrefixCache::PerKey)?.start().await?;
        let plain = Setup::new(plan, PrefixCache::Off)?.start().await?;
        for round in 0..3 {
            for kind in [0, 1, 0, 2, 3] {
                let mut body = body(&[tokens(kind, 0, 200), tokens(9, round, 60)].concat(), 20, 4);
                body["n"] = json!(3);
                let (kept, expected) = tokio::try_join!(keeping.ask(&body), plain.ask(&body))?;
                ensure!(kept["choices"] == expected["choices"], "{kept} instead of {expected}");
            }
        }
        let [reused, dropped] = ["lime_prefix_pages_reused_total", "lime_prefix_pages_dropped_total"];
        let (reused, dropped) = (keeping.figure(reused).await?, keeping.figure(dropped).await?);
        ensure!(reused > 20 && dropped > 5, "{reused} reused, {dropped} dropped");
        for reply in keeping.status().await? {
            let memory = reply.memory();
            ensure!(memory.kv_bytes <= memory.kv_room_bytes, "{memory:?}");
        }
        keeping.stop().await?;
        plain.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_replaced_takes_what_is_kept_along_and_no_answer_changes() -> Result<()> {
    let mut keeping = Setup::new(plan(SERVING, 1)?, PrefixCache::PerKey)?.start().await?;
    let plain = Setup::new(plan(SERVING, 1)?, PrefixCache::Off)?.start().await?;
    let bodies = [0, 1, 2].map(|own| body(&[tokens(3, 0, 150), tokens(4 + own, 0, 20)].concat(), 150, 7));
    let mut expected = Vec::new();
    for body in &bodies {
        expected.push(plain.ask(body).await?["choices"].clone());
    }
    ensure!(keeping.ask(&bodies[0]).await?["choices"] == expected[0]);
    let kept = keeping.figure("lime_prefix_pages").await?;
    let addr = keeping.addr();
    let asked = bodies.clone().map(|body| tokio::spawn(async move { post(addr, "one", &body).await }));
    // In the middle of them.
    while keeping.figure("lime_active_sequences").await? < 3 {
        tokio::task::yield_now().await;
    }
    keeping.replace_worker().await?;
    for (asked, expected) in asked.into_iter().zip(&expected) {
        let answer = asked.await??;
        ensure!(answer["choices"] == *expected, "{answer} instead of {expected}");
    }
    let dropped = keeping.figure("lime_prefix_pages_dropped_total").await?;
    ensure!(dropped >= kept, "{dropped} of {kept} pages were lost");
    ensure!(keeping.ask(&bodies[1]).await?["choices"] == expected[1]);
    keeping.stop().await?;
    plain.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_served_by_what_another_asked_only_if_that_is_wished() -> Result<()> {
    for (cache, seen) in [(PrefixCache::PerKey, 0), (PrefixCache::Shared, 2 * PAGE as u64)] {
        let served = Setup { keys: &["one", "two"], ..Setup::new(plan(SERVING, 1)?, cache)? }.start().await?;
        let body = body(&tokens(0, 0, 150), 3, 1);
        let first = served.ask_with("one", &body).await?;
        let other = served.ask_with("two", &body).await?;
        let again = served.ask_with("one", &body).await?;
        ensure!([&first, &other, &again].map(cached) == [0, seen, 2 * PAGE as u64], "{first} {other} {again}");
        ensure!(first["choices"] == other["choices"] && first["choices"] == again["choices"]);
        served.stop().await?;
    }
    Ok(())
}
