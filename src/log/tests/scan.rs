//! The table of what a scan keeps, below and above the durable place, for everything that can stand in a life.

use std::collections::BTreeMap;

use super::super::scan::{Flaw, Scan, last_end, resync, walk};
use super::{Laid, PRELUDE};
use crate::format::record::Life;
use crate::format::segment::SEEK_STRIDE;
use crate::sim::Rng;

const LIFE: Life = Life { salt: 0x0F1E_2D3C_4B5A_6978, base: 900 };

/// What can be found at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thing {
    Task,
    Entry,
    Mark,
    /// Header whole, body not.
    TornTask,
    /// Header not whole.
    LostTask,
    Batch,
    /// The second of its records has a torn body.
    TornBatch,
    /// The second of its records has a torn header.
    GappedBatch,
    /// Its own header is torn, its records are whole.
    LostBatch,
    Hole,
    Padding,
    /// Nothing was written here.
    Zeros,
    /// Bytes that never verify.
    Garbage,
}

use Thing::{
    Batch, Entry, GappedBatch, Garbage, Hole, LostBatch, LostTask, Mark, Padding, Task, TornBatch, TornTask, Zeros,
};

const THINGS: [Thing; 13] =
    [Task, Entry, Mark, TornTask, LostTask, Batch, TornBatch, GappedBatch, LostBatch, Hole, Padding, Zeros, Garbage];

/// What truly stands at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Truth {
    Record { bytes: u32, index: u32, is_task: bool, body_whole: bool },
    Batch { bytes: u32, index: u32, all_whole: bool },
    Mark { index: u32 },
    Hole { bytes: u32 },
    Padding { bytes: u32 },
}

const BATCH_COUNT: u32 = 3;

/// A life with the things in a row, what truly stands where, and where each thing begins and the last one ends.
fn lay(things: &[Thing]) -> (Laid, BTreeMap<u32, Truth>, Vec<u32>) {
    let (mut laid, mut truth, mut starts) = (Laid::new(LIFE), BTreeMap::new(), Vec::new());
    for thing in things {
        starts.push(laid.end());
        lay_one(*thing, &mut laid, &mut truth);
    }
    starts.push(laid.end());
    (laid, truth, starts)
}

fn lay_one(thing: Thing, laid: &mut Laid, truth: &mut BTreeMap<u32, Truth>) {
    let (start, index) = (laid.end(), laid.index);
    let record = |index, is_task, body_whole| Truth::Record { bytes: 40, index, is_task, body_whole };
    match thing {
        Task | TornTask | LostTask | Entry => {
            let kind = if thing == Entry { super::Kind::Entry } else { super::Kind::Task };
            laid.record(kind, 0, b"12345678");
            match thing {
                TornTask => laid.flip(start + 32),
                LostTask => laid.flip(start + 24),
                _ => {}
            }
            if thing != LostTask {
                truth.insert(start, record(index, thing != Entry, thing != TornTask));
            }
        }
        Batch | TornBatch | GappedBatch | LostBatch => {
            let offsets = laid.batch(&[&b"12345678"[..]; BATCH_COUNT as usize]);
            let all_whole = thing == Batch;
            truth.insert(start, Truth::Batch { bytes: laid.end() - start, index, all_whole });
            for (index, offset) in (index..).zip(&offsets[1..]) {
                truth.insert(*offset, record(index, true, true));
            }
            match thing {
                TornBatch => {
                    laid.flip(offsets[2] + 32);
                    truth.insert(offsets[2], record(index + 1, true, false));
                }
                GappedBatch => {
                    laid.flip(offsets[2] + 8);
                    truth.remove(&offsets[2]);
                }
                LostBatch => {
                    laid.flip(start + 16);
                    truth.remove(&start);
                }
                _ => {}
            }
        }
        Mark => {
            laid.mark(LIFE.base, PRELUDE);
            truth.insert(start, Truth::Mark { index });
        }
        Hole => {
            laid.hole(40);
            truth.insert(start, Truth::Hole { bytes: 40 });
        }
        Padding => {
            laid.padding(40);
            truth.insert(start, Truth::Padding { bytes: 40 });
        }
        Zeros => laid.zeros(40),
        Garbage => laid.bytes.extend([0x5B; 40]),
    }
}

/// The next place with a header behind `behind`.
fn next_header(truth: &BTreeMap<u32, Truth>, behind: u32) -> Option<(u32, Truth)> {
    let mut places = truth.range(behind + 1..);
    let found = places.find(|(_, truth)| !matches!(truth, Truth::Hole { .. } | Truth::Padding { .. }));
    found.map(|(offset, truth)| (*offset, *truth))
}

/// The room's table, read row by row over what truly stands there.
fn by_the_table(truth: &BTreeMap<u32, Truth>, bytes: u32, durable: u32) -> Scan {
    let mut scan = Scan { durable, ..Scan::default() };
    let mut at = PRELUDE;
    while at < bytes {
        let below = at < durable;
        let found = truth.get(&at);
        // What damage before a header took is known once the header tells its index.
        if let Some(Truth::Record { index, .. } | Truth::Batch { index, .. } | Truth::Mark { index }) = found
            && *index > scan.records
        {
            let gap = (scan.records, index - 1);
            scan.gaps.push(gap);
            if let Some(Flaw::Corrupt { offset, bytes, lost: lost @ None }) = scan.flaws.last_mut()
                && *offset + *bytes == at
            {
                *lost = Some(gap);
            }
        }
        match (found, below) {
            (Some(Truth::Record { bytes, index, is_task, body_whole: true }), _) => {
                scan.tasks += u32::from(*is_task);
                scan.records = index + 1;
                at += bytes;
            }
            (Some(Truth::Record { bytes, index, body_whole: false, .. }), _) => {
                let (offset, bytes, lost) = (at, *bytes, Some((*index, *index)));
                let (corrupt, torn) = (Flaw::Corrupt { offset, bytes, lost }, Flaw::Torn { offset, bytes, lost });
                scan.flaws.push(if below { corrupt } else { torn });
                scan.records = index + 1;
                at += bytes;
            }
            // Below, its records are met one by one.
            (Some(Truth::Batch { .. }), true) => at += 32,
            (Some(Truth::Batch { bytes, index, all_whole }), false) => {
                if *all_whole {
                    scan.tasks += BATCH_COUNT;
                } else {
                    let lost = Some((*index, index + BATCH_COUNT - 1));
                    scan.flaws.push(Flaw::Torn { offset: at, bytes: *bytes, lost });
                }
                scan.records = index + BATCH_COUNT;
                at += bytes;
            }
            (Some(Truth::Mark { index }), _) => {
                scan.records = scan.records.max(*index);
                at += 48;
            }
            (Some(Truth::Hole { bytes }), true) => {
                scan.flaws.push(Flaw::Corrupt { offset: at, bytes: *bytes, lost: None });
                at += bytes;
            }
            (Some(Truth::Hole { bytes }), false) => {
                scan.flaws.push(Flaw::Hole { offset: at, bytes: *bytes });
                at += bytes;
            }
            (Some(Truth::Padding { bytes }), _) => {
                scan.padding.push((at, *bytes));
                at += bytes;
            }
            (None, true) => {
                let to = next_header(truth, at).map_or(durable, |(offset, _)| offset);
                scan.flaws.push(Flaw::Corrupt { offset: at, bytes: to - at, lost: None });
                at = to;
            }
            (None, false) => break,
        }
    }
    scan.end = at;
    scan.cut = cut_behind(truth, at);
    scan
}

/// Bytes from the end on that are cut: up to and with the next header that stands behind it.
fn cut_behind(truth: &BTreeMap<u32, Truth>, end: u32) -> u32 {
    next_header(truth, end).map_or(0, |(offset, truth)| {
        let bytes = match truth {
            Truth::Record { bytes, .. } | Truth::Batch { bytes, .. } => bytes,
            Truth::Mark { .. } | Truth::Hole { .. } | Truth::Padding { .. } => 48,
        };
        offset + bytes - end
    })
}

fn hold(things: &[Thing]) {
    let (laid, truth, starts) = lay(things);
    for (at, durable) in starts.iter().enumerate() {
        let mut scan = walk(LIFE, &laid.bytes, PRELUDE, 0, *durable);
        // The seek table has a test of its own.
        scan.seek.clear();
        let expected = by_the_table(&truth, laid.end(), *durable);
        assert_eq!(scan, expected, "{things:?} of which {at} are durable");
    }
}

#[test]
fn scan_is_what_the_table_says_for_every_row_of_three() {
    for first in THINGS {
        for second in THINGS {
            for third in THINGS {
                hold(&[first, second, third]);
            }
        }
    }
}

#[test]
fn scan_is_what_the_table_says_for_long_rows() {
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        // Mostly whole, so that most rows get far.
        let healthy = 1 + rng.below(10);
        let pick = |rng: &mut Rng| match rng.once_in(healthy) {
            true => THINGS[usize::try_from(rng.below(THINGS.len() as u64)).unwrap()],
            false => [Task, Batch, Mark, Padding][usize::try_from(rng.below(4)).unwrap()],
        };
        let count = rng.below(24);
        let things: Vec<_> = (0..count).map(|_| pick(&mut rng)).collect();
        hold(&things);
    }
}

#[test]
fn each_row_of_the_table_by_itself() {
    let at = PRELUDE;
    let torn = |bytes, lost| Some(Flaw::Torn { offset: at, bytes, lost: Some(lost) });
    let corrupt = |offset, bytes, lost| Some(Flaw::Corrupt { offset, bytes, lost });
    // Between two tasks: what is kept of three, or of five with a batch; what is said below, and above.
    let cases = [
        (Task, (3, None), (3, None)),
        (TornTask, (2, corrupt(at, 40, Some((0, 0)))), (2, torn(40, (0, 0)))),
        (LostTask, (2, corrupt(at, 40, Some((0, 0)))), (0, None)),
        (Batch, (5, None), (5, None)),
        (TornBatch, (4, corrupt(at + 72, 40, Some((1, 1)))), (2, torn(152, (0, 2)))),
        (GappedBatch, (4, corrupt(at + 72, 40, Some((1, 1)))), (2, torn(152, (0, 2)))),
        (LostBatch, (5, corrupt(at, 32, None)), (0, None)),
        (Hole, (2, corrupt(at, 40, Some((0, 0)))), (2, Some(Flaw::Hole { offset: at, bytes: 40 }))),
        (Padding, (2, None), (2, None)),
        (Mark, (2, None), (2, None)),
        (Zeros, (2, corrupt(at, 40, None)), (0, None)),
        (Garbage, (2, corrupt(at, 40, None)), (0, None)),
    ];
    for (thing, below, above) in cases {
        let (laid, _, starts) = lay(&[thing, Task, Task]);
        for (durable, (tasks, flaw)) in [(starts[3], below), (starts[0], above)] {
            let scan = walk(LIFE, &laid.bytes, PRELUDE, 0, durable);
            assert_eq!(
                (scan.tasks, scan.flaws.first().copied(), scan.flaws.len()),
                { (tasks, flaw, usize::from(flaw.is_some())) },
                "{thing:?}, durable below {durable}"
            );
            assert_eq!(scan.end < laid.end(), tasks == 0, "{thing:?} ends the log if nothing behind it is kept");
            assert_eq!(scan.is_torn(), tasks == 0, "and what stood behind is told");
        }
    }
}

#[test]
fn any_flipped_bit_below_the_mark_costs_at_most_one_record_and_names_it() {
    let (laid, _, _) = lay(&[Task, Batch, Mark, Entry, Task, Batch, Task, Mark]);
    let whole = walk(LIFE, &laid.bytes, PRELUDE, 0, laid.end());
    assert_eq!((whole.tasks, whole.records, whole.flaws.len()), (9, 10, 0));
    for bit in 8 * PRELUDE..8 * laid.end() {
        let mut bytes = laid.bytes.clone();
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        let scan = walk(LIFE, &bytes, PRELUDE, 0, laid.end());
        assert_eq!((scan.end, scan.records), (whole.end, whole.records), "bit {bit}");
        let is_mark_body = |flaw: &Flaw| flaw.lost().is_none();
        match &scan.flaws[..] {
            [] => assert_eq!(scan.tasks, whole.tasks, "bit {bit}: a mark's payload is checked where marks are read"),
            [flaw] if is_mark_body(flaw) => assert_eq!(scan.tasks, whole.tasks, "bit {bit}"),
            [flaw] => {
                let (first, last) = flaw.lost().unwrap();
                assert_eq!(first, last, "bit {bit}: one record");
                assert_eq!(whole.tasks - scan.tasks, u32::from(first != 4), "bit {bit}: index 4 is the entry");
            }
            more => panic!("bit {bit}: {more:?}"),
        }
    }
}

#[test]
fn any_flipped_bit_above_the_mark_keeps_everything_before_it() {
    let (laid, _, starts) = lay(&[Task, Task, Batch, Task, Hole, Task]);
    let kept = [0, 1, 2, 5, 6, 6];
    for bit in 8 * PRELUDE..8 * laid.end() {
        let mut bytes = laid.bytes.clone();
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        let scan = walk(LIFE, &bytes, PRELUDE, 0, 0);
        let hit = starts.iter().filter(|start| **start <= bit / 8).count() - 1;
        assert!(scan.tasks >= kept[hit], "bit {bit} in thing {hit}");
        assert!(scan.end >= starts[hit], "bit {bit} in thing {hit}");
    }
}

#[test]
fn scan_goes_on_from_a_known_place() {
    let (laid, _, starts) = lay(&[Garbage, Task, Batch, Task]);
    let scan = walk(LIFE, &laid.bytes, starts[1], 0, starts[1]);
    assert_eq!((scan.tasks, scan.records, scan.end, scan.flaws.len()), (5, 5, laid.end(), 0));
    let scan = walk(LIFE, &laid.bytes, starts[3], 4, starts[3]);
    assert_eq!((scan.tasks, scan.records), (1, 5));
    let scan = walk(LIFE, &laid.bytes, laid.end(), 5, laid.end());
    assert_eq!((scan.tasks, scan.records, scan.end), (0, 5, laid.end()), "there is nothing behind the end");
}

#[test]
fn life_that_is_cut_anywhere_keeps_what_lies_before_the_cut() {
    let (laid, _, starts) = lay(&[Task, Batch, Mark, Task]);
    let kept = [0, 1, 4, 4, 5];
    for end in PRELUDE..=laid.end() {
        let scan = walk(LIFE, &laid.bytes[..end as usize], PRELUDE, 0, 0);
        let whole = starts.iter().filter(|start| **start <= end).count() - 1;
        assert_eq!(scan.tasks, kept[whole], "cut at {end}");
        assert_eq!((scan.end, scan.flaws.len()), (starts[whole], 0), "cut at {end}");
    }
    for end in 0..PRELUDE {
        let scan = walk(LIFE, &laid.bytes[..end as usize], PRELUDE, 0, 0);
        assert_eq!((scan.tasks, scan.end), (0, PRELUDE), "cut at {end}");
    }
}

#[test]
fn extent_that_ends_behind_the_bytes_is_the_end_and_never_stepped_over() {
    for thing in [Task, TornTask, Batch, Mark, Hole, Padding] {
        let (laid, _, starts) = lay(&[Task, thing, Task]);
        for end in starts[1]..starts[2] {
            let scan = walk(LIFE, &laid.bytes[..end as usize], PRELUDE, 0, 0);
            assert_eq!((scan.end, scan.tasks, scan.flaws.len()), (starts[1], 1, 0), "{thing:?} cut at {end}");
            let told_from = if [Hole, Padding].contains(&thing) { 8 } else { 32 };
            assert_eq!(scan.is_torn(), end - starts[1] >= told_from, "{thing:?} cut at {end}");
        }
    }
}

#[test]
fn cut_below_the_durable_place_names_the_record_that_it_went_through() {
    let (laid, _, starts) = lay(&[Task, Task, Entry]);
    for end in PRELUDE..laid.end() {
        let whole = u32::try_from(starts.iter().filter(|start| **start <= end).count() - 1).unwrap();
        let offset = starts[whole as usize];
        let scan = walk(LIFE, &laid.bytes[..end as usize], PRELUDE, 0, laid.end());
        let (flaw, to) = match end - offset {
            // Too little to tell anything by: whoever knows how long the file was tells that it was cut.
            0..8 => (None, offset),
            8..32 => (Some(Flaw::Corrupt { offset, bytes: laid.end() - offset, lost: None }), laid.end()),
            bytes => {
                let bytes = bytes & !7;
                (Some(Flaw::Corrupt { offset, bytes, lost: Some((whole, whole)) }), offset + bytes)
            }
        };
        assert_eq!((scan.flaws.first().copied(), scan.flaws.len()), (flaw, usize::from(flaw.is_some())), "{end}");
        assert_eq!((scan.end, scan.tasks), (to, whole), "cut at {end}");
    }
}

#[test]
fn durable_batch_that_is_cut_keeps_its_whole_records() {
    let (laid, ..) = lay(&[Task, Batch]);
    let whole = walk(LIFE, &laid.bytes[..laid.end() as usize], PRELUDE, 0, laid.end());
    let last = whole.records - 1;
    let end = laid.end() - 8;
    let scan = walk(LIFE, &laid.bytes[..end as usize], PRELUDE, 0, end);
    assert_eq!((scan.tasks, scan.records), (whole.tasks - 1, whole.records));
    assert_eq!(scan.flaws.iter().map(Flaw::lost).collect::<Vec<_>>(), [Some((last, last))]);
}

#[test]
fn last_end_is_behind_the_last_extent_whatever_lies_between() {
    for first in THINGS {
        for second in THINGS {
            for third in THINGS {
                let things = [first, second, third];
                let (laid, truth, _) = lay(&things);
                let (mut at, mut end) = (PRELUDE, PRELUDE);
                loop {
                    let extent = match truth.get(&at) {
                        Some(
                            Truth::Record { bytes, .. }
                            | Truth::Batch { bytes, .. }
                            | Truth::Hole { bytes }
                            | Truth::Padding { bytes },
                        ) => *bytes,
                        Some(Truth::Mark { .. }) => 48,
                        None => match next_header(&truth, at) {
                            Some((offset, _)) => {
                                at = offset;
                                continue;
                            }
                            None => break,
                        },
                    };
                    at += extent;
                    end = at;
                }
                assert_eq!(last_end(LIFE, &laid.bytes, PRELUDE), end, "{things:?}");
                let cut = &laid.bytes[..laid.bytes.len() - 9];
                assert!(last_end(LIFE, cut, PRELUDE) as usize <= cut.len(), "{things:?} cut");
            }
        }
    }
}

#[test]
fn scan_notes_where_every_stride_begins() {
    let mut laid = Laid::new(LIFE);
    let mut offsets = Vec::new();
    while laid.index < 3 * SEEK_STRIDE {
        offsets.push(laid.task(b""));
        offsets.extend(&laid.batch(&[b"a", b"b"])[1..]);
    }
    for durable in [0, laid.end()] {
        let scan = walk(LIFE, &laid.bytes, PRELUDE, 0, durable);
        let strides = (0..laid.index).step_by(SEEK_STRIDE as usize);
        let expected: Vec<_> = strides.map(|index| (index, offsets[index as usize])).collect();
        assert_eq!(scan.seek, expected);
    }
}

#[test]
fn resync_finds_the_next_header_and_never_the_one_it_stands_on() {
    let (laid, truth, starts) = lay(&[Task, Garbage, Padding, Task, Hole, Batch, Mark]);
    for from in (PRELUDE..laid.end()).step_by(8) {
        let expected = next_header(&truth, from);
        let found = resync(LIFE, from, &laid.bytes[from as usize..]);
        assert_eq!(found.map(|header| header.offset), expected.map(|(offset, _)| offset), "from {from}");
    }
    assert_eq!(resync(LIFE, starts[6], &[]), None);
}

#[test]
fn hostile_bytes_are_survived() {
    let (laid, _, _) = lay(&[Task, Batch, TornTask, Mark, Hole, Padding, Batch, Entry]);
    for seed in 0..20_000 {
        let mut rng = Rng::new(seed);
        let mut bytes = laid.bytes.clone();
        for _ in 0..rng.below(8) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = rng.next().to_le_bytes()[0];
        }
        bytes.truncate(usize::try_from(rng.below(2 * bytes.len() as u64)).unwrap());
        let durable = u32::try_from(rng.below(2 * u64::from(laid.end()))).unwrap();
        let scan = walk(LIFE, &bytes, PRELUDE, 0, durable);
        assert!(scan.records <= laid.index, "no index was ever made up, seed {seed}");
        let most = u32::try_from(bytes.len()).unwrap().max(durable).max(PRELUDE);
        assert!(scan.end <= most, "no end beyond everything, seed {seed}");
    }
}
