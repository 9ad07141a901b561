use lime_plan::LayerIndex;
use proptest::prelude::*;

use super::*;

type Plain = Fifo<&'static str>;

fn block(index: usize) -> Block {
    Block::Mlp(LayerIndex(index as u32))
}

/// Blocks of these sizes, `per_segment` of them in each segment.
fn fifo(sizes: &[u64], per_segment: usize, capacity: u64, uses: u32) -> Plain {
    let streamed = |(index, bytes): (usize, &u64)| Streamed {
        block: block(index),
        bytes: *bytes,
        segment: (index / per_segment) as u32,
    };
    Fifo::new(sizes.iter().enumerate().map(streamed).collect(), capacity, 4, uses)
}

/// Reads all that there is room for; gives the places in the order of those that came whole.
fn read_all(fifo: &mut Plain) -> Vec<usize> {
    let mut whole = Vec::new();
    while let Some(request) = fifo.next_read() {
        if request.from + request.bytes == fifo.order[request.index].bytes {
            whole.push(request.index);
        }
        fifo.read_done(request, Ok(()));
    }
    whole
}

fn here(fifo: &mut Plain, index: usize) -> Passage {
    match fifo.want(block(index)) {
        Wanted::Here { passage, .. } => passage,
        other => panic!("block {index}: {other:?}"),
    }
}

#[test]
fn reads_run_ahead_as_far_as_there_is_room_and_over_the_end_of_a_pass() {
    let mut fifo = fifo(&[10, 6, 10, 6], 4, 26, 1);
    assert_eq!(read_all(&mut fifo), [0, 1, 2]);
    let first = here(&mut fifo, 0);
    assert_eq!(read_all(&mut fifo), [0; 0], "a block in use keeps its bytes");
    fifo.give_back(first);
    assert_eq!(read_all(&mut fifo), [3]);
    for (used, then) in [(1, vec![0]), (2, vec![1]), (3, vec![2]), (0, vec![3])] {
        let passage = here(&mut fifo, used);
        fifo.give_back(passage);
        assert_eq!(read_all(&mut fifo), then);
    }
    assert_eq!(fifo.wasted(), 0);
}

#[test]
fn a_range_may_run_over_the_end() {
    let mut fifo = fifo(&[10, 6], 2, 20, 1);
    let mut places = Vec::new();
    for index in [0, 1, 0, 1] {
        read_all(&mut fifo);
        if let Wanted::Here { passage, at, .. } = fifo.want(block(index)) {
            places.push(at);
            fifo.give_back(passage);
        }
    }
    assert_eq!(places, [0, 10, 16, 6]);
}

#[test]
fn what_is_not_asked_for_is_skipped() {
    let mut fifo = fifo(&[8, 8, 8], 3, 16, 1);
    read_all(&mut fifo);
    let passage = here(&mut fifo, 1);
    fifo.give_back(passage);
    assert_eq!(fifo.wasted(), 8);
    assert_eq!(read_all(&mut fifo), [2, 0]);
    // The last block of the order is not needed in this pass.
    let passage = here(&mut fifo, 0);
    fifo.give_back(passage);
    assert_eq!(fifo.wasted(), 16);
    assert_eq!(read_all(&mut fifo), [1, 2]);
}

#[test]
fn a_jump_back_reads_again_from_there() {
    let mut fifo = fifo(&[8, 8, 8, 8], 4, 16, 1);
    read_all(&mut fifo);
    for index in [0, 1] {
        let passage = here(&mut fifo, index);
        fifo.give_back(passage);
    }
    let in_flight = fifo.next_read().unwrap();
    assert_eq!(in_flight.index, 2);
    assert_eq!(fifo.want(block(1)), Wanted::Coming);
    let next = fifo.next_read().unwrap();
    assert_eq!((next.index, next.to), (1, 8), "what is being written is left alone");
    fifo.read_done(next, Ok(()));
    fifo.read_done(in_flight, Ok(()));
    read_all(&mut fifo);
    here(&mut fifo, 1);
}

#[test]
fn a_fault_is_told_once_and_read_again() {
    let mut fifo = fifo(&[8, 8], 2, 16, 1);
    let (first, second) = (fifo.next_read().unwrap(), fifo.next_read().unwrap());
    assert_eq!(fifo.want(block(0)), Wanted::Coming);
    fifo.read_done(first, Err("broken"));
    assert_eq!(fifo.want(block(0)), Wanted::Failed("broken"));
    fifo.read_done(second, Ok(()));
    assert_eq!(fifo.want(block(0)), Wanted::Coming);
    read_all(&mut fifo);
    here(&mut fifo, 0);
}

/// Three blocks, read ahead in vain.
fn in_vain() -> Plain {
    let mut fifo = fifo(&[4, 4, 4], 3, 12, 1);
    for index in 0..3 {
        let request = fifo.next_read().unwrap();
        assert_eq!((request.index, request.bytes), (index, 4));
        fifo.read_done(request, Err("before"));
    }
    fifo
}

#[test]
fn what_was_read_ahead_in_vain_is_read_again_before_it_is_a_fault() {
    // The disk is well again: nobody hears of it.
    let mut fifo = in_vain();
    assert_eq!(fifo.want(block(0)), Wanted::Coming);
    assert_eq!(read_all(&mut fifo), [0, 1, 2]);
    for index in 0..3 {
        let passage = here(&mut fifo, index);
        fifo.give_back(passage);
    }
    // It is not: the pass hears of what was read for it, whether it looks meanwhile or not.
    for looks in [false, true] {
        let mut fifo = in_vain();
        assert_eq!(fifo.want(block(0)), Wanted::Coming);
        let request = fifo.next_read().unwrap();
        assert_eq!(request.index, 0);
        assert!(!looks || fifo.want(block(0)) == Wanted::Coming);
        fifo.read_done(request, Err("now"));
        assert_eq!(fifo.want(block(0)), Wanted::Failed("now"));
        assert_eq!(fifo.want(block(0)), Wanted::Coming);
        read_all(&mut fifo);
        here(&mut fifo, 0);
    }
}

#[test]
fn micro_batches_share_a_read() {
    let mut fifo = fifo(&[8, 8, 8, 8], 2, 16, 2);
    read_all(&mut fifo);
    for index in [0, 1, 0, 1] {
        let passage = here(&mut fifo, index);
        fifo.give_back(passage);
    }
    assert_eq!(read_all(&mut fifo), [2, 3]);
    // Only one of them came: the next visit frees what was kept for the other.
    for index in [2, 3] {
        let passage = here(&mut fifo, index);
        fifo.give_back(passage);
    }
    assert_eq!(fifo.want(block(0)), Wanted::Coming);
    assert_eq!(read_all(&mut fifo), [0, 1]);
    assert_eq!(fifo.wasted(), 0);
}

#[test]
fn chunks_that_follow_each_other_share_a_read() {
    let mut fifo = fifo(&[8, 8, 8, 8], 2, 16, 1);
    read_all(&mut fifo);
    // Two chunks that draw nothing, and the one that ends the prompt.
    for followed in [true, true, false] {
        fifo.set_followed(followed);
        for index in [0, 1] {
            let passage = here(&mut fifo, index);
            fifo.give_back(passage);
        }
        assert_eq!(read_all(&mut fifo), if followed { vec![] } else { vec![2, 3] });
    }
    // The next one did not come: what was kept for it goes when another visit begins.
    fifo.set_followed(true);
    for index in [2, 3] {
        let passage = here(&mut fifo, index);
        fifo.give_back(passage);
    }
    fifo.set_followed(false);
    assert_eq!(fifo.want(block(0)), Wanted::Coming);
    assert_eq!(read_all(&mut fifo), [0, 1]);
    assert_eq!(fifo.wasted(), 0);
}

#[test]
fn held_twice_and_stuck() {
    let mut fifo = fifo(&[8, 8], 2, 12, 1);
    read_all(&mut fifo);
    let (one, two) = (here(&mut fifo, 0), here(&mut fifo, 0));
    fifo.give_back(one);
    assert_eq!(fifo.want(block(1)), Wanted::Stuck);
    fifo.give_back(two);
    assert_eq!(fifo.want(block(1)), Wanted::Coming);
    assert_eq!(fifo.want(Block::Head), Wanted::Unknown);
}

#[test]
fn a_block_that_begins_to_stream_is_read_at_its_place() {
    let mut fifo = fifo(&[8, 8, 8, 8], 4, 24, 1);
    fifo.set_streams(block(1), false);
    assert_eq!(read_all(&mut fifo), [0, 2, 3]);
    fifo.set_streams(block(1), true);
    assert_eq!(fifo.wasted(), 16, "what lay behind it gives way");
    assert_eq!(read_all(&mut fifo), [1, 2]);
    for (used, then) in [(0, vec![3]), (1, vec![0]), (2, vec![1])] {
        let passage = here(&mut fifo, used);
        fifo.give_back(passage);
        assert_eq!(read_all(&mut fifo), then);
    }
    // Its turn is over: what is there is of use.
    fifo.set_streams(block(2), false);
    let wasted = fifo.wasted();
    fifo.set_streams(block(2), true);
    assert_eq!((fifo.wasted(), read_all(&mut fifo).len()), (wasted, 0));
    let passage = here(&mut fifo, 3);
    fifo.give_back(passage);
}

#[test]
fn a_read_under_way_is_waited_for_before_its_place_is_used_again() {
    let mut fifo = fifo(&[8, 8, 8], 3, 16, 1);
    fifo.set_streams(block(1), false);
    let first = fifo.next_read().unwrap();
    fifo.read_done(first, Ok(()));
    read_all(&mut fifo);
    let passage = here(&mut fifo, 0);
    fifo.give_back(passage);
    let flying = fifo.next_read().unwrap();
    assert_eq!((flying.index, flying.from), (0, 0));
    fifo.set_streams(block(0), false);
    assert_eq!(fifo.next_read(), None, "2 is there, 0 is being written");
    fifo.read_done(flying, Ok(()));
    fifo.set_streams(block(1), true);
    assert_eq!(read_all(&mut fifo), [1]);
}

#[test]
fn a_block_that_ceases_to_stream_is_read_no_more() {
    let mut fifo = fifo(&[8, 8, 8], 3, 16, 1);
    assert_eq!(read_all(&mut fifo), [0, 1]);
    fifo.set_streams(block(1), false);
    assert_eq!(fifo.want(block(1)), Wanted::Unknown);
    assert_eq!(read_all(&mut fifo), [2]);
    for used in [0, 2, 0, 2] {
        let passage = here(&mut fifo, used);
        fifo.give_back(passage);
        read_all(&mut fifo);
    }
    (0..3).for_each(|index| fifo.set_streams(block(index), false));
    assert_eq!((fifo.next_read(), fifo.wasted()), (None, 24));
}

#[test]
fn sizes() {
    let of = |sizes: &[u64], budget| buffer_size(sizes, Bytes(budget));
    assert_eq!(of(&[4096, 4096], 8191), (4096, false));
    assert_eq!(of(&[4096, 4096], 1 << 20), (8192, false));
    assert_eq!(of(&[4096, 8192], 12_000), (8192, true));
    assert_eq!(of(&[4096, 8192], 13_000), (12_288, true));
    assert_eq!(of(&[], 13_000), (0, true));
}

/// When the planner lets a block in whole: everything from there back to the oldest block in use fits.
fn planned(sizes: &[u64], capacity: u64, released: usize) -> usize {
    let size = |turn: usize| sizes[turn % sizes.len()];
    (released..).take_while(|turn| (released..=*turn).map(&size).sum::<u64>() <= capacity).count() + released
}

proptest! {
    /// In order, exactly the planner's queue: no byte is lost, none read twice.
    #[test]
    fn the_order_of_passes(sizes in proptest::collection::vec(1u64..40, 1..7), spare in 0u64..60, turns in 1usize..30) {
        let capacity = sizes.iter().max().unwrap() + spare;
        let mut fifo = fifo(&sizes, sizes.len(), capacity, 1);
        let mut whole = read_all(&mut fifo).len();
        for turn in 0..turns {
            prop_assert_eq!(whole, planned(&sizes, capacity, turn));
            let passage = here(&mut fifo, turn % sizes.len());
            fifo.give_back(passage);
            whole += read_all(&mut fifo).len();
        }
        prop_assert_eq!(fifo.wasted(), 0);
    }

    /// Any wishes in any order, with reads that end out of order, fail and lag, and blocks that begin and cease to stream: every wish is answered with the right bytes,
    /// and no two passages ever share a byte.
    #[test]
    fn any_order(
        sizes in proptest::collection::vec(1u64..40, 1..7),
        (spare, uses, per_segment) in (0u64..60, 1u32..4, 1usize..4),
        wishes in proptest::collection::vec((0usize..7, 0usize..5, any::<u8>(), 0usize..14), 1..60),
    ) {
        let capacity = sizes.iter().max().unwrap() + spare;
        let mut fifo = fifo(&sizes, per_segment, capacity, uses);
        let mut memory = vec![None; capacity as usize];
        let mut flying: Vec<Request> = Vec::new();
        let mut streams = vec![true; sizes.len()];
        for (wish, lag, chance, toggled) in wishes {
            let (wish, mut patience) = (wish % sizes.len(), 1000);
            if let Some(streams) = streams.get_mut(toggled) {
                *streams = !*streams;
                fifo.set_streams(block(toggled), *streams);
            }
            if !std::mem::replace(&mut streams[wish], true) {
                prop_assert_eq!(fifo.want(block(wish)), Wanted::Unknown);
                fifo.set_streams(block(wish), true);
            }
            loop {
                while flying.len() <= lag {
                    let Some(request) = fifo.next_read() else { break };
                    let to = request.to as usize;
                    for other in &flying {
                        let of = |request: &Request| (0..request.bytes).map(|byte| (request.to + byte) % capacity).collect::<Vec<_>>();
                        prop_assert!(of(other).iter().all(|byte| !of(&request).contains(byte)));
                    }
                    for byte in 0..request.bytes {
                        memory[(to + byte as usize) % capacity as usize] = Some((request.index, request.from + byte));
                    }
                    flying.push(request);
                }
                if !flying.is_empty() {
                    let request = flying.swap_remove(chance as usize % flying.len());
                    fifo.read_done(request, if chance < 20 { Err("chance") } else { Ok(()) });
                }
                match fifo.want(block(wish)) {
                    Wanted::Here { passage, at, bytes } => {
                        prop_assert_eq!(bytes, sizes[wish]);
                        // More reads while it is held must not touch it.
                        while let Some(request) = fifo.next_read() {
                            for byte in 0..request.bytes {
                                memory[((request.to + byte) % capacity) as usize] = Some((request.index, request.from + byte));
                            }
                            flying.push(request);
                        }
                        for byte in 0..bytes {
                            prop_assert_eq!(memory[((at + byte) % capacity) as usize], Some((wish, byte)));
                        }
                        fifo.give_back(passage);
                        break;
                    }
                    Wanted::Failed(_) if chance < 20 => break,
                    Wanted::Failed(_) | Wanted::Coming => {}
                    other => prop_assert!(false, "{:?}", other),
                }
                patience -= 1;
                prop_assert!(patience > 0, "waited in vain");
            }
        }
    }
}
