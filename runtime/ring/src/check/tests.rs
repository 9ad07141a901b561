use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::proto::{ActivationType, Draft, LogitBias, TokenSet};

const LIMITS: FrameLimits =
    FrameLimits { segments: 2, slots: 3, max_rows: 8, context: 32, hidden: 4, vocabulary: 10, residual: Dtype::F32 };

fn rows(slot: u32, start: u32, count: u32) -> Rows {
    Rows { slot, start, count, ..Rows::default() }
}

fn frame() -> Frame {
    Frame {
        epoch: 1,
        pass: 1,
        segment: 2,
        rows: vec![rows(0, 0, 2), rows(2, 31, 1)],
        release: vec![1],
        activation_type: ActivationType::F32 as i32,
        columns: 4,
        activations: Bytes::from(vec![0; 3 * 4 * 4]),
        ..Frame::default()
    }
}

fn keep(slot: u32, first: u32, pages: usize) -> Vec<KeepPages> {
    vec![KeepPages { slot, first, pages: vec![u64::MAX; pages], names: Vec::new() }]
}

fn named(names: usize, bytes: usize) -> Vec<KeepPages> {
    vec![KeepPages { names: vec![vec![0xff; bytes]; names], ..keep(0, 0, 1).remove(0) }]
}

fn restored(bytes: usize) -> RestoredPage {
    RestoredPage { page: 1, name: vec![0; bytes] }
}

fn pass() -> Pass {
    Pass { epoch: 1, pass: 1, rows: vec![rows(0, 0, 2)], tokens: vec![1, 9], ..Pass::default() }
}

#[test]
fn good_messages_pass() {
    assert_eq!(LIMITS.check_frame(&frame()), Ok(3));
    assert_eq!(LIMITS.check_pass(&pass()), Ok(2));
    let failed = Frame { failure: "no memory".into(), activations: Bytes::new(), ..frame() };
    assert_eq!(LIMITS.check_frame(&failed), Ok(3));
    assert_eq!(LIMITS.check_pass(&Pass { rows: vec![], tokens: vec![], ..pass() }), Ok(0));
}

#[test]
fn each_wrong_field_of_a_frame_is_named() {
    type Spoil = fn(&mut Frame);
    let spoilt: &[(Spoil, FrameError)] = &[
        (|f| f.pass = 0, FrameError::Unnumbered),
        (|f| f.segment = 3, FrameError::Segment { found: 3, segments: 2 }),
        (|f| f.rows[0].slot = 3, FrameError::Slot { found: 3, slots: 3 }),
        (|f| f.rows[0].slot = 2, FrameError::SlotTwice(2)),
        (|f| f.rows[0].count = 0, FrameError::NoRows(0)),
        (|f| f.rows[0].prefix = vec![5], FrameError::Prefix { slot: 0, start: 0, pages: 1 }),
        (|f| f.rows[0].prefix = vec![5; 1 << 10], FrameError::Prefix { slot: 0, start: 0, pages: 1 << 10 }),
        (|f| f.keep = keep(3, 0, 1), FrameError::Slot { found: 3, slots: 3 }),
        (|f| f.keep = keep(0, 0, 2), FrameError::Pages { found: 2, max: 1 }),
        (|f| f.keep = keep(0, u32::MAX, 1), FrameError::Pages { found: 1 << 32, max: 1 }),
        (|f| f.keep = vec![keep(0, 0, 1); 4].concat(), FrameError::Pages { found: 4, max: 3 }),
        (|f| f.forget = vec![1; 4], FrameError::Pages { found: 4, max: 3 }),
        (|f| f.forgotten = vec![1; 10], FrameError::Pages { found: 10, max: 9 }),
        (|f| f.restore = vec![restored(32); 4], FrameError::Pages { found: 4, max: 3 }),
        (|f| f.restore = vec![restored(31)], FrameError::Names { found: 0, pages: 1 }),
        (|f| f.keep = named(1, 31), FrameError::Names { found: 1, pages: 1 }),
        (|f| f.keep = named(2, 32), FrameError::Names { found: 2, pages: 1 }),
        (|f| f.rows[0].trace = vec![1; 25], FrameError::Trace { slot: 0, found: 25 }),
        (|f| f.rows[1].start = 32, FrameError::Context { slot: 2, end: 33, context: 32 }),
        (|f| f.rows[1].start = u32::MAX, FrameError::Context { slot: 2, end: 1 << 32, context: 32 }),
        (|f| f.rows[0].count = 9, FrameError::TooManyRows { found: 10, max: 8 }),
        (|f| f.release = vec![7], FrameError::Slot { found: 7, slots: 3 }),
        (|f| f.activation_type = 1, FrameError::ActivationType { found: 1, expected: Dtype::F32 }),
        (|f| f.columns = 5, FrameError::Columns { found: 5, hidden: 4 }),
        (|f| f.activations = f.activations.slice(1..), FrameError::Length { found: 47, rows: 3, expected: 48 }),
        (|f| f.failure = "failed".into(), FrameError::Length { found: 48, rows: 3, expected: 0 }),
    ];
    for (spoil, expected) in spoilt {
        let mut wrong = frame();
        spoil(&mut wrong);
        assert_eq!(LIMITS.check_frame(&wrong).as_ref(), Err(expected));
    }
}

#[test]
fn each_wrong_field_of_a_pass_is_named() {
    type Spoil = fn(&mut Pass);
    let spoilt: &[(Spoil, FrameError)] = &[
        (|p| p.pass = 0, FrameError::Unnumbered),
        (|p| p.tokens.push(0), FrameError::Tokens { tokens: 3, rows: 2 }),
        (|p| p.tokens[0] = 10, FrameError::Token { slot: 0, found: 10, vocabulary: 10 }),
        (
            |p| p.rows[0].sample = Some(Sampling { temperature: f32::NAN, ..Sampling::default() }),
            FrameError::Sampling { slot: 0, what: "the temperature must be a number from 0" },
        ),
        (
            |p| p.rows[0].sample = Some(Sampling { min_p: f32::NAN, ..Sampling::default() }),
            FrameError::Sampling { slot: 0, what: "min_p must be from 0 to 1" },
        ),
        (
            |p| p.rows[0].sample = Some(Sampling { repetition_penalty: -1.0, ..Sampling::default() }),
            FrameError::Sampling { slot: 0, what: "the repetition penalty must be a number from 0" },
        ),
        (
            |p| p.rows[0].sample = Some(Sampling { repeated: vec![3, 3], ..Sampling::default() }),
            FrameError::Sampling { slot: 0, what: "repeated tokens must be ascending" },
        ),
        (
            |p| p.rows[0].sample = Some(Sampling { top_p: 1.5, ..Sampling::default() }),
            FrameError::Sampling { slot: 0, what: "top_p must be from 0 to 1" },
        ),
        (
            |p| {
                let bias = vec![LogitBias { token: 10, value: 0.0 }];
                p.rows[0].sample = Some(Sampling { bias, ..Sampling::default() });
            },
            FrameError::Token { slot: 0, found: 10, vocabulary: 10 },
        ),
    ];
    for (spoil, expected) in spoilt {
        let mut wrong = pass();
        spoil(&mut wrong);
        assert_eq!(LIMITS.check_pass(&wrong).as_ref(), Err(expected));
    }
}

/// A set of one token.
fn one(token: u32) -> Option<TokenSet> {
    Some(TokenSet { gaps: vec![token], ..TokenSet::default() })
}

/// Rows of one token that is sure and `guesses`, drawn from; the tokens of the pass.
fn drafted(guesses: &[u32]) -> Pass {
    let drafts = guesses.iter().map(|token| Draft { token: *token, bias: Some(-0.5), allowed: None }).collect();
    let count = 1 + guesses.len() as u32;
    let rows = vec![Rows { sample: Some(Sampling::default()), drafts, ..rows(0, 0, count) }];
    Pass { rows, tokens: [&[1], guesses].concat(), ..pass() }
}

#[test]
fn guesses_go_with_their_rows_and_their_faults_are_no_requests() {
    assert_eq!(LIMITS.check_pass(&drafted(&[4, 9])), Ok(3));
    type Spoil = fn(&mut Pass);
    let spoilt: &[(Spoil, &str)] = &[
        (|p| p.rows[0].sample = None, "nothing is drawn"),
        (|p| p.rows[0].count = 2, "the first row to draw from is no guess"),
        (|p| p.tokens[2] = 8, "they are not the tokens of the last rows"),
        (|p| p.tokens[2] = 10, "they are not the tokens of the last rows"),
        (|p| p.rows[0].drafts[1].token = 10, "one is no token of the model"),
        (|p| p.rows[0].drafts[0].bias = Some(f32::INFINITY), "a bias is not a finite number"),
        (|p| p.rows[0].drafts[0].allowed = one(3), "what may be drawn is said behind the first draw only"),
        (
            |p| {
                p.rows[0].sample.as_mut().unwrap().allowed = one(3);
                p.rows[0].drafts[1].allowed = one(10);
            },
            "one of the tokens that may be drawn is none of the model's",
        ),
    ];
    for (spoil, expected) in spoilt {
        let mut wrong = drafted(&[4, 9]);
        spoil(&mut wrong);
        if wrong.rows[0].count == 2 {
            wrong.tokens.pop();
        }
        let fault = LIMITS.check_pass(&wrong).unwrap_err();
        assert!(matches!(fault, FrameError::Drafts { slot: 0, what, .. } if what == *expected), "{fault} {expected}");
        assert_eq!(fault.refused_slot(), None);
    }
    let wide = FrameLimits { max_rows: 99, context: 99, ..LIMITS };
    assert_eq!(wide.check_pass(&drafted(&[3; MOST_DRAFTS])), Ok(32));
    assert!(wide.check_pass(&drafted(&[3; MOST_DRAFTS + 1])).is_err());
}

#[test]
fn what_a_request_can_ask_for_is_the_fault_of_its_slot_and_all_else_of_the_sender() {
    let refused = |spoil: &dyn Fn(&mut Pass)| {
        let mut pass = Pass { rows: vec![rows(2, 0, 2), rows(1, 0, 1)], tokens: vec![1, 2, 3], ..pass() };
        spoil(&mut pass);
        LIMITS.check_pass(&pass).unwrap_err().refused_slot()
    };
    let sampling = |change: &dyn Fn(&mut Sampling)| {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        refused(&|pass| pass.rows[1].sample = Some(sampling.clone()))
    };
    assert_eq!(refused(&|pass| pass.tokens[1] = 10), Some(2));
    assert_eq!(refused(&|pass| pass.tokens[2] = 10), Some(1));
    assert_eq!(refused(&|pass| pass.rows[1].start = 32), Some(1));
    assert_eq!(sampling(&|sampling| sampling.temperature = f32::INFINITY), Some(1));
    assert_eq!(sampling(&|sampling| sampling.top_p = f32::NAN), Some(1));
    assert_eq!(sampling(&|sampling| sampling.top_logprobs = 11), Some(1));
    assert_eq!(sampling(&|sampling| sampling.allowed = one(10)), Some(1));
    assert_eq!(sampling(&|sampling| sampling.allowed = Some(TokenSet::default())), Some(1), "nothing could be drawn");
    let scoring = |next: &[u32], top_logprobs| {
        refused(&|pass| pass.rows[0].scoring = Some(Scoring { next: next.to_vec(), top_logprobs }))
    };
    assert_eq!([scoring(&[], 0), scoring(&[1, 2, 3], 0), scoring(&[10], 0), scoring(&[1], 11)], [Some(2); 4]);
    assert_eq!(refused(&|pass| pass.rows[0].pooled = 3), Some(2));
    assert_eq!(sampling(&|sampling| sampling.bias = vec![LogitBias { token: 10, value: 0.0 }]), Some(1));
    assert_eq!(sampling(&|sampling| sampling.bias = vec![LogitBias { token: 1, value: f32::NAN }]), Some(1));
    assert_eq!(sampling(&|sampling| sampling.bias = vec![LogitBias::default(); 11]), Some(1));
    assert_eq!(refused(&|pass| pass.rows[1].slot = 3), None);
    assert_eq!(refused(&|pass| pass.rows[1].slot = 2), None);
    assert_eq!(refused(&|pass| pass.tokens.push(1)), None);
    assert_eq!(refused(&|pass| pass.release = vec![3]), None);
}

#[test]
fn the_largest_messages_fit_the_derived_sizes() {
    let bias = (0..10).map(|token| LogitBias { token, value: -1.5 }).collect::<Vec<_>>();
    let sample = Sampling { seed: u64::MAX, draw: u64::MAX, bias, ..Sampling::default() };
    let full = |slot, count: u32| {
        let drafts = vec![Draft { token: 9, bias: Some(-1.5), allowed: None }; count as usize - 1];
        Rows { slot, count, sample: Some(sample.clone()), drafts, ..Rows::default() }
    };
    let mut largest = frame();
    largest.rows = vec![full(0, 6), full(1, 1), full(2, 1)];
    largest.activations = Bytes::from(vec![0; 8 * 4 * 4]);
    largest.keep =
        (0..3).flat_map(|slot| named(1, 32).into_iter().map(move |keep| KeepPages { slot, ..keep })).collect();
    (largest.forget, largest.forgotten) = (vec![u64::MAX; 3], vec![u64::MAX; 9]);
    largest.restore = vec![RestoredPage { page: u64::MAX, ..restored(32) }; 3];
    assert_eq!(LIMITS.check_frame(&largest), Ok(8));
    assert!(largest.encoded_len() <= LIMITS.frame_message_bytes());
}

fn any_rows() -> impl Strategy<Value = Rows> {
    let small = prop_oneof![0u32..6, any::<u32>()];
    (small.clone(), small.clone(), small).prop_map(|(slot, start, count)| rows(slot, start, count))
}

proptest! {
    /// Whatever bytes arrive, decoding and checking end in an answer, and an accepted frame keeps every promise.
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(frame) = Frame::decode(bytes.as_slice()) {
            let _ = LIMITS.check_frame(&frame);
        }
        if let Ok(pass) = Pass::decode(bytes.as_slice()) {
            let _ = LIMITS.check_pass(&pass);
        }
    }

    #[test]
    fn flipped_bytes_never_panic(at in 0usize..200, value in any::<u8>()) {
        let mut bytes = frame().encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(frame) = Frame::decode(bytes.as_slice()) {
            let _ = LIMITS.check_frame(&frame);
        }
    }

    #[test]
    fn accepted_frames_keep_every_promise(
        parts in prop::collection::vec(any_rows(), 0..5),
        segment in 0u32..5,
        columns in 3u32..6,
        length in 0usize..200,
    ) {
        let frame = Frame {
            rows: parts,
            segment,
            columns,
            activations: Bytes::from(vec![0; length]),
            ..frame()
        };
        if let Ok(rows) = LIMITS.check_frame(&frame) {
            let total: u64 = frame.rows.iter().map(|r| u64::from(r.count)).sum();
            prop_assert_eq!(total, u64::from(rows));
            prop_assert!(rows <= LIMITS.max_rows && frame.segment <= LIMITS.segments);
            prop_assert_eq!(frame.activations.len() as u32, rows * frame.columns * 4);
            prop_assert!(frame.rows.iter().all(|r| r.slot < 3 && r.start + r.count <= 32));
        }
    }
}
