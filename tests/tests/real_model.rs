//! A real model on three devices, none of which could hold it, gives transformers' own answers.

use anyhow::Result;
use lime_api::KvCacheType;
use lime_model::ModelFolder;
use lime_plan::{Dtype, Goal};
use lime_tests::{
    real_model::{answers, first_difference, golden, smollm2, three_devices},
    ring::Workers,
};
use lime_text::{ChatTemplate, Tokenizer};

/// Chats at a time.
const TOGETHER: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_by_default_answers_as_transformers_does_in_f32() -> Result<()> {
    let Some(model) = smollm2()? else { return Ok(()) };
    let cases = golden()?;
    assert_eq!(cases.len(), 20);
    let card = ModelFolder::open(&model)?.card("smollm2");
    assert_eq!(card.dtype(), Dtype::Bf16);
    let kv = KvCacheType::default().dtype(card.dtype());
    assert_eq!(kv, Goal::sporadic(&card, 128).kv, "planner and API mean the same");

    let plan = three_devices(&card, kv, TOGETHER)?;
    assert_eq!(plan.devices.len(), 3, "no fewer hold it");
    let mut workers = Workers::start(&model, 3, 1).await?;
    let mut ring = workers.configure(&plan).await?;
    let found = answers(&mut ring, &cases, TOGETHER).await?;
    let mut wrong = Vec::new();
    for (case, answer) in cases.iter().zip(&found) {
        if let Some((at, margin)) = first_difference(case, answer)? {
            wrong.push(format!("{:?}: token {at}, where transformers' margin is {margin}", case.question));
        }
    }
    let right = cases.len() - wrong.len();
    println!("KV entries in {kv}: {right} of {} answers are those of transformers in f32", cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    let saturated: u64 = workers.status().await?.iter().map(|status| status.memory().kv_saturated).sum();
    assert_eq!(saturated, 0, "no entry of this model is beyond f16's range");
    drop(ring);
    workers.stop().await
}

#[test]
fn its_tokenizer_and_template_give_the_golden_prompts() -> Result<()> {
    let Some(model) = smollm2()? else { return Ok(()) };
    let tokenizer = Tokenizer::open(&model)?;
    let template = ChatTemplate::open(&model)?.expect("the model has a chat template");
    for case in golden()? {
        assert_eq!(tokenizer.encode(&case.prompt, false)?, case.prompt_ids, "{}", case.question);
        let messages = serde_json::json!([{ "role": "user", "content": case.question }]);
        let rendered = template.render(&messages, true, None, &serde_json::Map::new())?;
        assert_eq!(rendered, case.prompt);
    }
    Ok(())
}
