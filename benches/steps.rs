//! What the harness of tools/bench can't see: the engine's single steps, on a disk in memory.
//!
//! `cargo bench --bench steps --features sim [-- FILTER]`. Each time is that of one task; of a checkpoint and a recovery,
//! of the whole.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a benchmark reads the clock, and stops where it can't go on"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use lanelog::doors::{Loans, Steps, decode_record_of, encode_record};

/// Tasks between two makings of what is ready: they fit two segments.
const CHUNK: usize = 4096;

fn records(criterion: &mut Criterion) {
    for bytes in [100, 1024] {
        let payload = vec![7; bytes];
        let extent = encode_record(&payload).expect("a record of that size");
        criterion.bench_function(&format!("record encode, {bytes} B"), |bencher| {
            bencher.iter(|| encode_record(black_box(&payload)));
        });
        criterion.bench_function(&format!("record decode and verify, {bytes} B"), |bencher| {
            bencher.iter(|| decode_record_of(black_box(&extent)));
        });
    }
}

/// Takes a step for so many tasks, in chunks, each of which is prepared and cleared away outside of what is timed.
fn in_chunks(tasks: u64, chunk: impl Fn(&Steps, usize, &mut Vec<Loans>) -> Duration) -> Duration {
    let (steps, mut left) = (Steps::new().expect("a queue in memory"), usize::try_from(tasks).expect("64 bits"));
    let mut timed = Duration::ZERO;
    while left > 0 {
        let count = left.min(CHUNK);
        steps.make_ready().expect("room");
        let mut loans = Vec::new();
        timed += chunk(&steps, count, &mut loans);
        loans.push(steps.reserve(count).expect("tasks"));
        loans.iter().for_each(|loans| _ = black_box(steps.ack(loans).expect("what was acked already is answered so")));
        steps.checkpoint().expect("a checkpoint");
        left -= count;
    }
    timed
}

fn append_all(steps: &Steps, tasks: usize, payload: &[u8]) {
    for _ in 0..tasks {
        while !steps.append(payload).expect("a task that fits") {
            steps.make_ready().expect("room");
        }
    }
}

fn timed<T>(step: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    black_box(step());
    began.elapsed()
}

fn tasks(criterion: &mut Criterion) {
    for bytes in [100, 1024] {
        let payload = vec![7; bytes];
        criterion.bench_function(&format!("claim, fill and publish, {bytes} B"), |bencher| {
            bencher
                .iter_custom(|tasks| in_chunks(tasks, |steps, count, _| timed(|| append_all(steps, count, &payload))));
        });
    }
    for batch in [1, 64] {
        let payload = [7; 100];
        criterion.bench_function(&format!("reserve, {batch} at once"), |bencher| {
            bencher.iter_custom(|tasks| {
                in_chunks(tasks, |steps, count, loans| {
                    append_all(steps, count, &payload);
                    let reserve = |_| steps.reserve(batch).expect("tasks");
                    timed(|| loans.extend((0..count.div_ceil(batch)).map(reserve)))
                })
            });
        });
        criterion.bench_function(&format!("ack, {batch} at once"), |bencher| {
            bencher.iter_custom(|tasks| {
                in_chunks(tasks, |steps, count, _| {
                    append_all(steps, count, &payload);
                    let loans: Vec<_> =
                        (0..count.div_ceil(batch)).map(|_| steps.reserve(batch).expect("tasks")).collect();
                    timed(|| loans.iter().for_each(|loans| _ = black_box(steps.ack(loans).expect("acks"))))
                })
            });
        });
    }
}

/// With ten thousand tasks, every other one acked.
fn whole(criterion: &mut Criterion) {
    let filled = || {
        let steps = Steps::new().expect("a queue in memory");
        append_all(&steps, 10_000, &[7; 100]);
        for _ in 0..5_000 {
            let _kept = steps.reserve(1).expect("a task");
            let acked = steps.reserve(1).expect("a task");
            steps.ack(&acked).expect("its ack");
        }
        steps
    };
    criterion.bench_function("checkpoint, 10,000 tasks half acked", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| filled()).map(|steps| timed(|| steps.checkpoint())).sum());
    });
    criterion.bench_function("recovery, 10,000 tasks half acked, without a checkpoint", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| filled()).map(|steps| timed(|| steps.recover())).sum());
    });
}

criterion_group! {
    name = steps;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = records, tasks, whole
}
criterion_main!(steps);
