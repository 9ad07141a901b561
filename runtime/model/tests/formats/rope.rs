//! Rotary frequencies against those of transformers.

use lime_model::ModelConfig;

use crate::places::{fixture, json};

#[test]
fn frequencies_are_those_of_transformers() {
    let cases = json(fixture("rope/golden.json"));
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let config = ModelConfig::parse(&case["config"].to_string()).unwrap();
        let (frequencies, factor) = config.spec.ropes()[0].config.inverse_frequencies(config.head_dim, config.context);
        let expected: Vec<f64> =
            case["inverse_frequencies"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!(frequencies.len(), expected.len(), "{}", case["name"]);
        for (plane, (ours, theirs)) in frequencies.iter().zip(&expected).enumerate() {
            // Theirs are computed in f32, the power included.
            assert!((ours / theirs - 1.0).abs() < 4e-6, "{} plane {plane}: {ours} {theirs}", case["name"]);
        }
        let expected = case["attention_factor"].as_f64().unwrap();
        assert!((factor / expected - 1.0).abs() < 1e-12, "{}: {factor} {expected}", case["name"]);
    }
}
