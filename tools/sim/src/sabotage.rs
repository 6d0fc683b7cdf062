//! Deliberate bugs, turned on one at a time: how many schedules until each is caught.

use crate::args::Args;
use crate::crew::Crew;

/// A bug that is not caught in so many schedules is not caught.
#[cfg(feature = "sabotage")]
const SCHEDULES_MAX: u64 = 50_000;

/// True if every bug asked for was caught.
#[cfg(feature = "sabotage")]
pub fn run(name: &str, args: &Args, crew: &Crew) -> anyhow::Result<bool> {
    use lanelog::sabotage::{Bug, set_active};

    let names = || Bug::SIMULATED.map(|bug| format!("{bug:?}")).join(", ");
    if name == "list" {
        println!("{}", names());
        return Ok(true);
    }
    let asked: Vec<Bug> =
        Bug::SIMULATED.into_iter().filter(|bug| name == "all" || name == format!("{bug:?}")).collect();
    anyhow::ensure!(!asked.is_empty(), "there is no sabotage {name:?}; there are all, {}", names());
    let seed = args.seed.unwrap_or_else(crate::fresh_seed);
    let mut survived = 0;
    for bug in &asked {
        set_active(Some(*bug));
        let (counts, failures) = crew.until_caught(seed, SCHEDULES_MAX)?;
        set_active(None);
        match failures.first() {
            Some(first) => {
                println!("{bug:?}: caught after {} schedules: {}", counts.schedules, first.violation);
                if asked.len() == 1 {
                    crate::report(first);
                }
            }
            None => {
                println!("{bug:?}: SURVIVED {} schedules", counts.schedules);
                survived += 1;
            }
        }
    }
    println!("sabotages={} caught={} survived={survived} seed={seed}", asked.len(), asked.len() - survived);
    Ok(survived == 0)
}

#[cfg(not(feature = "sabotage"))]
pub fn run(_: &str, _: &Args, _: &Crew) -> anyhow::Result<bool> {
    anyhow::bail!("this build has no deliberate bugs in it; build with --features sabotage")
}
