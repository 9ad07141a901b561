//! What was computed comes back when everything has been restarted, as long as its disk has it as it was; and what is lost in the middle of
//! an answer is all that is computed again.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lime_gateway::{PrefixCache, Speculation};
use lime_plan::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::served::{PAGE, SERVING, Served, Setup, body, cached, drawn, plan, post, tokens};

/// Waits until both workers have so many pages on their disks.
async fn written(served: &Served, pages: u64) -> Result<()> {
    for _ in 0..2000 {
        let on_disk = served.status().await?.iter().map(|reply| reply.page_disk.unwrap_or_default().pages).min();
        if on_disk.is_some_and(|on_disk| on_disk >= pages) {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("pages are not written: {:?}", served.status().await?)
}

/// Every page's file, and the folder that they lie in.
fn files(store: &Path) -> Result<(Vec<PathBuf>, PathBuf)> {
    let models = fs::read_dir(store.join("models"))?.collect::<Result<Vec<_>, _>>()?;
    let folder = models.first().context("there is no model")?.path().join("kv-pages");
    let mut found = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "page") {
                found.push(path);
            }
        }
    }
    Ok((found, folder))
}

/// The second turn of a chat, and what it takes.
async fn second_turn(served: &Served, expected: &Value, body: &Value, from_before: usize) -> Result<()> {
    let before = served.figure("lime_pass_rows_total").await?;
    let answer = served.ask(body).await?;
    ensure!(answer["choices"] == expected["choices"], "{answer} instead of {expected}");
    ensure!(cached(&answer) == from_before as u64, "{answer}");
    let rows = served.figure("lime_pass_rows_total").await? - before;
    let whole = body["prompt"].as_array().map_or(0, Vec::len) + drawn(&answer)?.len() - 1;
    ensure!(rows as usize == whole - from_before, "{rows} rows of {whole}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_goes_on_when_everything_was_restarted() -> Result<()> {
    let plain = Setup::new(plan(SERVING, 1)?, PrefixCache::Off)?.start().await?;
    let first = body(&tokens(0, 0, 180), 30, 1);
    let said = drawn(&plain.ask(&first).await?)?;
    let second = body(&[tokens(0, 0, 180), said, tokens(1, 0, 40)].concat(), 12, 2);
    let expected = plain.ask(&second).await?;
    plain.stop().await?;

    let setup = Setup { disk: Some(Bytes::mib(64)), ..Setup::new(plan(SERVING, 2)?, PrefixCache::PerKey)? };
    let served = setup.start().await?;
    served.ask(&first).await?;
    written(&served, 3).await?;
    served.stop().await?;

    let served = setup.start().await?;
    second_turn(&served, &expected, &second, 3 * PAGE).await?;
    ensure!(served.figure("lime_prefix_pages_restored_total").await? == 3);
    ensure!(served.status().await?.iter().all(|reply| reply.page_disk.unwrap_or_default().read == 3));
    // Of the second turn's own there is another page.
    written(&served, 4).await?;
    served.stop().await?;

    // A plan that cuts the layers otherwise has nothing of use, and nothing is in its way.
    let other = Setup { plan: plan(SERVING, 1)?, ..setup.clone() };
    let served = other.start().await?;
    second_turn(&served, &expected, &second, 0).await?;
    served.stop().await?;

    // A bit flips in each of them: found, and computed again.
    let (pages, folder) = files(setup.store())?;
    ensure!(pages.len() >= 8, "{pages:?}");
    for path in &pages {
        let (file, mut byte) = (File::options().read(true).write(true).open(path)?, [0]);
        file.read_exact_at(&mut byte, 5000)?;
        file.write_all_at(&[byte[0] ^ 1], 5000)?;
    }
    let served = setup.start().await?;
    second_turn(&served, &expected, &second, 0).await?;
    let damaged: u64 = served.status().await?.iter().map(|reply| reply.page_disk.unwrap_or_default().damaged).sum();
    ensure!(damaged > 0 && served.figure("lime_prefix_pages_missed_total").await? > 0, "{damaged} damaged");
    // What was computed again is written again, and of use.
    second_turn(&served, &expected, &second, 3 * PAGE).await?;
    served.stop().await?;

    // A disk that cannot be used, and one without room, keep nobody from serving.
    fs::remove_dir_all(&folder)?;
    fs::write(&folder, "in the way")?;
    let served = setup.start().await?;
    second_turn(&served, &expected, &second, 0).await?;
    served.stop().await?;
    fs::remove_file(&folder)?;
    let served = Setup { disk: Some(Bytes(10_000)), ..setup }.start().await?;
    second_turn(&served, &expected, &second, 0).await?;
    served.stop().await
}

/// Answers of every kind, several of which begin alike, to which text that repeats itself gives guesses.
fn requests() -> Vec<Value> {
    let verse = tokens(7, 0, 23);
    let edit = verse.iter().cycle().take(150).copied().collect::<Vec<u32>>();
    let mut requests = Vec::new();
    for own in 0..3 {
        let mut request = body(&[edit.clone(), tokens(own, 0, 7), verse.clone()].concat(), 120, 3 + own as u64);
        let changes = [
            json!({ "temperature": 0 }),
            json!({ "temperature": 0.6, "frequency_penalty": -1.5 }),
            json!({ "temperature": 0.2, "presence_penalty": 0.3, "logit_bias": { "17": 3 }, "n": 2 }),
        ];
        if let (Value::Object(request), Value::Object(changes)) = (&mut request, changes[own].clone()) {
            request.extend(changes);
        }
        requests.push(request);
    }
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_and_prefixes_together_change_no_answer_when_a_worker_is_replaced() -> Result<()> {
    let plain = Setup::new(plan(SERVING, 1)?, PrefixCache::Off)?.start().await?;
    let mut expected = Vec::new();
    for request in &requests() {
        expected.push(plain.ask(request).await?["choices"].clone());
    }
    plain.stop().await?;

    for disk in [None, Some(Bytes::mib(64))] {
        let setup = Setup::new(plan(SERVING, 2)?, PrefixCache::PerKey)?;
        let setup = Setup { disk, speculation: Speculation::Window(5), ..setup };
        let mut served = setup.start().await?;
        let addr = served.addr();
        let before = served.ask(&requests()[0]).await?;
        ensure!(before["choices"] == expected[0], "{before} instead of {}", expected[0]);
        if disk.is_some() {
            written(&served, 2).await?;
        }
        let asked =
            requests().into_iter().map(|request| tokio::spawn(async move { post(addr, "one", &request).await }));
        let asked: Vec<_> = asked.collect();
        // In the middle of them.
        while served.figure("lime_active_sequences").await? < 3 {
            tokio::task::yield_now().await;
        }
        served.replace_worker().await?;
        for (asked, expected) in asked.into_iter().zip(&expected) {
            let answer = asked.await??;
            ensure!(answer["choices"] == *expected, "{disk:?}: {answer} instead of {expected}");
        }
        // And once more, behind what is there by now.
        let mut guessed = 0;
        for (request, expected) in requests().iter().zip(&expected) {
            let answer = served.ask(request).await?;
            ensure!(answer["choices"] == *expected, "{disk:?}: {answer} instead of {expected}");
            ensure!(cached(&answer) >= 2 * PAGE as u64, "{answer}");
            guessed += answer["usage"]["completion_tokens_details"]["accepted_prediction_tokens"].as_u64().unwrap_or(0);
        }
        ensure!(guessed > 0, "no guess held");
        let restored = served.figure("lime_prefix_pages_restored_total").await?;
        ensure!((restored > 0) == disk.is_some(), "{restored} pages came back");
        served.stop().await?;
    }
    Ok(())
}
