//! Files whose digests the hub names, and sources that hardly answer.

use std::{
    fs,
    time::{Duration, Instant},
};

use lime_plan::Block;
use lime_store::{BlockState, EnsureOptions};
use sha1::Digest as _;

use crate::{
    common::{all_blocks, ensure, fixture, verified},
    fixtures, hub,
    server::{Fault, Server, Strikes},
    store_of,
};

const NAME: &str = "tokenizer.json";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has the server name the digest of the tokenizer as the hub does of files that lie in git, or of those that do not.
fn promise(server: &Server, linked: bool) -> Vec<u8> {
    let bytes = fs::read(fixture("bard-2m").join(NAME)).unwrap();
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), &bytes].concat();
    let digest =
        if linked { hexadecimal(&sha2::Sha256::digest(&bytes)) } else { hexadecimal(&sha1::Sha1::digest(&blob)) };
    server.promise(NAME, &format!("\"{digest}\""), linked);
    bytes
}

#[test]
fn a_bit_that_flips_on_the_way_of_a_small_file_is_noticed_where_the_hub_names_its_digest() {
    for linked in [false, true] {
        let server = fixtures();
        let (_root, store) = store_of(&server);
        let whole = promise(&server, linked);
        server.always(Strikes::File(NAME), Fault::Flip);
        let fault = store.model(&hub("bard-2m")).unwrap_err().to_string();
        assert!(fault.contains(NAME) && fault.contains("promises"), "{fault}");
        assert_eq!(store.models().unwrap().len(), 0);

        server.heal();
        server.next(Strikes::File(NAME), [Fault::Flip]);
        let model = store.model(&hub("bard-2m")).unwrap();
        assert!(fs::read(model.path().join("card").join(NAME)).unwrap() == whole);
    }
}

#[test]
fn what_was_damaged_in_the_store_is_fetched_again_as_it_was() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let path = store.model(&hub("bard-2m")).unwrap().path().to_owned();
    let file = path.join("card").join(NAME);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..100]).unwrap();
    // What comes now is not what came then: neither is believed.
    server.next(Strikes::File(NAME), [Fault::Flip]);
    let fault = store.verify_card(&path, true).unwrap_err().to_string();
    assert!(fault.contains(NAME) && fault.contains("other bytes"), "{fault}");
    assert_eq!(store.model(&hub("bard-2m")).unwrap().mended_files().len(), 1);
    assert!(fs::read(&file).unwrap() == whole);
}

#[test]
fn a_source_that_drips_is_given_up() {
    for strikes in [Strikes::File(NAME), Strikes::Weights] {
        let server = fixtures();
        let (_root, store) = store_of(&server);
        // Some bytes come all the time, and it would take minutes.
        server.always(strikes, Fault::Slow(1000));
        let begun = Instant::now();
        let pulled = store.model(&hub("bard-2m")).and_then(|model| ensure(&model, &all_blocks(&model)).map(drop));
        let fault = pulled.unwrap_err().to_string();
        assert!(fault.contains("only ") && fault.contains("tried 4 times"), "{fault}");
        assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    }
}

#[test]
fn a_server_that_refuses_two_of_three_requests_is_given_up_and_what_came_is_kept() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let model = store.model(&hub("bard-2m")).unwrap();
    let mut turn = 0;
    let blocks = all_blocks(&model);
    let whole = || blocks.iter().filter(|block| matches!(model.state(**block), BlockState::Whole(_))).count();
    server.refuse_but_every(3);
    loop {
        turn += 1;
        assert!(turn <= 4, "each pull gets further: {} blocks", whole());
        let before = whole();
        let one_at_a_time = EnsureOptions { connections: 1, ..EnsureOptions::default() };
        match model.ensure(&blocks, one_at_a_time, &mut |_| {}) {
            Ok(_) => break,
            Err(fault) => {
                assert!(fault.to_string().contains("requests were in vain"), "{fault}");
                assert!(whole() > before);
            }
        }
    }
    assert!(turn > 1, "it was asked without end");
    verified(&model, &blocks);
    assert!(blocks.contains(&Block::Head));
}
