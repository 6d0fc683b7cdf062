//! The queue by time against a naive twin, over a scratch that fails now and then; and what ten million tasks take.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Far, FarRules, Scratch};
use crate::format::far::{FarEntry, page_bytes};
use crate::sim::Rng;
use crate::sync::Mutex;
use crate::types::{Now, Seq, Timestamp};

/// Places in memory; one call in `fails` fails, and 0 is none.
#[derive(Default)]
struct Shelf {
    places: Mutex<BTreeMap<u64, Vec<u8>>>,
    numbers: AtomicU64,
    chance: Mutex<Option<Rng>>,
    fails: u64,
    /// A page that is read has one bit flipped, instead of an error.
    flips: bool,
}

impl Shelf {
    fn failing(seed: u64, fails: u64, flips: bool) -> Shelf {
        Shelf { chance: Mutex::new(Some(Rng::new(seed))), fails, flips, ..Shelf::default() }
    }

    fn fails(&self) -> bool {
        self.fails > 0 && self.chance.lock().as_mut().is_some_and(|rng| rng.below(self.fails) == 0)
    }
}

impl Scratch for Shelf {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn put(&self, bytes: &[u8]) -> io::Result<u64> {
        if self.fails() && !self.flips {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut places = self.places.lock();
        let place = (0..).find(|place| !places.contains_key(place)).unwrap();
        places.insert(place, bytes.to_vec());
        Ok(place)
    }

    fn read(&self, place: u64, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let fails = self.fails();
        let places = self.places.lock();
        let from = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&places[&place][from..from + buf.len()]);
        match (fails, self.flips) {
            (true, true) => buf[9] ^= 4,
            (true, false) => return Err(io::ErrorKind::Other.into()),
            (false, _) => {}
        }
        Ok(())
    }

    fn give_back(&self, place: u64) {
        assert!(self.places.lock().remove(&place).is_some(), "a place is given back once");
    }
}

fn at(ms: u64) -> Now {
    Now { boot_ms: ms, wall: Timestamp(ms + 1_000_000) }
}

const RULES: FarRules = FarRules { near_ms: 10, run_entries: 7, page_entries: 3, loaded_max: 1_000 };

#[test]
fn entries_come_off_the_front_as_a_sorted_set_would_give_them_whatever_the_scratch_does() {
    for seed in 0..400 {
        let shelf = match seed % 4 {
            0 => Shelf::default(),
            1 => Shelf::failing(seed, 3, true),
            _ => Shelf::failing(seed, 2 + seed % 9, false),
        };
        let mut rng = Rng::new(seed);
        let mut far = Far::new(RULES, at(0));
        // By sequence: when it is due.
        let mut twin: BTreeMap<Seq, u64> = BTreeMap::new();
        let mut gone: BTreeSet<Seq> = BTreeSet::new();
        let mut now = 0;
        for step in 0..150_u64 {
            if rng.below(4) > 0 {
                let rest = 20 + rng.below(200);
                far.gather(Seq(step), 0, rest, at(now), Some(&shelf));
                twin.insert(Seq(step), now + rest);
                continue;
            }
            now += rng.below(60);
            let mut last = 0;
            let reach = far.clock(at(now));
            loop {
                for (first, end) in std::mem::take(&mut far.given_up) {
                    for (seq, due) in twin.range(first..=end) {
                        far.gather(*seq, 0, due.saturating_sub(now), at(now), Some(&shelf));
                    }
                    last = 0;
                }
                let Some(entry) = far.pop(reach, Some(&shelf)) else { break };
                assert!(entry.key >= last, "seed {seed}: in order");
                last = entry.key;
                match twin.remove(&entry.seq) {
                    Some(due) => assert!(due <= now, "seed {seed}: {entry:?} comes early"),
                    None => assert!(gone.contains(&entry.seq), "seed {seed}: {entry:?} was never gathered"),
                }
                gone.insert(entry.seq);
            }
            let late: Vec<_> = twin.iter().filter(|(_, due)| **due <= now).collect();
            assert!(late.is_empty(), "seed {seed}: {late:?} are forgotten");
        }
        far.end(Some(&shelf));
        assert!(shelf.places.lock().is_empty(), "seed {seed}: everything is given back");
    }
}

#[test]
fn ten_million_far_tasks_take_a_few_mebibytes_and_runs_are_read_page_by_page() {
    let shelf = Counting::default();
    let mut far = Far::new(FarRules::USUAL, at(0));
    let tasks = 10_000_000_u64;
    for number in 0..tasks {
        let (life, index) = (number / 500_000, u32::try_from(number % 500_000).unwrap());
        far.mark(1 + life * 2_000_000, index);
        far.gather(Seq(number), 64, number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 86_400_000, at(0), Some(&shelf));
    }
    let (runs, entries) = far.sizes();
    assert_eq!((far.count(), runs), (tasks, 152));
    let bytes = far.bits.bytes() + entries * size_of::<FarEntry>();
    assert!(bytes < 8 << 20, "{bytes} bytes");
}

/// Forgets what is written.
#[derive(Default)]
struct Counting(AtomicU64);

impl Scratch for Counting {
    fn number(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn put(&self, bytes: &[u8]) -> io::Result<u64> {
        assert_eq!(bytes.len() % page_bytes(146), 0, "whole pages");
        Ok(self.number())
    }

    fn read(&self, _: u64, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn give_back(&self, _: u64) {}
}

#[test]
fn a_wall_clock_that_jumps_ahead_takes_what_waits_along_and_one_that_jumps_back_does_not() {
    let mut far = Far::new(RULES, at(0));
    far.gather(Seq(1), 0, 1_000, at(0), None);
    far.mark(0, 1);
    let ahead = |boot_ms, ms| Now { boot_ms, wall: Timestamp(boot_ms + 1_000_000 + ms) };
    assert_eq!(far.next_ms(0, 0), Some(990));
    assert!(!far.wants(0, 0, ahead(5, 900)) && far.wants(0, 0, ahead(5, 985)));
    let back = Now { boot_ms: 990, wall: Timestamp(5) };
    assert!(far.wants(0, 0, back), "it waits no longer than it would have");
    assert_eq!(far.clock(back), 1_000_990, "the clock of keys never goes back");
    assert!(far.pop(1_000_999, None).is_none());
    assert_eq!(far.pop(1_001_000, None).map(|entry| entry.seq), Some(Seq(1)));
}

#[test]
fn nothing_is_loaded_ahead_of_its_time_while_many_are_and_nothing_at_all_while_many_wait_for_a_taker() {
    let mut far = Far::new(FarRules { loaded_max: 3, ..RULES }, at(0));
    far.gather(Seq(1), 0, 1_000, at(0), None);
    far.mark(0, 1);
    assert_eq!([far.next_ms(2, 0), far.next_ms(3, 0), far.next_ms(0, 3)], [Some(990), Some(1_000), None]);
}
