//! The choice of tokens: limits, determinism, and that draws follow their distribution.

// A test fails by unwrapping.
#![allow(clippy::unwrap_used)]

use lime_engine::{Sampled, Sampling, sample, uniform};
use lime_kernels::{Isa, Kernels};
use lime_plan::TokenSet;
use proptest::prelude::*;

fn kernels() -> Kernels {
    Kernels::new(Isa::detect(), 1)
}

fn drawn(logits: &[f32], sampling: &Sampling) -> Sampled {
    sample(&kernels(), &mut logits.to_vec(), sampling).unwrap()
}

fn hot(temperature: f32) -> Sampling {
    Sampling { temperature, seed: 42, ..Sampling::default() }
}

#[test]
fn greedy_takes_the_likeliest_and_of_equals_the_lowest() {
    let logits = [0.5, 2.0, -1.0, 2.0];
    assert_eq!(drawn(&logits, &Sampling::default()).token, 1);
    assert_eq!(drawn(&logits, &Sampling { top_k: 1, ..hot(5.0) }).token, 1);
    assert_eq!(drawn(&logits, &Sampling { top_p: 0.0, ..hot(5.0) }).token, 1);
    assert_eq!(drawn(&logits, &hot(1e-30)).token, 1);
    assert_eq!(drawn(&[7.0], &hot(1.0)).token, 0);
}

#[test]
fn biases_come_before_the_choice_but_not_into_logprobs() {
    let logits = [1.0f32, 0.0, -1.0];
    let total: f32 = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
    let bias = vec![(2, 100.0), (99, 5.0)];
    let sampled = drawn(&logits, &Sampling { bias, logprobs: true, top_logprobs: 2, ..Sampling::default() });
    assert_eq!(sampled.token, 2);
    assert!((sampled.logprob.unwrap() - (-1.0 - total)).abs() < 1e-6);
    let top: Vec<u32> = sampled.top.iter().map(|entry| entry.token).collect();
    assert_eq!(top, [0, 1]);
    assert!((sampled.top[0].logprob - (1.0 - total)).abs() < 1e-6);
    let banned = Sampling { bias: vec![(0, -100.0)], ..hot(1.0) };
    assert!((0..200).all(|draw| drawn(&logits, &Sampling { draw, ..banned.clone() }).token != 0));
}

#[test]
fn only_what_is_allowed_is_drawn_and_a_ban_is_less_than_that() {
    let logits = [3.0f32, 1.0, -2.0, f32::MAX, -f32::MAX];
    let mut allowed = TokenSet::none(9);
    [1, 2].into_iter().for_each(|token| allowed.insert(token));
    let of = |sampling: Sampling| Sampling { allowed: Some(allowed.clone()), ..sampling };
    assert_eq!(drawn(&logits, &of(Sampling::default())).token, 1);
    assert_eq!(
        drawn(&logits, &of(Sampling { bias: vec![(1, -f32::MAX), (2, -f32::MAX)], ..hot(1.0) })).token,
        1,
        "still one of them"
    );
    for sampling in [
        hot(2.0),
        Sampling { top_p: 0.9, ..hot(2.0) },
        Sampling { top_k: 4, ..hot(2.0) },
        Sampling { min_p: 0.01, ..hot(2.0) },
    ] {
        let tokens: Vec<u32> =
            (0..200).map(|draw| drawn(&logits, &of(Sampling { draw, ..sampling.clone() })).token).collect();
        assert!(tokens.iter().all(|token| allowed.contains(*token)) && tokens.contains(&1) && tokens.contains(&2));
    }
    let kept = drawn(&logits[..3], &of(Sampling { logprobs: true, top_logprobs: 1, ..Sampling::default() }));
    assert_eq!((kept.token, kept.top[0].token), (1, 0), "log-probabilities are the model's own");
    let mut none = TokenSet::none(9);
    none.insert(7);
    let refused = sample(&kernels(), &mut logits.to_vec(), &Sampling { allowed: Some(none), ..hot(1.0) });
    assert!(refused.unwrap_err().to_string().starts_with("allowed"));
}

#[test]
fn logprobs_are_those_of_the_model_whatever_the_temperature() {
    let logits = [0.3f32, -0.7, 2.0, 0.0];
    let total: f32 = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
    for draw in 0..20 {
        let sampled = drawn(&logits, &Sampling { draw, logprobs: true, top_p: 0.9, ..hot(1.7) });
        assert!((sampled.logprob.unwrap() - (logits[sampled.token as usize] - total)).abs() < 1e-6);
        assert!(sampled.top.is_empty());
    }
    let far = drawn(&[0.0, -1e30], &Sampling { top_logprobs: 5, ..Sampling::default() });
    assert_eq!((far.logprob, far.top.len(), far.top[1].logprob), (None, 2, -9999.0));
}

#[test]
fn what_cannot_be_sampled_is_an_error() {
    let refused = |logits: &[f32], sampling: &Sampling| {
        sample(&kernels(), &mut logits.to_vec(), sampling).unwrap_err().to_string()
    };
    assert!(refused(&[0.0, f32::NAN], &hot(1.0)).contains("token 1 has NaN"));
    assert!(refused(&[f32::INFINITY], &Sampling::default()).contains("token 0 has inf"));
    assert!(refused(&[], &Sampling::default()).contains("there are none"));
    for (sampling, name) in [
        (hot(-1.0), "temperature"),
        (hot(f32::NAN), "temperature"),
        (hot(f32::INFINITY), "temperature"),
        (Sampling { top_p: 1.5, ..hot(1.0) }, "top_p"),
        (Sampling { top_p: f32::NAN, ..hot(1.0) }, "top_p"),
        (Sampling { bias: vec![(0, f32::NAN)], ..hot(1.0) }, "logit_bias"),
        (Sampling { min_p: 1.5, ..hot(1.0) }, "min_p"),
        (Sampling { repetition_penalty: 0.0, ..hot(1.0) }, "repetition_penalty"),
    ] {
        assert!(refused(&[0.0], &sampling).starts_with(name));
    }
}

/// Draws many times and compares with the expected probabilities by a chi-square test.
fn follows(logits: &[f32], sampling: &Sampling, expected: &[f64]) {
    const DRAWS: u64 = 20_000;
    let kernels = kernels();
    let mut counts = vec![0u64; logits.len()];
    for draw in 0..DRAWS {
        let sampled = sample(&kernels, &mut logits.to_vec(), &Sampling { draw, ..sampling.clone() }).unwrap();
        counts[sampled.token as usize] += 1;
    }
    let mut statistic = 0.0;
    let mut freedom = -1.0f64;
    for (count, p) in counts.iter().zip(expected) {
        if *p == 0.0 {
            assert_eq!(*count, 0);
            continue;
        }
        let mean = p * DRAWS as f64;
        statistic += (*count as f64 - mean).powi(2) / mean;
        freedom += 1.0;
    }
    // Four standard deviations above the mean of the distribution; the draws are fixed, so this never flickers.
    let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
    assert!(statistic <= limit, "chi-square {statistic} over {limit}: {counts:?}");
}

fn probabilities(logits: &[f32], temperature: f64, kept: &[usize]) -> Vec<f64> {
    let weight = |token: usize| (f64::from(logits[token]) / temperature).exp();
    let total: f64 = kept.iter().map(|token| weight(*token)).sum();
    (0..logits.len()).map(|token| if kept.contains(&token) { weight(token) / total } else { 0.0 }).collect()
}

const LOGITS: [f32; 6] = [0.1, 1.3, -0.4, 2.0, 0.9, -2.0];

#[test]
fn draws_follow_the_softmax() {
    follows(&LOGITS, &hot(1.0), &probabilities(&LOGITS, 1.0, &[0, 1, 2, 3, 4, 5]));
    follows(&LOGITS, &Sampling { seed: 7, ..hot(0.6) }, &probabilities(&LOGITS, 0.6, &[0, 1, 2, 3, 4, 5]));
    let flat = [0.5f32; 40];
    follows(&flat, &hot(2.0), &[1.0 / 40.0; 40]);
}

#[test]
fn draws_stay_in_top_k_and_top_p() {
    follows(&LOGITS, &Sampling { top_k: 3, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[1, 3, 4]));
    // 0.484 + 0.240 + 0.161 = 0.885 are the first three.
    follows(&LOGITS, &Sampling { top_p: 0.8, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[1, 3, 4]));
    follows(&LOGITS, &Sampling { top_p: 0.9, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[0, 1, 3, 4]));
    // Of the two that top-k leaves, the first alone has 0.668.
    follows(&LOGITS, &Sampling { top_k: 2, top_p: 0.6, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[3]));
    follows(&LOGITS, &Sampling { top_k: 2, top_p: 0.7, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[1, 3]));
}

#[test]
fn draws_stay_above_min_p_of_the_likeliest() {
    // Parts of the likeliest: 0.15, 0.50, 0.09, 1, 0.33, 0.02.
    follows(&LOGITS, &Sampling { min_p: 0.3, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[1, 3, 4]));
    follows(&LOGITS, &Sampling { min_p: 0.3, top_k: 5, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[1, 3, 4]));
    follows(&LOGITS, &Sampling { min_p: 0.3, top_k: 2, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[1, 3]));
    // Of what min-p leaves, the first alone has 0.546.
    follows(&LOGITS, &Sampling { min_p: 0.3, top_p: 0.5, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[3]));
    // After the temperature: hotter, more tokens stay.
    follows(&LOGITS, &Sampling { min_p: 0.3, ..hot(2.0) }, &probabilities(&LOGITS, 2.0, &[0, 1, 2, 3, 4]));
    follows(&LOGITS, &Sampling { min_p: 1.0, ..hot(1.0) }, &probabilities(&LOGITS, 1.0, &[3]));
}

#[test]
fn repeated_tokens_are_divided_or_multiplied_but_not_in_logprobs() {
    let logits = [2.0f32, -1.0, 1.5, -3.0];
    let total: f32 = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
    let sampling =
        Sampling { repetition_penalty: 2.0, repeated: vec![0, 1, 99], logprobs: true, ..Sampling::default() };
    let sampled = drawn(&logits, &sampling);
    assert_eq!(sampled.token, 2);
    assert!((sampled.logprob.unwrap() - (1.5 - total)).abs() < 1e-6);
    // 1, -2, 1.5, -3: and a bias comes after.
    follows(&logits, &Sampling { logprobs: false, ..sampling.clone() }, &[0.0, 0.0, 1.0, 0.0]);
    let hot = Sampling { temperature: 1.0, ..sampling };
    follows(&logits, &hot, &probabilities(&[1.0, -2.0, 1.5, -3.0], 1.0, &[0, 1, 2, 3]));
    let biased = Sampling { bias: vec![(0, 1.0)], ..hot };
    follows(&logits, &biased, &probabilities(&[2.0, -2.0, 1.5, -3.0], 1.0, &[0, 1, 2, 3]));
}

#[test]
fn uniform_numbers_fill_their_range() {
    for by_seed in [false, true] {
        let mut tenths = [0u32; 10];
        for number in 0..10_000u64 {
            let point = if by_seed { uniform(number, 0) } else { uniform(3, number) };
            assert!((0.0..1.0).contains(&point));
            tenths[(point * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| count.abs_diff(1000) < 120), "{tenths:?}");
    }
    // The values are a promise: the same seed gives the same answer in every version.
    let known =
        [(0, 0, 0.6524484863740322), (42, 7, 0.7347204584623639), (u64::MAX, u64::MAX - 1, 0.17965857065220792)];
    assert!(known.iter().all(|(seed, draw, expected)| uniform(*seed, *draw) == *expected));
    assert_ne!(uniform(0, 1), uniform(1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_choice_is_a_function_of_its_inputs(
        logits in proptest::collection::vec(-30.0f32..30.0, 1..700),
        temperature in 0.0f32..3.0, top_p in 0.0f32..=1.0, top_k in 0u32..800, seed: u64, draw: u64,
    ) {
        let sampling = Sampling { temperature, top_p, top_k, seed, draw, logprobs: true, top_logprobs: 3, ..Sampling::default() };
        let first = drawn(&logits, &sampling);
        prop_assert!((first.token as usize) < logits.len());
        for isa in Isa::available() {
            for threads in [1, 2] {
                let again = sample(&Kernels::new(isa, threads), &mut logits.clone(), &sampling).unwrap();
                prop_assert_eq!(&again, &first);
            }
        }
        prop_assert!(first.logprob.unwrap() <= 1e-5);
        prop_assert!(first.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
    }

    #[test]
    fn extreme_finite_numbers_are_survived(
        logits in proptest::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 1..50),
        temperature in any::<f32>(), top_p in any::<f32>(), top_k: u32, bias in any::<f32>(),
    ) {
        let sampling = Sampling { temperature, top_p, top_k, logprobs: true, top_logprobs: 2, bias: vec![(0, bias)], ..Sampling::default() };
        if let Ok(sampled) = sample(&kernels(), &mut logits.clone(), &sampling) {
            prop_assert!((sampled.token as usize) < logits.len());
            prop_assert!(!sampled.logprob.unwrap().is_nan());
        }
    }
}
