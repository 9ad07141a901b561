//! What is asked of a server that works.

use lime_model::{BlockLayout, ModelFolder};
use lime_plan::{Block, LayerIndex};
use lime_store::Source;

use crate::{
    common::{MODELS, all_blocks, ensure, expected, fixture, stored, verified},
    fixtures, hub, options,
    server::{COMMIT, Fault, Strikes},
    store_of,
};

#[test]
fn every_model_comes_from_the_hub_byte_for_byte() {
    let server = fixtures();
    for name in MODELS {
        let (_root, store) = store_of(&server);
        let (model, original) = (store.model(&hub(name)).unwrap(), ModelFolder::open(fixture(name)).unwrap());
        assert_eq!((model.manifest().revision.as_str(), model.manifest().asked.as_deref()), (COMMIT, Some("main")));
        assert_eq!(model.folder().card(""), original.card(""));
        for block in all_blocks(&model) {
            ensure(&model, &[block]).unwrap();
            let layout = BlockLayout::of(original.config(), block);
            assert!(stored(&model, block, &layout) == expected(&original, block, &layout), "{name}: {block}");
        }
        verified(&model, &all_blocks(&model));
    }
}

#[test]
fn a_model_that_is_there_and_unchanged_is_only_asked_about() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let first = store.model(&hub("tiny-mistral-bf16")).unwrap();
    server.seen();
    let again = store.model(&hub("tiny-mistral-bf16")).unwrap();
    let read: Vec<_> =
        server.seen().into_iter().filter(|seen| seen.path.contains("/resolve/") && seen.sent > 0).collect();
    assert!(read.is_empty(), "{read:?}");
    assert_eq!(again.manifest(), first.manifest());
    server.change();
    let changed = store.model(&hub("tiny-mistral-bf16")).unwrap();
    assert_ne!(changed.key(), first.key());
}

#[test]
fn a_plain_folder_on_a_web_server_does_as_well() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let source: Source = format!("{}/plain/bard-2m", server.url()).parse().unwrap();
    let model = store.model(&source).unwrap();
    ensure(&model, &all_blocks(&model)).unwrap();
    verified(&model, &all_blocks(&model));
    assert_eq!(store.find(&source).unwrap().unwrap().key(), model.key());
}

#[test]
fn only_the_byte_ranges_of_the_blocks_asked_for_are_fetched_and_each_once() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let model = store.model(&hub("tiny-mistral-bf16")).unwrap();
    // The headers alone: no weights come with them, but for what the first look takes along.
    let looked: u64 =
        server.seen().iter().filter(|seen| seen.path.ends_with(".safetensors")).map(|seen| seen.sent).sum();
    assert!(looked <= 64 << 10, "{looked}");

    let blocks = [Block::Attention(LayerIndex(1)), Block::Mlp(LayerIndex(0)), Block::Head];
    ensure(&model, &blocks).unwrap();
    let mut asked: Vec<_> = server.seen().into_iter().map(|seen| (seen.range.unwrap(), seen.sent)).collect();
    asked.sort_by_key(|(range, _)| range.start);
    let original = ModelFolder::open(fixture("tiny-mistral-bf16")).unwrap();
    let tensors: Vec<_> = blocks.iter().flat_map(|block| original.tensors(*block).unwrap()).collect();
    let wanted: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
    assert_eq!(asked.iter().map(|(_, sent)| sent).sum::<u64>(), wanted);
    assert!(asked.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start), "{asked:?}");
    for tensor in &tensors {
        let inside =
            |range: &std::ops::Range<u64>| range.start <= tensor.offset && tensor.offset + tensor.bytes <= range.end;
        assert!(asked.iter().any(|(range, _)| inside(range)), "{}", tensor.name);
    }
    // Neighbours at the source come in one request.
    assert!(asked.len() < tensors.len(), "{} requests for {} tensors", asked.len(), tensors.len());

    ensure(&model, &blocks).unwrap();
    assert_eq!(server.seen().len(), 0, "what is whole is not asked for");
}

#[test]
fn a_known_model_is_found_without_asking() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let model = store.model(&hub("bard-2m")).unwrap();
    server.seen();
    assert_eq!(store.find(&hub("bard-2m")).unwrap().unwrap().key(), model.key());
    assert!(store.find(&hub("bard-3m")).unwrap().is_none());
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn redirects_are_followed_and_the_token_is_not_sent_along() {
    let (server, elsewhere) = (fixtures(), fixtures());
    server.want_token("secret");
    server.always(Strikes::Weights, Fault::Redirect(elsewhere.url().to_owned()));
    let (_root, store) = store_of(&server);
    let mut options = options(&server);
    options.token = Some("secret".into());
    assert!(!format!("{options:?}").contains("secret"));
    let model = store.with_remote(options).model(&hub("tiny-llama3-bf16")).unwrap();
    ensure(&model, &all_blocks(&model)).unwrap();
    verified(&model, &all_blocks(&model));
    assert!(server.seen().iter().all(|seen| seen.token.as_deref() == Some("secret")));
    let there = elsewhere.seen();
    assert!(!there.is_empty() && there.iter().all(|seen| seen.token.is_none() && seen.method == "GET"));
}

#[test]
fn two_pulls_at_once_fetch_every_byte_once() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let first = store.model(&hub("bard-2m")).unwrap();
    server.seen();
    server.always(Strikes::Weights, Fault::Slow(40 << 20));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let model = store.find(&hub("bard-2m")).unwrap().unwrap();
                ensure(&model, &all_blocks(&model)).unwrap();
                verified(&model, &all_blocks(&model));
            });
        }
    });
    let sent: u64 = server.seen().iter().map(|seen| seen.sent).sum();
    let folder = ModelFolder::open(fixture("bard-2m")).unwrap();
    let blocks = all_blocks(&first).into_iter().filter(|block| *block != Block::Head);
    let bytes: u64 = blocks.flat_map(|block| folder.tensors(block).unwrap()).map(|tensor| tensor.bytes).sum();
    let norm = BlockLayout::head_beside_embedding(folder.config()).entries[0].bytes;
    assert_eq!(sent, bytes + norm);
}
