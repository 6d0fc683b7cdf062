//! Finding the lives of each log and what they hold. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::engine::scratch::SCRATCH_FILE;
use crate::error::{Damage, DamageKind, Error, Result};
use crate::format::fields::DedupTrait;
use crate::format::meta::ListedLife;
use crate::format::segment::{BadPrelude, LifeHeader, PRELUDE_BYTES, file_name, parse_file_name};
use crate::log::scan::{Flaw, Scan};
use crate::sabotage::{Bug, on};
use crate::storage::{File, Storage, is_read_error};
use crate::types::{LogId, QueueId, Seq, Timestamp};

use super::draft::{Draft, proven_durable, read_footer};
use super::holds::Known;
use super::tail::map_tail;

/// A life found on disk.
pub(crate) struct FoundLife {
    pub header: LifeHeader,
    pub file: Arc<dyn File>,
    pub file_bytes: u64,
    /// Sealed lives are as they will stay; open ones have a scan that says what to mend.
    pub scan: Option<Scan>,
    pub end: u32,
    pub records: u32,
    pub tasks: u32,
    pub seek: Vec<(u32, u32)>,
    /// Indices (first, last) of no task, of a life that was sealed since the checkpoint and has such.
    pub voids: Vec<(u32, u32)>,
    /// The checkpoint that was used lists it.
    pub listed: bool,
    /// A record may have a dedup id; and those ids that the checkpoint may not know, by record index.
    pub has_ids: bool,
    pub ids: Vec<(u32, DedupTrait)>,
}

impl FoundLife {
    pub(crate) fn name(&self) -> String {
        file_name(self.header.file)
    }

    /// Indices (first, last) at which no task survived.
    pub(super) fn lost(&self) -> impl Iterator<Item = (u32, u32)> {
        let scan = self.scan.iter();
        let flaws = scan.clone().flat_map(|scan| &scan.flaws).filter_map(Flaw::lost);
        flaws.chain(scan.flat_map(|scan| &scan.gaps).chain(&self.voids).copied())
    }

    /// A sequence of this life.
    pub(crate) fn seq(&self, index: u32) -> Seq {
        Seq(self.header.base + u64::from(index))
    }
}

/// The lives of one log, in order of their bases, and what was found wrong.
#[derive(Default)]
pub(crate) struct FoundLog {
    pub lives: Vec<FoundLife>,
    /// Highest base that was seen, those of lives that don't count included: a new life must not look like their
    /// successor's successor should their files turn up again.
    pub highest_base: u64,
}

/// Everything the search for lives needs and gives.
pub(crate) struct Search<'a> {
    pub storage: &'a dyn Storage,
    pub queue: Option<QueueId>,
    pub listed: &'a [ListedLife],
    /// Highest base of each log at the checkpoint: an unlisted life counts only if it is newer.
    pub last_bases: &'a BTreeMap<u16, u64>,
    /// Lives that the newest checkpoint knew may be gone although this (older) one lists none of them.
    pub chain_may_miss: bool,
    /// The life of the journal in which replay begins.
    pub journal_base: u64,
    /// No task that was appended since the checkpoint is larger.
    pub task_bytes_max: u64,
    pub damage: &'a mut Vec<Damage>,
    /// Lives that can't be read now.
    pub unread: Vec<ListedLife>,
    /// Bases of listed lives of which nothing was durable, and that did not survive.
    pub vanished: BTreeSet<u64>,
}

/// What the search found.
pub(crate) struct FoundLives {
    pub logs: BTreeMap<u16, FoundLog>,
    /// The highest file number in use.
    pub highest_file: u32,
    pub strays: Strays,
    /// Lives that can't be read now and may be again after the next open: nothing of them is changed or forgotten.
    pub unread: Vec<ListedLife>,
}

/// Files that hold no life that counts, and that are certainly ours: blank, or of a life that is over.
#[derive(Default)]
pub(crate) struct Strays {
    /// No checkpoint that might be used lists them: they may go once the first checkpoint of this open is durable.
    pub free: Vec<u32>,
    /// The checkpoint that this open began with lists them, and it stays usable until the next but one is durable.
    pub listed: Vec<u32>,
    /// A process died with a name for its scratch file.
    pub scratch: bool,
}

impl Strays {
    pub(super) fn push(&mut self, file: u32, is_listed: bool) {
        let strays = if is_listed { &mut self.listed } else { &mut self.free };
        strays.push(file);
    }

    /// All of them.
    pub(crate) fn files(&self) -> impl Iterator<Item = u32> {
        self.free.iter().chain(&self.listed).copied()
    }
}

/// A file whose prelude was read.
pub(super) struct Candidate {
    pub header: LifeHeader,
    pub file: Arc<dyn File>,
    pub file_bytes: u64,
    pub listed: Option<ListedLife>,
}

/// Finds all lives.
///
/// Errors: `Version`; `Io` if the directory can't be listed, if the system refuses a file for want of something that is
/// no fault of the file's, or if a file of the journal can't be read, or one that the checkpoint does not know: it may hold
/// tasks.
pub(crate) fn find(mut search: Search<'_>) -> Result<FoundLives> {
    let names = search.storage.list().map_err(|error| Error::io(".", "list", error))?;
    let mut listed: BTreeMap<u32, ListedLife> = search.listed.iter().map(|life| (life.file, life.clone())).collect();
    let mut candidates: BTreeMap<u16, Vec<Candidate>> = BTreeMap::new();
    let scratch = names.iter().any(|name| name == SCRATCH_FILE);
    let (mut highest_file, mut strays) = (0, Strays { scratch, ..Strays::default() });
    for number in names.iter().filter_map(|name| parse_file_name(name)) {
        highest_file = highest_file.max(number);
        let own = listed.remove(&number);
        let is_listed = own.is_some();
        match search.look_at(number, own)? {
            Seen::Life(candidate) => candidates.entry(candidate.header.log.0).or_default().push(*candidate),
            Seen::Stray => strays.push(number, is_listed),
            Seen::Other => {}
        }
    }
    for life in listed.into_values() {
        highest_file = highest_file.max(life.file);
        search.missing(&life, "the file is not there");
    }
    let mut logs = BTreeMap::new();
    for (log, lives) in candidates {
        let lives = supersede(lives, &mut strays);
        logs.insert(log, search.read_log(LogId(log), lives, &mut strays)?);
    }
    Ok(FoundLives { logs, highest_file, strays, unread: search.unread })
}

/// Without a checkpoint there may be a cold life beside the one that it was made of, which may be in part overwritten by the
/// next life of its file. The cold one counts if it is whole; of two the younger, which is a part of the other. Gives the
/// lives in the order of their bases.
fn supersede(mut lives: Vec<Candidate>, strays: &mut Strays) -> Vec<Candidate> {
    lives.sort_by_key(|life| (life.header.base, life.header.cold, life.header.file));
    let mut kept: Vec<Candidate> = Vec::new();
    for life in lives {
        if life.header.cold && life.listed.is_none() && read_footer(&life).is_none() {
            strays.push(life.header.file, false);
            continue;
        }
        if let Some(older) = kept.pop_if(|last| last.header.base == life.header.base) {
            strays.push(older.header.file, false);
        }
        kept.push(life);
    }
    kept
}

/// What a segment file turned out to be.
enum Seen {
    Life(Box<Candidate>),
    Stray,
    /// Unreadable, damaged or foreign: left alone.
    Other,
}

impl Search<'_> {
    /// Reads a file's prelude and tells whether it is a life that counts.
    fn look_at(&mut self, number: u32, listed: Option<ListedLife>) -> Result<Seen> {
        let name = file_name(number);
        let (file, file_bytes, prelude) = match read_prelude(self.storage, &name) {
            Ok(read) => read,
            Err(error) => return self.unreadable(&name, listed, error).map(|()| Seen::Other),
        };
        let decoded = match LifeHeader::decode(&prelude) {
            Err(BadPrelude::Version(found)) => {
                let supported = crate::format::FORMAT_VERSION;
                return Err(Error::Version { file: name, found, supported });
            }
            decoded => decoded.and_then(|header| (header.file == number).then_some(header).ok_or(BadPrelude::Invalid)),
        };
        let is_ours = |header: &LifeHeader| self.queue.is_none_or(|queue| queue == header.queue);
        let is_stray = match &decoded {
            Ok(header) => is_ours(header),
            Err(bad) => *bad == BadPrelude::Blank,
        };
        let ours = decoded.ok().filter(is_ours);
        Ok(match self.judge(listed, ours, file_bytes) {
            Some((header, listed)) => Seen::Life(Box::new(Candidate { header, file, file_bytes, listed })),
            None if is_stray => Seen::Stray,
            None => Seen::Other,
        })
    }

    /// A file that can't be opened or read. One that the checkpoint lists is kept for better times, if the fault is the
    /// file's own. Going on without a part of the journal that is there and can't be read just now would forget acks and
    /// groups for good, although the next look may well succeed.
    fn unreadable(&mut self, name: &str, listed: Option<ListedLife>, error: io::Error) -> Result<()> {
        let bears = |life: &ListedLife| is_damage(&error) && (life.log.lane().is_some() || !is_read_error(&error));
        let Some(life) = listed.filter(bears) else { return Err(Error::io(name, "read", error)) };
        let means = match life.log.lane() {
            Some(_) => "its tasks wait for an open that can read it",
            None => "acks may be missing, so tasks may come again",
        };
        self.lost_file(&life, DamageKind::Unreadable, &format!("{error}; {means}"));
        self.unread.push(life);
        Ok(())
    }

    /// Whether a prelude is that of a life that counts, and of which.
    fn judge(
        &mut self,
        listed: Option<ListedLife>,
        ours: Option<LifeHeader>,
        file_bytes: u64,
    ) -> Option<(LifeHeader, Option<ListedLife>)> {
        match (listed, ours) {
            (Some(life), Some(header)) if header.base == life.base && header.salt == life.salt => {
                Some((header, Some(life)))
            }
            // Of a life of which nothing was durable not even the prelude need have survived.
            (Some(life), None) if life.offset == 0 => {
                self.vanished.insert(life.base);
                None
            }
            // What the prelude says the checkpoint knows as well, but for what only a scan of other files asks for.
            (Some(life), None) => {
                let what = "the segment's first sector does not verify; the checkpoint knows what it said";
                self.damaged_prelude(&life, what);
                Some((listed_header(self.queue?, &life, file_bytes), Some(life)))
            }
            // Recycled since, which an older checkpoint can't know.
            (Some(life), Some(header)) => {
                if life.offset > 0 {
                    self.missing(&life, "the file belongs to another life");
                } else {
                    self.vanished.insert(life.base);
                }
                self.is_newer(&header).then_some((header, None))
            }
            (None, Some(header)) => self.is_newer(&header).then_some((header, None)),
            (None, None) => None,
        }
    }

    /// True if the life was attached after the checkpoint. A cold one is never attached: it has the place of another by a
    /// checkpoint alone, and where there is none, see `supersede`.
    fn is_newer(&self, header: &LifeHeader) -> bool {
        let counts = !header.cold || self.queue.is_none();
        counts && header.base > self.last_bases.get(&header.log.0).copied().unwrap_or(0)
    }

    /// Scans what is not known durable in the lives of one log, and cuts where the log ends.
    fn read_log(&mut self, log: LogId, candidates: Vec<Candidate>, strays: &mut Strays) -> Result<FoundLog> {
        let mut drafts = Vec::new();
        for candidate in candidates {
            drafts.extend(self.load(candidate)?);
        }
        let proven = proven_durable(&drafts);
        let durable = proven.furthest();
        let mut found = FoundLog::default();
        let mut previous = self.last_bases.get(&log.0).copied().unwrap_or(0);
        let count = drafts.len();
        let says_end = |at: usize| drafts.get(at + 1).and_then(|next| next.says_end_of(drafts.get(at)));
        let listed_end = |at: usize| drafts.get(at).and_then(Draft::listed_end);
        let ends: Vec<Option<u32>> = (0..count).map(|at| says_end(at).or_else(|| listed_end(at))).collect();
        let last_listed = drafts.iter().rposition(Draft::is_listed_durable);
        let mut cut = false;
        for (at, (draft, end)) in drafts.into_iter().zip(ends).enumerate() {
            let header = &draft.candidate.header;
            let unlisted = draft.candidate.listed.is_none();
            if self.chain_may_miss && log == LogId::JOURNAL && header.base < self.journal_base {
                // The checkpoint before this one needed it. A newer one may have let it go, and its file to another.
                previous = header.base.max(previous);
                found.highest_base = previous;
                strays.push(header.file, !unlisted);
                continue;
            }
            let unproven = draft.candidate.listed.as_ref().is_none_or(|life| life.offset == 0 && !life.sealed);
            let is_known = |base: u64| base == previous || self.unread.iter().any(|life| life.base == base);
            // Whatever lies behind a life that vanished was never durable either, listed or not.
            let vanished = unproven && self.vanished.contains(&header.predecessor);
            let follows = self.chain_may_miss || (!vanished && (!unlisted || is_known(header.predecessor)));
            previous = header.base.max(previous);
            found.highest_base = previous;
            if !follows && !cut {
                cut = self.broken_chain(&draft, durable);
            }
            if cut && unproven {
                strays.push(header.file, !unlisted);
                continue;
            }
            // A checkpoint that lists a later life as durable and not all of this one could not read it: whatever proves
            // the later one says nothing of it.
            let was_unread = !draft.is_sealed() && last_listed.is_some_and(|last| at < last);
            let known = if was_unread { draft.listed_place() } else { durable };
            // A newer checkpoint may have given it up, because all of it was settled: what does not prove itself was never
            // synced then, whatever later lives say, and what verifies of it is kept. (Of the journal all was durable before a
            // checkpoint gave anything of it up.)
            let may_be_gone = self.chain_may_miss && log.lane().is_some() && (unproven || !draft.is_sealed());
            let is_doubted = may_be_gone && durable.base > header.base;
            let own = (is_doubted && !on(Bug::ProvenByLaterLives)).then(|| proven.of(header.base));
            let life = self.settle(draft, Known { durable: known, own, end })?;
            // The log ends where a life that is not wholly durable ends before it was left for the next one. Were the next
            // one kept, its own end would prove this one durable, should this recovery not come to its end.
            // But what a newer checkpoint may have given up ends nothing: what lies behind it may be durable all the same.
            if !cut
                && !self.chain_may_miss
                && durable.base <= life.header.base
                && end.is_some_and(|said| life.end < said)
            {
                cut = true;
                self.cut_behind(&life);
            }
            found.lives.push(life);
        }
        Ok(found)
    }

    /// Maps what must be scanned of a life, or reads its footer. `None` if it can't be read now.
    fn load(&mut self, candidate: Candidate) -> Result<Option<Draft>> {
        let is_sealed = candidate.listed.as_ref().is_some_and(|listed| listed.sealed);
        let footer = if is_sealed { None } else { read_footer(&candidate) };
        if is_sealed || footer.is_some() {
            return Ok(Some(Draft { candidate, footer, bytes: None }));
        }
        match map_tail(&candidate, self.task_bytes_max) {
            Ok(region) => Ok(Some(Draft { candidate, footer: None, bytes: Some(region) })),
            Err(error) => {
                let Candidate { header, listed, .. } = candidate;
                let life = listed.unwrap_or_else(|| ListedLife::unproven(&header));
                self.unreadable(&file_name(header.file), Some(life), error).map(|()| None)
            }
        }
    }
}

/// Opens a segment file and reads its first sector; what is shorter reads as zeros behind its end.
fn read_prelude(storage: &dyn Storage, name: &str) -> io::Result<(Arc<dyn File>, u64, [u8; PRELUDE_BYTES])> {
    let file = storage.open(name)?;
    let file_bytes = file.len()?;
    let mut prelude = [0; PRELUDE_BYTES];
    let there = usize::try_from(file_bytes).unwrap_or(PRELUDE_BYTES).min(PRELUDE_BYTES);
    file.read_at(0, prelude.get_mut(..there).unwrap_or_default())?;
    Ok((file, file_bytes, prelude))
}

/// True if it is the file that is at fault, and not a limit, a right or the memory of this process: those are to be
/// mended before anything is opened.
fn is_damage(error: &io::Error) -> bool {
    const ELOOP: i32 = 40;
    is_read_error(error) || error.raw_os_error().is_none_or(|code| code == ELOOP)
}

/// What the prelude of a listed life said, as far as anything depends on it.
fn listed_header(queue: QueueId, life: &ListedLife, file_bytes: u64) -> LifeHeader {
    LifeHeader {
        queue,
        file: life.file,
        size: file_bytes,
        log: life.log,
        base: life.base,
        block: life.block,
        salt: life.salt,
        predecessor: 0,
        predecessor_end: 0,
        created: Timestamp(0),
        cold: life.cold,
    }
}
