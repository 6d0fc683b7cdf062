//! A disk on which one kind of call fails for a while: what a full process or a sick device does beside crashes.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::options;
use crate::engine::Engine;
use crate::engine::recovery::{self, Given};
use crate::engine::scratch::SCRATCH_FILE;
use crate::sim::SimDisk;
use crate::storage::{File, Medium, Prepare, Region, Storage};
use crate::sync::Mutex;
use crate::types::Now;

/// The simulated disk, with switches.
#[derive(Clone)]
pub(super) struct Flaky {
    disk: SimDisk,
    switches: Arc<Switches>,
}

#[derive(Default)]
pub(super) struct Switches {
    /// Mapping fails: no address space, too many maps.
    pub maps: AtomicBool,
    /// Reading and writing the scratch file fails.
    pub scratch_reads: AtomicBool,
    pub scratch_writes: AtomicBool,
    /// Removing a name fails.
    pub removes: AtomicBool,
    /// What happens before each sync of a file, by its name.
    at_sync: Mutex<Option<(String, Meanwhile)>>,
}

type Meanwhile = Box<dyn FnMut() + Send>;

impl Switches {
    /// Does `meanwhile` at each sync of the file from now on, in the thread that syncs.
    pub(super) fn on_sync(&self, name: &str, meanwhile: impl FnMut() + Send + 'static) {
        *self.at_sync.lock() = Some((name.to_owned(), Box::new(meanwhile)));
    }

    fn sync_begins(&self, name: &str) {
        if let Some((_, meanwhile)) = self.at_sync.lock().as_mut().filter(|(file, _)| file == name) {
            meanwhile();
        }
    }
}

struct FlakyFile {
    name: String,
    file: Arc<dyn File>,
    switches: Arc<Switches>,
}

impl Flaky {
    pub(super) fn over(disk: &SimDisk) -> (Flaky, Arc<Switches>) {
        let switches = Arc::new(Switches::default());
        (Flaky { disk: disk.clone(), switches: Arc::clone(&switches) }, switches)
    }

    fn wrap(&self, name: &str, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FlakyFile { name: name.to_owned(), file: file?, switches: Arc::clone(&self.switches) }))
    }
}

/// Opens the queue on `disk`, which fails as the switches say.
pub(super) fn open_flaky(disk: &SimDisk, now: Now) -> (Engine, Arc<Switches>) {
    let (flaky, switches) = Flaky::over(disk);
    let given = Given { resolve: &|_| Ok(options()), fail_on_damage: false };
    (recovery::open(Arc::new(flaky), Path::new("sim"), &given, now).unwrap(), switches)
}

const EIO: i32 = 5;

fn refuse(switch: &AtomicBool, errno: i32) -> io::Result<()> {
    if switch.load(Ordering::SeqCst) { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
}

impl Storage for Flaky {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, len: u64, prepare: Prepare) -> io::Result<Arc<dyn File>> {
        self.wrap(name, self.disk.create(name, len, prepare))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.wrap(name, self.disk.open(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        const EPERM: i32 = 1;
        refuse(&self.switches.removes, EPERM)?;
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }

    fn medium(&self) -> Medium {
        self.disk.medium()
    }
}

impl File for FlakyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.name == SCRATCH_FILE {
            refuse(&self.switches.scratch_reads, EIO)?;
        }
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.name == SCRATCH_FILE {
            refuse(&self.switches.scratch_writes, EIO)?;
        }
        self.file.write_at(offset, bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.switches.sync_begins(&self.name);
        self.file.sync()
    }

    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        self.switches.sync_begins(&self.name);
        self.file.sync_range(range)
    }

    fn map(&self) -> io::Result<Region> {
        const ENOMEM: i32 = 12;
        refuse(&self.switches.maps, ENOMEM)?;
        self.file.map()
    }
}
