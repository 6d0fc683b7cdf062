//! What the machine alone does, for scale: no queue, no engine.

use std::os::unix::fs::FileExt;

use crate::clock::now_ns;
use crate::job::{Job, Outcome};
use crate::payload::{PATTERNS, Patterns};
use crate::row::count;

/// More than any cache holds.
const BYTES: usize = 256 << 20;

/// Copies and checksums payloads into resident memory.
pub fn copy_crc(job: &Job) -> anyhow::Result<Outcome> {
    let mut target = vec![1_u8; BYTES];
    let mut writer = Patterns::new(job.payload_bytes).writer(0);
    let mut sum = 0_u32;
    timed(job, || {
        let mut tasks = 0;
        for slot in target.chunks_exact_mut(job.payload_bytes) {
            writer.with(1, 0, |payloads| {
                if let Some(payload) = payloads.first() {
                    sum ^= crc32fast::hash(payload);
                    slot.copy_from_slice(payload);
                }
            });
            tasks += 1;
        }
        std::hint::black_box(&mut sum);
        Ok(tasks)
    })
}

/// Copies memory, a payload at a time.
pub fn memory_copy(job: &Job) -> anyhow::Result<Outcome> {
    let (source, mut target) = (vec![1_u8; BYTES], vec![2_u8; BYTES]);
    timed(job, || {
        let mut tasks = 0;
        for (to, from) in target.chunks_exact_mut(job.payload_bytes).zip(source.chunks_exact(job.payload_bytes)) {
            to.copy_from_slice(from);
            tasks += 1;
        }
        std::hint::black_box(&mut target);
        Ok(tasks)
    })
}

/// Writes a payload at a time over a file whose pages are in memory.
pub fn page_cache_write(job: &Job) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(&job.dir)?;
    let file = std::fs::File::create(job.dir.join("pages"))?;
    let block = vec![7_u8; job.payload_bytes];
    let blocks = (BYTES / job.payload_bytes.max(1)) as u64;
    let write = || {
        (0..blocks).try_for_each(|index| file.write_all_at(&block, index * block.len() as u64))?;
        Ok(blocks)
    };
    write()?;
    timed(job, write)
}

/// Rounds until the time is over, after one that warms up.
fn timed(job: &Job, mut round: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<Outcome> {
    debug_assert!(job.payload_bytes * PATTERNS <= BYTES);
    round()?;
    let (began_ns, mut tasks) = (now_ns(), 0);
    loop {
        tasks += round()?;
        let seconds = count(now_ns() - began_ns) / 1e9;
        if seconds >= job.seconds {
            return Ok(Outcome { tasks, seconds, verified: true, ..Outcome::default() });
        }
    }
}
