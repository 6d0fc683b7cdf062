//! The SIGBUS guard: an I/O error under a map fails the segment that it hit, not the process.
//!
//! A load or a store that the kernel can't back with a page (the device failed, the file was cut) raises SIGBUS in
//! the thread that made it. The handler here runs in that thread and
//!
//! 1. looks the address up among the ranges that are mapped under the guard;
//! 2. found: marks the map's [`Health`] as failed, puts a page of zeros where the fault was, and returns, so that
//!    the instruction runs again and the thread goes on. Whoever publishes, commits or hands out from the map reads
//!    the mark afterwards and answers an error;
//! 3. not found: the fault is somebody else's, and the handler that was there before gets it as if this one were
//!    not there.
//!
//! # Why the handler may read the registry
//!
//! It takes no lock, allocates nothing and makes system calls only (mmap, madvise, getpid, sigaction, raise). A slot
//! changes under a version that is odd meanwhile; the handler passes over a slot that is in flux and waits for nobody.
//! That is right because the range it looks for stands still: the faulting thread is touching the map, so it holds a
//! share in its region, and a slot is given up only when the last share is gone, before the range is unmapped. A slot
//! that other threads take or give up at that moment is never the one that is looked for; the version keeps
//! the handler from mixing the halves of two ranges.
//!
//! Absent: what a failed map means (the log and the engine know), and any state beside the registry.

#![expect(unsafe_code, reason = "a signal handler, and pages put in place; every block names the fact it rests on")]

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crate::storage::Health;

/// Proof that the handler is installed, for as long as the process lives.
#[derive(Clone, Copy)]
pub(super) struct Guard(());

/// A mapped range that the handler knows. Dropped before the range is unmapped.
pub(super) struct Watch {
    slot: &'static Slot,
    /// What the slot points to.
    _health: Arc<Health>,
}

impl Guard {
    /// Installs the handler, once per process.
    pub(super) fn install() -> io::Result<Guard> {
        static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
        let installed = INSTALLED.get_or_init(|| install_handler().map_err(|error| error.raw_os_error().unwrap_or(0)));
        installed.map(|()| Guard(())).map_err(io::Error::from_raw_os_error)
    }

    /// Makes the range known to the handler, which marks `health` if an I/O error hits it.
    ///
    /// # Safety
    /// The range must be whole mapped pages (the last one possibly in part), whatever is private in them may be
    /// replaced by zeros, and nobody may touch it once the `Watch` is dropped.
    pub(super) unsafe fn watch(self, start: NonNull<u8>, bytes: usize, health: Arc<Health>) -> Watch {
        let from = start.as_ptr().addr();
        let slot = REGISTRY.take(from..from.saturating_add(bytes), Arc::as_ptr(&health).cast_mut());
        Watch { slot, _health: health }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.slot.give_up();
    }
}

// ---- the handler ----

/// What was installed before. Read by the handler, so atomics; written before it can run, and by a handler that was
/// asked to run once.
static PREVIOUS: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);
/// What the kernel maps at least.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

fn install_handler() -> io::Result<()> {
    // SAFETY: asks for a number.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if let Ok(bytes @ 1..) = usize::try_from(page_bytes) {
        PAGE_BYTES.store(bytes, Ordering::Relaxed);
    }
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only fills `before`.
    check(unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) })?;
    remember(&before);
    // SAFETY: as above.
    let mut own: libc::sigaction = unsafe { std::mem::zeroed() };
    own.sa_sigaction = (on_sigbus as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) as usize;
    // The handler before may rely on its mask, and on being run again while it runs.
    own.sa_mask = before.sa_mask;
    own.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (before.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART));
    // SAFETY: `own` is whole, and its handler keeps to what a handler may do (the room's opening comment).
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const own, &raw mut before) })?;
    // Somebody may have installed another between the two calls.
    remember(&before);
    Ok(())
}

fn remember(before: &libc::sigaction) {
    PREVIOUS_FLAGS.store(before.sa_flags, Ordering::Relaxed);
    // Release: pairs with the acquire in `pass_on`; who sees the handler sees its flags.
    PREVIOUS.store(before.sa_sigaction, Ordering::Release);
}

fn check(outcome: c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the thread's own errno, which an interrupted system call may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel passes a whole siginfo (SA_SIGINFO); the address is there for faults, and is used for
    // those alone.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    let mended = is_lost_page(code) && substitute(address);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if !mended {
        pass_on(signal, code, info, context);
    }
}

/// True for a fault of this very instruction that a page put in place mends: no page to be had, or its memory broke.
/// A fault of alignment would only come again.
fn is_lost_page(code: c_int) -> bool {
    code == libc::BUS_ADRERR || code == libc::BUS_MCEERR_AR
}

/// Puts zeros in place of the page at `address`, if that is ours.
fn substitute(address: *mut c_void) -> bool {
    let Some(health) = REGISTRY.find(address.addr(), process_id()) else { return false };
    // The mark first: who reads the zeros finds the map failed.
    // SAFETY: the slot stands, because the faulting thread holds its map (the room's opening comment); so the
    // `Watch` that keeps this alive has not been dropped.
    unsafe { (*health).fail() };
    let bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = address.map_addr(|at| at - at % bytes);
    let (readable, anonymous) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the page lies in a range under the guard, whose maker agreed to this (`Guard::watch`).
    let put = unsafe { libc::mmap(page, bytes, readable, anonymous | libc::MAP_FIXED, -1, 0) };
    if put == libc::MAP_FAILED {
        return false;
    }
    // Like the rest of the map; where that is refused the child has a page of zeros that nobody uses.
    // SAFETY: the page was just put there; the advice changes no contents.
    let _ = unsafe { libc::madvise(page, bytes, libc::MADV_DONTFORK) };
    true
}

fn process_id() -> u32 {
    // SAFETY: the call has no conditions. Not std's, whose being safe in a handler is promised nowhere.
    unsafe { libc::getpid() }.unsigned_abs()
}

/// Does what would have been done without this handler.
fn pass_on(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // Acquire: pairs with the release in `remember`.
    let previous = PREVIOUS.load(Ordering::Acquire);
    if previous == libc::SIG_DFL || previous == libc::SIG_IGN {
        return end_by_default(signal, code, previous);
    }
    let flags = PREVIOUS_FLAGS.load(Ordering::Relaxed);
    if flags & libc::SA_RESETHAND != 0 {
        PREVIOUS.store(libc::SIG_DFL, Ordering::Release);
    }
    if flags & libc::SA_SIGINFO != 0 {
        type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: neither default nor ignored (checked), so it is the function that somebody gave to sigaction,
        // of this type by its flag.
        let handler = unsafe { std::mem::transmute::<usize, WithInfo>(previous) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above; without the flag it takes the signal's number alone.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(previous) };
        handler(signal);
    }
}

/// The signal's default, death, comes when the instruction faults again, so that a core dump shows it. A signal that
/// was only sent, or tells of memory that nobody touched, doesn't come again by itself, and can be ignored.
fn end_by_default(signal: c_int, code: c_int, previous: usize) {
    let comes_again = code > 0 && code != libc::BUS_MCEERR_AO;
    if previous == libc::SIG_IGN && !comes_again {
        return;
    }
    // SAFETY: the struct is plain numbers, for which zero is a value: the default action, no flags, no mask.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `default` is whole. If the call failed the fault would come here again, for ever; it can't, for this
    // signal and this action are valid.
    let _ = unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
    if !comes_again {
        // SAFETY: a signal to this thread, delivered when the handler returns.
        let _ = unsafe { libc::raise(signal) };
    }
}

// ---- the registry ----

/// Slots per block: a queue that is not very large has fewer segments mapped.
const SLOTS: usize = 64;

static REGISTRY: Block = Block::new();

/// A block of slots, and the one behind it. Blocks are never freed: there are as many as the most ranges at once took.
struct Block {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Block>,
}

/// One range, or none.
///
/// Invariant: while `version` is even the other fields belong together and don't change; who makes it odd (by
/// compare-and-swap, or as the owner) has the slot to itself until it is even again.
struct Slot {
    version: AtomicUsize,
    /// 0 in a slot that is free.
    start: AtomicUsize,
    end: AtomicUsize,
    /// Whose range it is: a forked child inherits the registry and not the maps.
    process: AtomicU32,
    health: AtomicPtr<Health>,
}

impl Block {
    const fn new() -> Self {
        Block { slots: [const { Slot::new() }; SLOTS], next: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Puts a range into a free slot, of a new block if need be.
    fn take(&'static self, range: std::ops::Range<usize>, health: *mut Health) -> &'static Slot {
        let mut block = self;
        loop {
            if let Some(slot) = block.slots.iter().find(|slot| slot.try_take(&range, health)) {
                return slot;
            }
            block = match block.next() {
                Some(next) => next,
                None => block.grow(),
            };
        }
    }

    /// What the range that holds `at` points to. For the handler.
    fn find(&'static self, at: usize, process: u32) -> Option<*const Health> {
        let mut block = Some(self);
        while let Some(here) = block {
            if let Some(health) = here.slots.iter().find_map(|slot| slot.find(at, process)) {
                return Some(health);
            }
            block = here.next();
        }
        None
    }

    fn next(&self) -> Option<&'static Block> {
        // Acquire: pairs with the release in `grow`; who sees the block sees its slots.
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: null, or a block that `grow` leaked, so that it stays for ever.
        unsafe { next.as_ref() }
    }

    /// The block behind this one, which had none a moment ago.
    fn grow(&self) -> &'static Block {
        let made = Box::into_raw(Box::new(Block::new()));
        match self.next.compare_exchange(std::ptr::null_mut(), made, Ordering::Release, Ordering::Acquire) {
            // SAFETY: it was leaked just now, and stays for ever.
            Ok(_) => unsafe { &*made },
            Err(other) => {
                // SAFETY: nobody else saw ours; the other one was leaked by its maker.
                unsafe {
                    drop(Box::from_raw(made));
                    &*other
                }
            }
        }
    }
}

impl Slot {
    const fn new() -> Self {
        Slot {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            process: AtomicU32::new(0),
            health: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Puts a range here if the slot is free and nobody else takes it first.
    fn try_take(&self, range: &std::ops::Range<usize>, health: *mut Health) -> bool {
        // Acquire: pairs with the release in `settle`; the start that is read next is of this version or later.
        let version = self.version.load(Ordering::Acquire);
        if !version.is_multiple_of(2) || self.start.load(Ordering::Relaxed) != 0 {
            return false;
        }
        // If the version still stands, so did the start.
        let odd = self.version.compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed);
        if odd.is_ok() {
            self.settle(version, range.start, range.end, health);
        }
        odd.is_ok()
    }

    /// Frees the slot. Called by its owner alone, once.
    fn give_up(&self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        self.settle(version, 0, 0, std::ptr::null_mut());
    }

    /// Writes the fields of a slot whose version was made odd, and makes it even.
    fn settle(&self, version: usize, start: usize, end: usize, health: *mut Health) {
        // Release: pairs with the acquire fence in `find`; who sees a new field sees the odd version.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.process.store(process_id(), Ordering::Relaxed);
        self.health.store(health, Ordering::Relaxed);
        // Release: pairs with the acquire loads in `find` and `try_take`; who sees the version sees its fields.
        self.version.store(version + 2, Ordering::Release);
    }

    fn find(&self, at: usize, process: u32) -> Option<*const Health> {
        let version = self.version.load(Ordering::Acquire);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        let (owner, health) = (self.process.load(Ordering::Relaxed), self.health.load(Ordering::Relaxed));
        // Acquire: pairs with the release fence in `settle`.
        fence(Ordering::Acquire);
        let still = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (still && owner == process && (start..end).contains(&at)).then_some(health.cast_const())
    }
}

#[cfg(test)]
mod tests;
