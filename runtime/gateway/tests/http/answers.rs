//! Answers in one piece.

use lime_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    CHAT, TEXT, babbling,
    client::{get, post},
    fake::{Setup, bard, recite},
    reciting, start,
};

fn content(answer: &Value, choice: usize) -> String {
    answer["choices"][choice]["message"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_chat_answer_has_the_form_of_the_api() {
    let (_served, addr) = reciting("Good morrow, cousin.").await;
    let body = json!({"model": "bard", "messages": [{"role": "user", "content": "Good morrow"}]});
    let answer = post(addr, CHAT, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.headers.contains_key("x-request-id"));
    let answer = answer.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "bard");
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "Good morrow, cousin.", "refusal": null}));
    assert_eq!((&choice["finish_reason"], &choice["logprobs"]), (&json!("stop"), &Value::Null));
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let prompt = tokenizer.encode("Good morrow", true).unwrap().len();
    let drawn = tokenizer.encode("Good morrow, cousin.", false).unwrap().len() + 1;
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn,
        "prompt_tokens_details": {"cached_tokens": 0}});
    assert_eq!(answer["usage"], usage);
}

#[tokio::test]
async fn parts_of_text_are_as_good_as_a_string() {
    let (_served, addr) = babbling().await;
    let ask = |content: Value| json!({"model": "bard", "temperature": 0, "max_tokens": 8, "messages": [{"role": "user", "content": content}]});
    let whole = post(addr, CHAT, &ask(json!("one\ntwo"))).await.json();
    let parts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    let parts = post(addr, CHAT, &ask(parts)).await.json();
    assert_eq!(content(&whole, 0), content(&parts, 0));
}

#[tokio::test]
async fn a_chat_template_is_used_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json"] {
        std::fs::copy(bard().join(file), folder.path().join(file)).unwrap();
    }
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if shout %}!{% endif %}\
                    {{ reasoning_effort }}\
                    {% if messages[0].role == 'assistant' %}{{ raise_exception('the user speaks first') }}{% endif %}";
    let config = json!({"chat_template": template, "eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let next = recite(tokenizer.encode("Ay.", false).unwrap(), tokenizer.eos()[0]);
    let (_served, addr) = start(Setup { model: folder.path().into(), ..Setup::default() }, next).await;
    let tokens = |text: &str| tokenizer.encode(text, false).unwrap().len();
    let developer = json!([{"role": "developer", "content": "Be brief"}, {"role": "user", "content": "Hark"}]);
    let answer = post(addr, CHAT, &json!({"model": "bard", "messages": developer})).await.json();
    assert_eq!(answer["usage"]["prompt_tokens"], tokens("system: Be brief\nuser: Hark\n"));
    let loud = json!({"model": "bard", "messages": developer, "chat_template_kwargs": {"shout": true}});
    assert_eq!(
        post(addr, CHAT, &loud).await.json()["usage"]["prompt_tokens"],
        tokens("system: Be brief\nuser: Hark\n!")
    );
    // As vLLM does, the effort is a variable of the template.
    let effort = |fields: Value| {
        let mut body = json!({"model": "bard", "messages": developer});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        async move { post(addr, CHAT, &body).await.json()["usage"]["prompt_tokens"].clone() }
    };
    let with = |effort: &str| tokens(&format!("system: Be brief\nuser: Hark\n{effort}"));
    assert_eq!(effort(json!({"reasoning_effort": "high"})).await, with("high"));
    let both = json!({"reasoning_effort": "high", "chat_template_kwargs": {"reasoning_effort": "lowest of all"}});
    assert_eq!(effort(both).await, with("lowest of all"));
    for name in ["messages", "tools", "documents", "add_generation_prompt", "chat_template"] {
        let body = json!({"model": "bard", "messages": developer, "chat_template_kwargs": {name: false}});
        let refused = post(addr, CHAT, &body).await;
        let error = refused.json()["error"].clone();
        let param = format!("chat_template_kwargs.{name}");
        assert_eq!((refused.status.as_u16(), &error["param"]), (400, &json!(param)), "{error}");
    }
    let wrong = json!({"model": "bard", "messages": [{"role": "assistant", "content": "I begin"}]});
    let refused = post(addr, CHAT, &wrong).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("the user speaks first"));
    assert_eq!(refused.json()["error"]["code"], "chat_template_error");
}

#[tokio::test]
async fn the_models_own_bound_is_for_chats_that_name_none() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(bard().join(file), folder.path().join(file)).unwrap();
    }
    let generation = json!({"max_new_tokens": 3, "do_sample": false, "repetition_penalty": 1.1});
    std::fs::write(folder.path().join("generation_config.json"), generation.to_string()).unwrap();
    let (_served, addr) =
        start(Setup { model: folder.path().into(), ..Setup::default() }, crate::fake::babble(vec![300])).await;
    let messages = json!([{"role": "user", "content": "Hark"}]);
    let open = post(addr, CHAT, &json!({"model": "bard", "messages": messages})).await.json();
    assert_eq!(
        (&open["usage"]["completion_tokens"], &open["choices"][0]["finish_reason"]),
        (&json!(3), &json!("length"))
    );
    let named = post(addr, CHAT, &json!({"model": "bard", "messages": messages, "max_tokens": 5})).await.json();
    assert_eq!(named["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn completions_take_every_form_of_prompt() {
    let (_served, addr) = babbling().await;
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let (one, two) = (tokenizer.encode("To be", true).unwrap(), tokenizer.encode("or not", true).unwrap());
    let ask = |prompt: Value| json!({"model": "bard", "prompt": prompt, "temperature": 0, "max_tokens": 5});
    let texts = |answer: Value| -> Vec<String> {
        answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect()
    };
    let strings = texts(post(addr, TEXT, &ask(json!(["To be", "or not"]))).await.json());
    let ids = texts(post(addr, TEXT, &ask(json!([one, two]))).await.json());
    let single = texts(post(addr, TEXT, &ask(json!("To be"))).await.json());
    let single_ids = texts(post(addr, TEXT, &ask(json!(one))).await.json());
    assert_eq!(strings, ids);
    assert_eq!((&strings[..1], &single), (single_ids.as_slice(), &single_ids));
    let answer = post(addr, TEXT, &ask(json!(["To be", "or not"]))).await.json();
    assert_eq!((&answer["object"], &answer["choices"][1]["index"]), (&json!("text_completion"), &json!(1)));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 10);
    let default = json!({"model": "bard", "prompt": ""});
    assert_eq!(post(addr, TEXT, &default).await.json()["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn echo_begins_with_the_prompt() {
    let (_served, addr) = reciting(" be").await;
    let ask = |max: u32| json!({"model": "bard", "prompt": "To", "echo": true, "max_tokens": max});
    assert_eq!(post(addr, TEXT, &ask(9)).await.json()["choices"][0]["text"], "To be");
    let nothing = post(addr, TEXT, &ask(0)).await.json();
    assert_eq!(nothing["choices"][0]["text"], "To");
    assert_eq!(
        (&nothing["choices"][0]["finish_reason"], &nothing["usage"]["completion_tokens"]),
        (&json!("length"), &json!(0))
    );
}

#[tokio::test]
async fn stops_end_an_answer_and_are_not_part_of_it() {
    let (_served, addr) = reciting("Once more unto the breach, dear friends, once more;").await;
    for (stop, text) in [
        (json!("breach"), "Once more unto the "),
        (json!(["zounds", ", dear fr"]), "Once more unto the breach"),
        (json!("Once"), ""),
        (json!(["never"]), "Once more unto the breach, dear friends, once more;"),
    ] {
        let body = json!({"model": "bard", "messages": [{"role": "user", "content": "?"}], "stop": stop});
        let answer = post(addr, CHAT, &body).await.json();
        assert_eq!(
            (content(&answer, 0).as_str(), &answer["choices"][0]["finish_reason"]),
            (text, &json!("stop")),
            "{stop}"
        );
    }
}

#[tokio::test]
async fn characters_are_never_cut() {
    let text = "naïve — 日本語 😀 fin";
    let (_served, addr) = reciting(text).await;
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 200, "logprobs": 0, "return_token_ids": true});
    let choice = post(addr, TEXT, &body).await.json()["choices"][0].clone();
    assert_eq!(choice["text"], text);
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap().len();
    assert!(tokens > text.chars().count(), "some characters take several tokens");
    assert_eq!(choice["token_ids"].as_array().unwrap().len(), tokens + 1, "the end token is named too");
    assert!(choice["logprobs"]["tokens"].to_string().contains("bytes:\\\\x"), "{choice}");
    for most in 1..tokens {
        let body = json!({"model": "bard", "prompt": "x", "max_tokens": most});
        let cut = post(addr, TEXT, &body).await.json()["choices"][0]["text"].as_str().unwrap().to_owned();
        assert!(text.starts_with(cut.trim_end_matches('\u{fffd}')), "{cut}");
    }
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_choices_differ() {
    let (_served, addr) = babbling().await;
    let ask = |seed: Value, n: u32| json!({"model": "bard", "messages": [{"role": "user", "content": "?"}], "max_tokens": 12, "seed": seed, "n": n});
    let one = post(addr, CHAT, &ask(json!(7), 1)).await.json();
    let three = post(addr, CHAT, &ask(json!(7), 3)).await.json();
    assert_eq!(content(&one, 0), content(&three, 0), "the first choice is what a single one is");
    assert_ne!(content(&three, 0), content(&three, 1));
    assert_ne!(content(&three, 1), content(&three, 2));
    assert_eq!(three["usage"]["completion_tokens"], 36);
    assert_eq!(three["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    let negative = post(addr, CHAT, &ask(json!(-1), 1)).await.json();
    assert_ne!(content(&one, 0), content(&negative, 0));
    let unseeded = post(addr, CHAT, &ask(Value::Null, 1)).await.json();
    let again = post(addr, CHAT, &ask(Value::Null, 1)).await.json();
    assert_ne!(content(&unseeded, 0), content(&again, 0));
}

#[tokio::test]
async fn log_probabilities_come_in_both_forms() {
    let (_served, addr) = reciting("Ay, good my lord").await;
    let body = json!({
        "model": "bard", "messages": [{"role": "user", "content": "?"}],
        "logprobs": true, "top_logprobs": 2, "stop": "lord",
    });
    let choice = post(addr, CHAT, &body).await.json()["choices"][0].clone();
    let entries = choice["logprobs"]["content"].as_array().unwrap();
    let joined: String = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert!("Ay, good my lord".starts_with(&joined) && joined.starts_with("Ay, good my"), "{joined}");
    assert_eq!(entries[0]["logprob"], -0.5);
    assert_eq!(entries[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(entries[0]["bytes"], json!(entries[0]["token"].as_str().unwrap().as_bytes()));

    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 3, "logprobs": 2});
    let logprobs = post(addr, TEXT, &body).await.json()["choices"][0]["logprobs"].clone();
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), 3, "{list}");
    }
    let first = logprobs["tokens"][0].as_str().unwrap();
    assert_eq!(logprobs["text_offset"][1], first.chars().count());
    assert_eq!(logprobs["top_logprobs"][0][first], -0.5);
}

#[tokio::test]
async fn the_end_token_can_be_ignored() {
    let (_served, addr) = reciting("Fin").await;
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 20, "ignore_eos": true});
    let answer = post(addr, TEXT, &body).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 20);
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["choices"][0]["text"]),
        (&json!("length"), &json!("Fin"))
    );
}

#[tokio::test]
async fn models_and_health_and_figures_are_there() {
    let (_served, addr) = babbling().await;
    let models = get(addr, "/v1/models").await.json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("bard")));
    assert_eq!(get(addr, "/v1/models/bard").await.json()["object"], "model");
    assert_eq!(get(addr, "/health").await.json()["status"], "ok");
    assert_eq!(get(addr, "/ready").await.json()["status"], "ready");
    post(addr, TEXT, &json!({"model": "bard", "prompt": "x", "max_tokens": 4})).await;
    let figures = get(addr, "/metrics").await;
    assert!(figures.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    for line in [
        "lime_http_requests_total{route=\"/v1/completions\",status=\"200\"} 1",
        "lime_time_to_first_token_seconds_count 1",
        "lime_generated_tokens_total 4",
        "lime_active_sequences 0",
        "lime_ring_epoch 1",
    ] {
        assert!(figures.text.lines().any(|found| found == line), "{line} is not in\n{}", figures.text);
    }
}
