//! Promise: killed at any moment and started again with no input, the main job finishes what is left; nothing is
//! missing, and only what a kill can have caught in flight is done twice.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::process::Command;

use support::{Place, Running, numbers, place, say};

const KILLS: usize = 20;
const CONCURRENCY: usize = 3;

#[test]
fn killed_twenty_times_the_main_job_gives_what_the_command_gives() {
    let mut random = Random::seeded();
    let place = place();
    let mut find = Command::new("sh");
    find.args(["-c", "find /usr/share -type f ! -name '*[\\\\\n]*' | sort | head -n 400"]);
    let list = say(find, b"").out;
    let mut direct = Command::new("xargs");
    direct.args(["-d", "\\n", "sha256sum"]);
    let expected = say(direct, &list).sorted();
    place.lanelog("enqueue", list).ends_with(0);

    let args = format!("run --concurrency {CONCURRENCY} --max-attempts {} -- sha256sum \"$1\"", KILLS + 1);
    let seen = lines_over_kills(&place, &args, || random.below(16));
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), expected);
    let again: usize = seen.values().map(|times| times - 1).sum();
    assert!(again <= KILLS * CONCURRENCY, "{again} lines came again");
    println!("{again} of {} tasks were caught in flight", expected.len());
}

#[test]
fn killed_while_it_prints_it_loses_nothing() {
    let mut random = Random::seeded();
    let place = place();
    place.lanelog("enqueue --durability process", numbers(1..=50_000)).ends_with(0);
    let seen = lines_over_kills(&place, "work --until-empty --print --max-attempts 0", || random.below(2000));
    let mut numbers: Vec<u32> = seen.keys().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=50_000));
}

/// Starts the command with no input and kills it, again and again, and lets it end at last. Gives how often each line
/// came.
fn lines_over_kills(place: &Place, args: &str, mut count: impl FnMut() -> usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..KILLS {
        let mut run = place.start(args);
        drop(run.input.take());
        for line in lines_until_killed(&mut run, count()) {
            *seen.entry(line).or_default() += 1;
        }
    }
    let last = place.lanelog(args, "").ends_with(0);
    assert!(last.err.contains("dead 0, left 0"), "{}", last.err);
    for line in last.lines() {
        *seen.entry(line).or_default() += 1;
    }
    seen
}

/// Kills the command once it wrote `count` lines; gives all whole lines that it wrote. The kill hits anywhere behind
/// that: at 0 mostly in the opening of the queue.
fn lines_until_killed(run: &mut Running, count: usize) -> Vec<String> {
    let mut out = run.out.take().unwrap();
    let mut text = Vec::new();
    for _ in 0..count {
        out.read_until(b'\n', &mut text).unwrap();
    }
    run.child.kill().unwrap();
    out.read_to_end(&mut text).unwrap();
    run.child.wait().unwrap();
    // A kill may cut the last line; its task was not acked.
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    String::from_utf8(text[..whole].to_vec()).unwrap().lines().map(str::to_owned).collect()
}

/// xorshift64*
struct Random(u64);

impl Random {
    /// From the environment, or new for each process; printed, so that a failure can be repeated.
    fn seeded() -> Random {
        let given = std::env::var("LANELOG_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| (u64::from(std::process::id()) << 20) | 1);
        println!("LANELOG_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }
}
