//! What the machine allows, as an engine called `limit`, so that the same loops measure it in the same run.
//!
//! At `Process` it is the *floor*: a ring of fixed slots in a mapped, resident file; a writer copies and checksums into
//! it and publishes, a reader checks what was published. No index, no leases, no recovery; what nobody reads is
//! overwritten. At `Power` it is a bare `fdatasync` behind a write over blocks that were written before. A consumer that
//! waits is parked by the standard library and unparked by the producer, or spins as long as lanelog's consumers do.

mod ring;

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};
use ring::Ring;

/// The name in the output.
pub const NAME: &str = "limit";

/// The machine.
pub struct Limit;

/// What it is measured over: more than any cache.
const BYTES: usize = 256 << 20;

impl Engine for Limit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("Linux {}", kernel.trim())
    }

    fn settings(&self, durability: Durability) -> String {
        match durability {
            Durability::Process => "the floor: copy and CRC into resident mapped pages, without a queue".to_owned(),
            Durability::Power => "a bare fdatasync behind each write over written blocks, one thread".to_owned(),
        }
    }

    fn can(&self, _durability: Durability, needs: &[Need]) -> Result<(), String> {
        needs.is_empty().then_some(()).ok_or_else(|| "one thread, one lane".to_owned())
    }

    fn is_limit(&self) -> bool {
        true
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let path = setup.dir.join("limit");
        if setup.durability == Durability::Power {
            let file = std::fs::File::create(&path)?;
            for block in 0..SYNCED_BLOCKS {
                file.write_all_at(&[0; BLOCK_BYTES], block * BLOCK_BYTES as u64)?;
            }
            file.sync_all()?;
            return Ok(Box::new(Bare { file, next: AtomicU64::new(0) }));
        }
        let ring = Ring::create(&path, BYTES, setup.payload_bytes)?;
        Ok(Box::new(Floor { ring, is_read: setup.consumers > 0, sleeper: Sleeper::default() }))
    }
}

const BLOCK_BYTES: usize = 4096;
const SYNCED_BLOCKS: u64 = 16_384;

/// Writes and syncs, nothing else.
struct Bare {
    file: std::fs::File,
    next: AtomicU64,
}

impl Store for Bare {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Syncing { store: self, block: Vec::new() }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        bail!("nothing is kept that could be taken")
    }
}

struct Syncing<'a> {
    store: &'a Bare,
    block: Vec<u8>,
}

impl Producer for Syncing<'_> {
    fn send(&mut self, _lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        self.block.clear();
        tasks.iter().for_each(|task| self.block.extend_from_slice(task));
        let blocks = self.block.len().div_ceil(BLOCK_BYTES);
        self.block.resize(blocks * BLOCK_BYTES, 0);
        let first = self.store.next.fetch_add(blocks as u64, Ordering::Relaxed);
        let at = first % (SYNCED_BLOCKS - blocks as u64) * BLOCK_BYTES as u64;
        self.store.file.write_all_at(&self.block, at)?;
        self.store.file.sync_data()?;
        Ok(())
    }
}

/// The ring, and who waits for it.
struct Floor {
    ring: Ring,
    is_read: bool,
    sleeper: Sleeper,
}

/// The consumer that sleeps, if it does.
#[derive(Default)]
struct Sleeper {
    sleeps: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Store for Floor {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Writing(self)))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Reading(self)))
    }
}

struct Writing<'a>(&'a Floor);

impl Producer for Writing<'_> {
    fn send(&mut self, _lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        while self.0.is_read && !self.0.ring.has_room(tasks.len()) {
            std::hint::spin_loop();
        }
        self.0.ring.publish(tasks);
        // SeqCst: partner of the one in `take`; either this sees the sleeper, or the sleeper what was published.
        if self.0.is_read && self.0.sleeper.sleeps.load(Ordering::SeqCst) {
            let thread = self.0.sleeper.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.as_ref().inspect(|thread| thread.unpark());
        }
        Ok(())
    }
}

struct Reading<'a>(&'a Floor);

/// How long a consumer spins before it sleeps, as lanelog's default is.
const SPIN: Duration = Duration::from_micros(20);

impl Consumer for Reading<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let Floor { ring, sleeper, .. } = self.0;
        let mut seen = ring.read(tasks, see)?;
        let began = Instant::now();
        while seen == 0 {
            let waited = began.elapsed();
            if waited >= wait {
                break;
            }
            if waited > SPIN {
                *sleeper.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
                sleeper.sleeps.store(true, Ordering::SeqCst);
                if ring.is_empty() {
                    std::thread::park_timeout(wait - waited);
                }
                sleeper.sleeps.store(false, Ordering::SeqCst);
            }
            std::hint::spin_loop();
            seen = ring.read(tasks, see)?;
        }
        Ok(seen)
    }
}
