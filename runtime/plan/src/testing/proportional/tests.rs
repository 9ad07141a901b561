use proptest::prelude::*;

use super::*;
use crate::{
    arithmetic::Arithmetic,
    card::{Architecture, BlockBytes, ModelCard},
    dtype::Dtype,
    format::Format,
};

/// The shape of the bundled model.
fn card(layers: u32, tied: bool) -> ModelCard {
    ModelCard {
        name: "bard".into(),
        architecture: Architecture::Llama,
        format: Format::Bf16,
        layers,
        hidden: 128,
        intermediate: 352,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        vocabulary: 1024,
        context: 512,
        tied,
        parameters: 2_346_112,
        encoding: Default::default(),
        compact: None,
        features: Default::default(),
        blocks: BlockBytes {
            embedding: Bytes::kib(256),
            attention: vec![Bytes::kib(100); layers as usize],
            mlp: vec![Bytes::kib(268); layers as usize],
            head: Bytes::kib(260),
            head_beside_embedding: Bytes::kib(4),
        },
    }
}

fn devices(memory: &[u64]) -> Vec<DeviceBudget> {
    let named = |(index, memory): (usize, &u64)| DeviceBudget { name: format!("d{index}"), memory: Bytes(*memory) };
    memory.iter().enumerate().map(named).collect()
}

fn request<'a>(model: &'a ModelCard, devices: &'a [DeviceBudget], segments: u32) -> PlanRequest<'a> {
    PlanRequest {
        model,
        devices,
        serving: ServingLimits { max_context_tokens: 512, max_concurrent_requests: 2, prefill_chunk_tokens: 32 },
        segments,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv: Dtype::Bf16,
    }
}

#[test]
fn three_small_devices_hold_what_none_could_alone() {
    let model = card(12, true);
    let devices = devices(&[3 << 20, 4 << 20, 5 << 20]);
    let plan = proportional(&request(&model, &devices, 2)).unwrap();
    assert_eq!(plan.head, DeviceIndex(0), "the tied head stays beside the embedding");
    let counts: Vec<usize> = plan.devices.iter().map(|device| device.attentions() as usize).collect();
    assert_eq!(counts.iter().sum::<usize>(), 12);
    assert!(counts[0] < counts[1] && counts[1] < counts[2], "{counts:?}");
    assert!(devices.iter().all(|device| device.memory < needed_alone(&model)));
}

fn needed_alone(model: &ModelCard) -> Bytes {
    let one = devices(&[1 << 30]);
    proportional(&request(model, &one, 1)).unwrap().devices[0].memory.used()
}

#[test]
fn an_untied_head_is_on_the_last_device_where_it_fits() {
    let model = card(12, false);
    let three = devices(&[4 << 20, 4 << 20, 4 << 20]);
    assert_eq!(proportional(&request(&model, &three, 1)).unwrap().head, DeviceIndex(2));
}

#[test]
fn an_embedding_too_large_for_the_first_device_moves_the_ring() {
    let model = card(4, true);
    let two = devices(&[200 << 10, 8 << 20]);
    let plan = proportional(&request(&model, &two, 1)).unwrap();
    assert_eq!(plan.devices[0].name, "d1");
}

#[test]
fn a_device_without_layers_is_left_out() {
    let model = card(4, true);
    let two = devices(&[8 << 20, 1000]);
    let plan = proportional(&request(&model, &two, 1)).unwrap();
    assert_eq!(plan.devices.len(), 1);
}

#[test]
fn too_little_memory_says_how_much_is_missing_and_what_fits() {
    let model = card(12, true);
    let three = devices(&[2 << 20, 2 << 20, 4 << 20]);
    let error = proportional(&request(&model, &three, 2)).unwrap_err();
    let Infeasible::Memory { missing, device, fits, .. } = &error else { panic!("{error}") };
    assert!(!fits.is_empty(), "{error}");
    let mut more = three.clone();
    let grown = more.iter_mut().find(|candidate| candidate.name == *device).unwrap();
    grown.memory += *missing;
    proportional(&request(&model, &more, 2)).unwrap();
    let grown = more.iter_mut().find(|candidate| candidate.name == *device).unwrap();
    grown.memory -= Bytes(1);
    proportional(&request(&model, &more, 2)).unwrap_err();
}

#[test]
fn a_request_without_sense_is_named() {
    let model = card(4, true);
    let good = devices(&[64 << 20]);
    let cases: [(PlanRequest<'_>, &str); 4] = [
        (request(&model, &[], 1), "no devices"),
        (request(&model, &good, 5), "choose 1 to 4"),
        (request(&model, &good, 0), "choose 1 to 4"),
        (
            PlanRequest {
                serving: ServingLimits { max_context_tokens: 513, ..request(&model, &good, 1).serving },
                ..request(&model, &good, 1)
            },
            "1 to 512",
        ),
    ];
    for (case, expected) in cases {
        let error = proportional(&case).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let twins = vec![good[0].clone(), good[0].clone()];
    assert!(proportional(&request(&model, &twins, 1)).unwrap_err().to_string().contains("\"d0\""));
}

proptest! {
    #[test]
    fn plans_hold_every_rule_and_repeat(
        layers in 1_u32..40,
        tied: bool,
        memory in prop::collection::vec(100_000_u64..40_000_000, 1..7),
        segments in 1_u32..6,
        context in 1_u32..512,
        slots in 1_u32..5,
    ) {
        let model = card(layers, tied);
        let devices = devices(&memory);
        let mut request = request(&model, &devices, segments.min(layers));
        request.serving.max_context_tokens = context;
        request.serving.max_concurrent_requests = slots;
        match proportional(&request) {
            Ok(plan) => {
                let mut held: Vec<Block> = plan.devices.iter().flat_map(|device| device.all_blocks()).collect();
                held.sort();
                let layers = (0..layers).map(LayerIndex);
                let mut expected: Vec<Block> = layers.flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)]).collect();
                expected.sort();
                prop_assert_eq!(held, expected);
                for device in &plan.devices {
                    let budget = devices.iter().find(|given| given.name == device.name).map(|given| given.memory);
                    prop_assert_eq!(Some(device.memory.budget), budget);
                    prop_assert!(device.memory.used() <= device.memory.budget);
                    let memory = MemoryModel::of(&plan).device(&device.blocks);
                    prop_assert_eq!(memory.used(), device.memory.used());
                }
                let again = proportional(&request).unwrap();
                prop_assert_eq!(serde_json::to_vec(&plan).unwrap(), serde_json::to_vec(&again).unwrap());
            }
            Err(Infeasible::Memory { missing, device, .. }) => {
                let mut more = devices.clone();
                for grown in more.iter_mut().filter(|candidate| candidate.name == device) {
                    grown.memory += missing;
                }
                let retried = proportional(&PlanRequest { devices: &more, ..request.clone() });
                prop_assert!(retried.is_ok());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
