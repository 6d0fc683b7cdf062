//! Crashes at every operation of a small workload, and at every step between operations.

use super::world::{World, open};
use crate::error::Error;
use crate::sim::{Loss, SimDisk};

const STEPS: usize = 40;

/// Runs `steps` steps of a workload; stops early if the machine stops. Gives the model.
fn run(disk: &SimDisk, seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    go_on(disk, &mut world, steps);
    world
}

fn go_on(disk: &SimDisk, world: &mut World, steps: usize) {
    let Ok(engine) = open(disk, world.now()) else {
        assert!(disk.has_crashed(), "an open fails only where the machine stops");
        return;
    };
    for _ in 0..steps {
        if let Err(error) = world.step(&engine) {
            assert!(disk.has_crashed(), "a step fails only where the machine stops: {error}");
            return;
        }
    }
}

/// Opens after a crash, with further crashes inside recovery, and checks what is there.
fn recover(disk: &SimDisk, world: &mut World, loss: Loss) -> SimDisk {
    let mut disk = disk.restart(loss);
    for depth in 0..3 {
        let within = world.rng.below(40);
        disk.crash_at(disk.operations() + within);
        match open(&disk, world.now()) {
            Ok(_) => break,
            Err(error) => assert!(disk.has_crashed(), "recovery fails only where the machine stops: {error} ({depth})"),
        }
        disk = disk.restart(loss);
    }
    let disk = disk.restart(Loss::Process);
    open(&disk, world.now()).expect("recovery ends");
    world.check(&disk, loss);
    disk.restart(Loss::Process)
}

fn crash_at(seed: u64, operation: u64, loss: Loss) {
    let disk = SimDisk::new(seed);
    disk.crash_at(operation);
    let mut world = run(&disk, seed, STEPS);
    let disk = recover(&disk, &mut world, loss);
    // Life goes on, and the next crash finds nothing wrong either.
    go_on(&disk, &mut world, STEPS / 2);
    recover(&disk, &mut world, loss);
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("LANELOG_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let from = std::env::var("LANELOG_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    from..from + count
}

#[test]
fn crash_at_every_operation_keeps_every_promise() {
    for seed in seeds(3) {
        let disk = SimDisk::new(seed);
        run(&disk, seed, STEPS);
        for operation in 0..disk.operations() {
            for loss in [Loss::Process, Loss::Power] {
                let at = format!("seed {seed}, operation {operation}, {loss:?}");
                let outcome = std::panic::catch_unwind(|| crash_at(seed, operation, loss));
                assert!(outcome.is_ok(), "{at}");
            }
        }
    }
}

#[test]
fn crash_between_any_two_steps_keeps_every_promise() {
    for seed in seeds(6) {
        for steps in 1..STEPS {
            for loss in [Loss::Process, Loss::Power] {
                let disk = SimDisk::new(seed);
                let mut world = run(&disk, seed, steps);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    recover(&disk, &mut world, loss);
                }));
                assert!(outcome.is_ok(), "seed {seed}, after {steps} steps, {loss:?}");
            }
        }
    }
}

#[test]
fn workload_delivers_something_worth_checking() {
    let delivered: u64 = (0..20).map(|seed| run(&SimDisk::new(seed), seed, STEPS).delivered).sum();
    assert!(delivered > 50, "{delivered} deliveries");
}

#[test]
fn failed_sync_poisons_and_a_reopen_with_power_loss_after_it_keeps_every_promise() {
    const EIO: i32 = 5;
    for seed in seeds(6) {
        let disk = SimDisk::new(seed);
        run(&disk, seed, STEPS);
        for operation in 0..disk.operations() {
            let disk = SimDisk::new(seed);
            disk.fail_at(operation, EIO);
            let mut world = World::new(seed);
            if let Ok(engine) = open(&disk, world.now()) {
                let failed = (0..STEPS).find_map(|_| world.step(&engine).err());
                if let Some(Error::InDoubt { .. }) = failed
                    && engine.check_poison().is_err()
                {
                    let refused = world.step_until_refused(&engine);
                    assert!(matches!(refused, Some(Error::Poisoned { .. })), "seed {seed}, operation {operation}");
                }
            }
            // The process restarts over a cache that lies, recovers, and then the power goes.
            let disk = disk.restart(Loss::Process);
            open(&disk, world.now()).expect("a reopen clears the poison");
            let disk = disk.restart(Loss::Power);
            open(&disk, world.now()).expect("and the next one finds a queue");
            world.check(&disk, Loss::Power);
        }
    }
}
