//! As long as one likes: random requests to a ring that guesses, keeps pages in little room and on a small disk, and loses workers, beside
//! one that does none of it. `LIME_TEST_SOAK_SECONDS=600 cargo test --release --test prefixes -- --ignored --nocapture soak`.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lime_gateway::{PrefixCache, Speculation};
use lime_plan::{Bytes, Nanos, ServingLimits};
use lime_tests::ring::lending;
use serde_json::{Value, json};

use crate::served::{SERVING, Setup, body, drawn, plan, post, tokens};

/// A stream of numbers that is the same for every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// One that begins as some others do, repeats itself or does not, and is drawn in one way or another.
    fn request(&mut self) -> Value {
        let (kind, common) = (self.below(4) as usize, self.below(220) as usize);
        let verse = tokens(kind, 0, 5 + self.below(30) as usize);
        let text: Vec<u32> = match self.below(3) {
            0 => tokens(kind, 0, common),
            _ => verse.iter().cycle().take(common).copied().collect(),
        };
        let own = tokens(self.below(50) as usize, 0, 1 + self.below(40) as usize);
        let mut request = body(&[text, own].concat(), 1 + self.below(120) as usize, self.below(1000));
        request["temperature"] = [json!(0), json!(0.3), json!(0.9)][self.below(3) as usize].clone();
        request["frequency_penalty"] = [json!(0), json!(-1.8), json!(0.5)][self.below(3) as usize].clone();
        request["n"] = json!(1 + self.below(2));
        request
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as LIME_TEST_SOAK_SECONDS says"]
async fn soak() -> Result<()> {
    let seconds = env::var("LIME_TEST_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let until = Instant::now() + Duration::from_secs(seconds);
    let plain = Setup::new(plan(SERVING, 1)?, PrefixCache::Off)?.start().await?;
    // A device that streams, or hands pages over, where it holds more than half of the longest requests; and little room on the disk.
    let tight = ServingLimits { max_context_tokens: 384, ..SERVING };
    let plans = [plan(SERVING, 2)?, lending(plan(tight, 2)?, 2, 12, Nanos(1_000_000_000))?];
    let mut numbers = Numbers(env::var("LIME_TEST_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1));
    let (mut rounds, mut compared, mut guessed, mut restored, mut replaced) = (0, 0, 0, 0, 0);
    'all: loop {
        for plan in &plans {
            let setup = Setup {
                disk: Some(Bytes::mib(2 + numbers.below(30))),
                speculation: Speculation::Window(1 + numbers.below(9) as u32),
                ..Setup::new(plan.clone(), PrefixCache::PerKey)?
            };
            // Everything is restarted, and finds what is on the disk.
            for _ in 0..3 {
                let mut served = setup.start().await?;
                for _ in 0..8 {
                    let requests: Vec<Value> = (0..1 + numbers.below(5)).map(|_| numbers.request()).collect();
                    let ask = |addr, request: &Value| {
                        let request = request.clone();
                        tokio::spawn(async move { post(addr, "one", &request).await })
                    };
                    let asked: Vec<_> = requests.iter().map(|request| ask(served.addr(), request)).collect();
                    let expected: Vec<_> = requests.iter().map(|request| ask(plain.addr(), request)).collect();
                    if numbers.below(4) == 0 {
                        served.replace_worker().await?;
                        replaced += 1;
                    }
                    for ((asked, expected), request) in asked.into_iter().zip(expected).zip(&requests) {
                        let (found, expected) = (asked.await??, expected.await??);
                        ensure!(found["choices"] == expected["choices"], "{request}: {found} instead of {expected}");
                        compared += drawn(&found)?.len() * request["n"].as_u64().unwrap_or(1) as usize;
                        let details = &found["usage"]["completion_tokens_details"];
                        guessed += details["accepted_prediction_tokens"].as_u64().unwrap_or_default();
                    }
                    rounds += 1;
                }
                restored += served.figure("lime_prefix_pages_restored_total").await?;
                served.stop().await?;
                if Instant::now() > until {
                    break 'all;
                }
            }
        }
    }
    println!(
        "{compared} tokens in {rounds} rounds, {guessed} of them guessed ahead, {restored} pages restored, {replaced} workers replaced: no difference"
    );
    plain.stop().await
}
