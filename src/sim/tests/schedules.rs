//! Schedules drawn from seeds keep every promise, and the same seed is the same run.

use crate::sim::run::{Counts, run};
use crate::sim::schedule::Schedule;

#[test]
fn schedules_of_many_seeds_keep_every_promise() {
    let seeds: u64 = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let from: u64 = std::env::var("SIM_FROM").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts = Counts::default();
    let mut bad = std::collections::BTreeMap::new();
    for seed in from..from + seeds {
        let schedule = Schedule::draw(seed);
        if let Err(violation) = run(&schedule, &mut counts, None) {
            let text: String = violation.0.chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
            let entry = bad.entry(text).or_insert((0, seed, violation.0));
            entry.0 += 1;
        }
    }
    eprintln!("{counts:?}");
    for (_, (count, seed, text)) in &bad {
        eprintln!("{count} × (seed {seed}) {}", text.chars().take(300).collect::<String>());
    }
    let _back = std::panic::take_hook();
    assert!(bad.is_empty());
}

#[test]
#[ignore = "prints one schedule"]
fn print_one() {
    let seed: u64 = std::env::var("SIM_FROM").unwrap().parse().unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let (schedule, verdict) = crate::sim::shrink::shrink(&Schedule::draw(seed));
    let mut trace = Vec::new();
    let _same = run(&schedule, &mut Counts::default(), Some(&mut trace));
    eprintln!("{} steps {:?}", schedule.steps(), schedule.setting);
    eprintln!("{}", trace.join("\n"));
    eprintln!("{verdict:?}");
}
