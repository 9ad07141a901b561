//! What `generation_config.json` says.

use lime_text::GenerationConfig;
use serde_json::json;

#[test]
fn generation_defaults_are_read_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(GenerationConfig::load(folder.path()).unwrap(), GenerationConfig::default());
    let file = folder.path().join("generation_config.json");
    let written = json!({"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": [3, 1]});
    std::fs::write(&file, written.to_string()).unwrap();
    let read = GenerationConfig::load(folder.path()).unwrap();
    assert_eq!((read.do_sample, read.temperature, read.top_p), (Some(true), Some(0.6), Some(0.95)));
    assert_eq!((read.top_k, read.eos), (Some(20), vec![3, 1]));
    std::fs::write(&file, r#"{"top_p": 3}"#).unwrap();
    let fault = GenerationConfig::load(folder.path()).unwrap_err().to_string();
    assert!(
        fault.contains("generation_config.json: the field \"top_p\" must be a number from 0 to 1, found 3"),
        "{fault}"
    );
}
