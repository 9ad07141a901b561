//! What goes in comes out.

use std::fs;

use lime_model::{BlockFiles as _, BlockLayout, ModelFolder};
use lime_plan::{Block, Encoding, LayerIndex};
use lime_store::{BlockState, EnsureOptions, Source};
use safetensors::SafeTensors;

use crate::common::{MODELS, all_blocks, ensure, expected, file_of, fixture, source, store, stored, verified};

#[test]
fn every_block_of_every_model_holds_the_bytes_of_its_tensors() {
    for name in MODELS {
        let (_root, store) = store();
        let (model, original) = (store.model(&source(name)).unwrap(), ModelFolder::open(fixture(name)).unwrap());
        let blocks = all_blocks(&model);
        // One at a time: a device that holds them all would need no matrix in its head.
        for block in &blocks {
            assert_eq!(ensure(&model, &[*block]).unwrap().made, [*block], "{name}");
            let layout = BlockLayout::of(original.config(), *block);
            let bytes = stored(&model, *block, &layout);
            assert!(bytes == expected(&original, *block, &layout), "{name}: {block}");
            model.check_bytes(*block, &layout, &bytes).unwrap();
        }
        verified(&model, &blocks);
    }
}

#[test]
fn any_safetensors_tool_reads_a_block() {
    let (_root, store) = store();
    let model = store.model(&source("tiny-qwen2-bf16")).unwrap();
    let original = ModelFolder::open(fixture("tiny-qwen2-bf16")).unwrap();
    for block in all_blocks(&model) {
        ensure(&model, &[block]).unwrap();
        let bytes = fs::read(file_of(&model, block)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for tensor in original.tensors(block).unwrap() {
            // A tied head's matrix is stored under the embedding's name.
            let name = tensor.role.file_name(block);
            let found = tensors.tensor(&name).unwrap();
            assert_eq!(found.shape(), tensor.shape, "{name}");
            let original = fs::read(&tensor.file).unwrap();
            assert!(found.data() == &original[tensor.offset as usize..][..tensor.bytes as usize], "{name}");
        }
    }
}

#[test]
fn only_what_was_asked_for_is_made_and_only_once() {
    let (_root, store) = store();
    let model = store.model(&source("bard-2m")).unwrap();
    let blocks = [Block::Mlp(LayerIndex(1)), Block::Attention(LayerIndex(0))];
    assert_eq!(ensure(&model, &blocks).unwrap().made.len(), 2);
    let again = ensure(&model, &blocks).unwrap();
    assert_eq!((again.there, again.made), (2, vec![]));
    let there: Vec<Block> =
        all_blocks(&model).into_iter().filter(|block| model.state(*block) != BlockState::Absent).collect();
    assert_eq!(there, [Block::Attention(LayerIndex(0)), Block::Mlp(LayerIndex(1))]);
    let absent = BlockLayout::of(model.folder().config(), Block::Embedding);
    let fault = model.locate(Block::Embedding, &absent).unwrap_err().to_string();
    assert!(fault.contains("embedding") && fault.contains("lime pull"), "{fault}");
}

#[test]
fn a_tied_head_beside_its_embedding_is_the_norm_alone() {
    let (_root, store) = store();
    let model = store.model(&source("bard-2m")).unwrap();
    assert!(model.folder().config().tied);
    ensure(&model, &[Block::Embedding, Block::Head]).unwrap();
    let norm = BlockLayout::head_beside_embedding(model.folder().config());
    let bytes = stored(&model, Block::Head, &norm);
    assert!(model.locate(Block::Head, &BlockLayout::of(model.folder().config(), Block::Head)).is_err());
    model.check_bytes(Block::Head, &norm, &bytes).unwrap();
    // A whole head begins with the same bytes and serves as well.
    ensure(&model, &[Block::Head]).unwrap();
    model.discard(Block::Head).unwrap();
    ensure(&model, &[Block::Head]).unwrap();
    let again = stored(&model, Block::Head, &norm);
    let length = norm.entries[0].bytes as usize;
    assert!(again[..length] == bytes[..length]);
    model.check_bytes(Block::Head, &norm, &again).unwrap();
}

#[test]
fn the_model_in_the_store_is_a_model_folder_without_weights() {
    let (_root, store) = store();
    let (model, original) = (store.model(&source("bard-2m")).unwrap(), ModelFolder::open(fixture("bard-2m")).unwrap());
    assert_eq!(model.folder().card("m"), original.card("m"));
    assert!(!model.folder().has_weights() && original.has_weights());
    lime_text::Tokenizer::open(model.folder().path()).unwrap();
}

#[test]
fn another_version_of_a_folder_is_another_model() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture("tiny-llama3-bf16").join(file), folder.path().join(file)).unwrap();
    }
    let source = lime_store::Source::Folder(folder.path().to_owned());
    let (_root, store) = store();
    let one = store.model(&source).unwrap();
    ensure(&one, &all_blocks(&one)).unwrap();
    assert_eq!(store.model(&source).unwrap().key(), one.key());

    // Same shapes, other weights.
    crate::common::flip(&folder.path().join("model.safetensors"), 300_000);
    let fault = one.discard(Block::Embedding).and_then(|()| ensure(&one, &[Block::Embedding])).unwrap_err();
    assert!(fault.to_string().contains("has changed"), "{fault}");
    let two = store.model(&source).unwrap();
    assert_ne!(two.key(), one.key());
    assert!(all_blocks(&two).into_iter().all(|block| two.state(block) == BlockState::Absent));
}

#[test]
fn progress_ends_at_the_total_and_never_passes_it() {
    let (_root, store) = store();
    let model = store.model(&source("bard-2m")).unwrap();
    let mut last = None;
    let blocks = all_blocks(&model);
    model
        .ensure(&blocks, EnsureOptions::default(), &mut |progress| {
            assert!(progress.done <= progress.total, "{progress:?}");
            last = Some(*progress);
        })
        .unwrap();
    let last = last.unwrap();
    assert_eq!((last.done, last.blocks, last.before), (last.total, last.of_blocks, lime_plan::Bytes::ZERO));
}

/// The embedding is stored in f32 and stays as it is among compact blocks.
#[test]
fn blocks_in_another_type_are_not_made_compact() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(fixture("bard-2m").join(file), folder.path().join(file)).unwrap();
    }
    let bytes = fs::read(fixture("bard-2m").join("model.safetensors")).unwrap();
    let source = SafeTensors::deserialize(&bytes).unwrap();
    let embedding = "model.embed_tokens.weight";
    let wide: Vec<u8> =
        source.tensor(embedding).unwrap().data().as_chunks().0.iter().flat_map(|[a, b]| [0, 0, *a, *b]).collect();
    let views = source.iter().map(|(name, view)| match name == embedding {
        true => {
            let shape = view.shape().to_vec();
            (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &wide).unwrap())
        }
        false => (name, view),
    });
    fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();

    let (_dir, store) = store();
    let model = store.model(&Source::Folder(folder.path().to_owned())).unwrap();
    let options = EnsureOptions { encoding: Encoding::Compact, embedding_streams: true, ..EnsureOptions::default() };
    model.ensure(&all_blocks(&model), options, &mut |_| {}).unwrap();
    let config = model.folder().config();
    assert!(config.tied);
    for block in all_blocks(&model) {
        let layout = BlockLayout::of(&config.encoded(Encoding::Compact), block);
        let found = stored(&model, block, &layout);
        if matches!(block, Block::Embedding | Block::Head) {
            let original = ModelFolder::open(folder.path()).unwrap();
            assert_eq!(found, expected(&original, block, &layout), "{block}");
        }
    }
    verified(&model, &all_blocks(&model));
}
