//! Journal entries: what changed in the delivery state. Several of them are the payload of one record of kind
//! *entry*.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | tag |
//! | 1 | 4 | bytes of the body |
//! | 5 | | body |
//!
//! | tag | body |
//! |---|---|
//! | 1 reserved | group 4, attempt 4, runs |
//! | 2 acked | group 4, runs |
//! | 3 released | group 4, attempts 4, runs: due at once with so many attempts, dead letters too |
//! | 4 retry | group 4, lane 1, sequence 8, attempts 4, due 8, delay 8, reason |
//! | 5 dead | group 4, lane 1, sequence 8, attempts 4, cause 1 (1 attempts used up, 2 rejected, 3 expired, 4 parked, 5 retention), time 8, payload bytes 4, reason |
//! | 6 group created | group 4, name, then starts up to the end: lane 1, sequence 8 each |
//! | 7 started | group 4, lane 1, sequence 8: of what comes before it the group has nothing to do any more |
//! | 13 paused | number 4, of a lane (0) or a group (1): 1 |
//! | 14 resumed | the same |
//! | 16 decision | named records up to the end: lane 1, base of their life 8, first sequence 8, count 4 each |
//! | 17 room | any bytes, which mean nothing |
//! | 20 group removed | group 4: nothing that any entry says of it counts any more |
//! | 21 group retains | group 4, what is beyond 1 (0 reported, 1 dropped, 2 dead letters), tasks 8, bytes 8, age in ms 8; 0 is no bound |
//! | 22 cancelled | runs: acked in every group there is, and in every one that is created later |
//!
//! A decision is the first entry of its record, and what else the record says counts only if the decision does. Room is
//! what a record has left over whose size was fixed before it was known what it says.
//!
//! A run is lane 1, first sequence 8, count 4; runs go up to the end of the body. A text is its length (2
//! bytes) and UTF-8. An entry is valid if and only if its record is, its tag is known, and its body has exactly
//! these fields. Every entry sets something absolutely, so that applying it twice is applying it once.

use crate::types::{Beyond, LaneId, Retention, Seq, Timestamp};

use super::wire::{Reader, Writer};

/// Longest reason that is kept, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 200;
const HEAD_BYTES: usize = 5;
const RUN_BYTES: usize = 13;
const START_BYTES: usize = 9;
const NAMED_BYTES: usize = 21;

const TAG_RESERVED: u8 = 1;
const TAG_ACKED: u8 = 2;
const TAG_RELEASED: u8 = 3;
const TAG_RETRY: u8 = 4;
const TAG_DEAD: u8 = 5;
const TAG_GROUP_CREATED: u8 = 6;
const TAG_STARTED: u8 = 7;
const TAG_PAUSED: u8 = 13;
const TAG_RESUMED: u8 = 14;

/// What can be paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pausable {
    Lane(LaneId),
    Group(u32),
}
const TAG_DECISION: u8 = 16;
const TAG_ROOM: u8 = 17;
const TAG_GROUP_REMOVED: u8 = 20;
const TAG_GROUP_RETAINS: u8 = 21;
const TAG_CANCELLED: u8 = 22;

/// Consecutive sequences of one life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub lane: LaneId,
    pub first: Seq,
    pub count: u32,
}

/// Why a task is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeadCause {
    /// It used up its attempts.
    MaxAttempts,
    /// A consumer rejected it.
    Rejected,
    /// Nobody wanted it done any more when its turn came.
    Expired,
    /// Somebody set it aside by hand.
    Parked,
    /// The group had more left to do than its [`Retention`] allows.
    Retention,
}

impl DeadCause {
    pub(crate) fn code(self) -> u8 {
        match self {
            DeadCause::MaxAttempts => 1,
            DeadCause::Rejected => 2,
            DeadCause::Expired => 3,
            DeadCause::Parked => 4,
            DeadCause::Retention => 5,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(DeadCause::MaxAttempts),
            2 => Some(DeadCause::Rejected),
            3 => Some(DeadCause::Expired),
            4 => Some(DeadCause::Parked),
            5 => Some(DeadCause::Retention),
            _ => None,
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) enum Entry<'a> {
    /// An attempt with this number began.
    Reserved {
        group: u32,
        attempt: u32,
        runs: Runs<'a>,
    },
    Acked {
        group: u32,
        runs: Runs<'a>,
    },
    /// Due at once, whatever it was before: an attempt never began, or a dead letter comes back. `attempts` is the count
    /// that stands.
    Released {
        group: u32,
        attempts: u32,
        runs: Runs<'a>,
    },
    Retry {
        group: u32,
        lane: LaneId,
        seq: Seq,
        attempts: u32,
        due: Timestamp,
        delay_ms: u64,
        reason: &'a str,
    },
    Dead {
        group: u32,
        lane: LaneId,
        seq: Seq,
        attempts: u32,
        cause: DeadCause,
        at: Timestamp,
        bytes: u32,
        reason: &'a str,
    },
    /// The group has nothing to do with what comes before `seq` in the lane.
    Started {
        group: u32,
        lane: LaneId,
        seq: Seq,
    },
    GroupCreated {
        group: u32,
        name: &'a str,
        starts: Starts<'a>,
    },
    GroupRemoved {
        group: u32,
    },
    Retains {
        group: u32,
        retention: Retention,
    },
    Paused(Pausable),
    Resumed(Pausable),
    /// A transaction is true, if all of these records are there.
    Decision {
        named: NamedRuns<'a>,
    },
    /// Nothing.
    Room,
    /// Settled in every group, those to come included.
    Cancelled {
        runs: Runs<'a>,
    },
}

/// Records of a transaction, in a row in one life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    pub lane: LaneId,
    /// Base of the life that they lie in.
    pub base: u64,
    pub first: Seq,
    pub count: u32,
}

/// An entry that is malformed; what follows it in the same record can't be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadEntry;

/// Runs as they lie in the body.
#[derive(Clone, Debug)]
pub(crate) struct Runs<'a>(&'a [u8]);

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let (item, rest) = self.0.split_first_chunk::<RUN_BYTES>()?;
        self.0 = rest;
        let mut from = Reader::new(item);
        Some(Run { lane: LaneId(from.u8()?), first: Seq(from.u64()?), count: from.u32()? })
    }
}

/// First sequences of a new group as they lie in the body.
#[derive(Clone, Debug)]
pub(crate) struct Starts<'a>(&'a [u8]);

impl Iterator for Starts<'_> {
    type Item = (LaneId, Seq);

    fn next(&mut self) -> Option<(LaneId, Seq)> {
        let (item, rest) = self.0.split_first_chunk::<START_BYTES>()?;
        self.0 = rest;
        let mut from = Reader::new(item);
        Some((LaneId(from.u8()?), Seq(from.u64()?)))
    }
}

/// Records of a transaction as they lie in the body.
#[derive(Clone, Debug)]
pub(crate) struct NamedRuns<'a>(&'a [u8]);

impl Iterator for NamedRuns<'_> {
    type Item = Named;

    fn next(&mut self) -> Option<Named> {
        let (item, rest) = self.0.split_first_chunk::<NAMED_BYTES>()?;
        self.0 = rest;
        let mut from = Reader::new(item);
        Some(Named { lane: LaneId(from.u8()?), base: from.u64()?, first: Seq(from.u64()?), count: from.u32()? })
    }
}

/// Where a task stands in a group: what a retry and a dead letter say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of {
    pub group: u32,
    pub lane: LaneId,
    pub seq: Seq,
    pub attempts: u32,
}

pub(crate) fn put_reserved(out: &mut Vec<u8>, group: u32, attempt: u32, runs: &[Run]) {
    put(out, TAG_RESERVED, |body| put_runs(body.u32(group).u32(attempt), runs));
}

pub(crate) fn put_acked(out: &mut Vec<u8>, group: u32, runs: &[Run]) {
    put(out, TAG_ACKED, |body| put_runs(body.u32(group), runs));
}

pub(crate) fn put_cancelled(out: &mut Vec<u8>, runs: &[Run]) {
    put(out, TAG_CANCELLED, |body| put_runs(body, runs));
}

pub(crate) fn put_released(out: &mut Vec<u8>, group: u32, attempts: u32, runs: &[Run]) {
    put(out, TAG_RELEASED, |body| put_runs(body.u32(group).u32(attempts), runs));
}

pub(crate) fn put_retry(out: &mut Vec<u8>, of: Of, due: Timestamp, delay_ms: u64, reason: &str) {
    put(out, TAG_RETRY, |body| {
        body.u32(of.group).u8(of.lane.0).u64(of.seq.0).u32(of.attempts);
        body.u64(due.0).u64(delay_ms).text(cut_reason(reason));
    });
}

pub(crate) fn put_dead(out: &mut Vec<u8>, of: Of, cause: DeadCause, at: Timestamp, bytes: u32, reason: &str) {
    put(out, TAG_DEAD, |body| {
        body.u32(of.group).u8(of.lane.0).u64(of.seq.0).u32(of.attempts);
        body.u8(cause.code()).u64(at.0).u32(bytes).text(cut_reason(reason));
    });
}

pub(crate) fn put_started(out: &mut Vec<u8>, group: u32, lane: LaneId, seq: Seq) {
    put(out, TAG_STARTED, |body| {
        body.u32(group).u8(lane.0).u64(seq.0);
    });
}

pub(crate) fn put_group_created(out: &mut Vec<u8>, group: u32, name: &str, starts: &[(LaneId, Seq)]) {
    put(out, TAG_GROUP_CREATED, |body| {
        body.u32(group).text(name);
        for (lane, seq) in starts {
            body.u8(lane.0).u64(seq.0);
        }
    });
}

/// The group is gone, and no other one ever has its number.
pub(crate) fn put_group_removed(out: &mut Vec<u8>, group: u32) {
    put(out, TAG_GROUP_REMOVED, |body| {
        body.u32(group);
    });
}

/// How much the group may have left to do from here on.
pub(crate) fn put_group_retains(out: &mut Vec<u8>, group: u32, retention: &Retention) {
    put(out, TAG_GROUP_RETAINS, |body| put_retention(body.u32(group), retention));
}

pub(super) fn put_retention(out: &mut Writer, retention: &Retention) {
    out.u8(retention.beyond.code()).u64(retention.tasks).u64(retention.bytes).u64(retention.age_ms);
}

pub(super) fn take_retention(from: &mut Reader<'_>) -> Option<Retention> {
    let beyond = Beyond::from_code(from.u8()?)?;
    Some(Retention { tasks: from.u64()?, bytes: from.u64()?, age_ms: from.u64()?, beyond })
}

/// Nothing of it is handed out from here on.
pub(crate) fn put_paused(out: &mut Vec<u8>, what: Pausable) {
    put(out, TAG_PAUSED, |body| put_pausable(body, what));
}

pub(crate) fn put_resumed(out: &mut Vec<u8>, what: Pausable) {
    put(out, TAG_RESUMED, |body| put_pausable(body, what));
}

fn put_pausable(body: &mut Writer, what: Pausable) {
    match what {
        Pausable::Lane(lane) => body.u32(u32::from(lane.0)).u8(0),
        Pausable::Group(group) => body.u32(group).u8(1),
    };
}

fn pausable(number: u32, kind: u8) -> Option<Pausable> {
    match kind {
        0 => u8::try_from(number).ok().map(|lane| Pausable::Lane(LaneId(lane))),
        1 => Some(Pausable::Group(number)),
        _ => None,
    }
}

pub(crate) fn put_decision(out: &mut Vec<u8>, named: &[Named]) {
    put(out, TAG_DECISION, |body| {
        for run in named {
            body.u8(run.lane.0).u64(run.base).u64(run.first.0).u32(run.count);
        }
    });
}

/// Fills `out` up to `bytes`. What is left must be nothing, or have room for an entry: see [`ROOM_BYTES_MIN`].
pub(crate) fn put_room(out: &mut Vec<u8>, bytes: usize) {
    if let Some(left) = bytes.checked_sub(out.len() + ROOM_BYTES_MIN) {
        put(out, TAG_ROOM, |body| {
            body.raw(&vec![0; left]);
        });
    }
}

/// Bytes of the smallest entry of room.
pub(crate) const ROOM_BYTES_MIN: usize = HEAD_BYTES;

/// Bytes of a decision that names so many runs.
pub(crate) fn decision_bytes(named: usize) -> usize {
    HEAD_BYTES + NAMED_BYTES * named
}

/// The most bytes of the entry that one settle makes, with its reason.
pub(crate) fn settle_bytes_max(reason: &str) -> usize {
    HEAD_BYTES + SETTLED_BYTES_MAX + cut_reason(reason).len()
}

/// More than the longest body of a settle has without its reason, which is that of a retry.
const SETTLED_BYTES_MAX: usize = 64;
const _: () = assert!(SETTLED_BYTES_MAX > 4 + 1 + 8 + 4 + 8 + 8 + 2, "a retry fits");

/// The records that a payload's decision names, if it has one.
pub(crate) fn decision(payload: &[u8]) -> Option<NamedRuns<'_>> {
    match entries(payload).next()? {
        Ok(Entry::Decision { named }) => Some(named),
        _ => None,
    }
}

/// A reason cut to what is kept, at a character.
pub(crate) fn cut_reason(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default()
}

/// The entries of a payload, in order. Ends after the first malformed one.
pub(crate) fn entries(payload: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, BadEntry>> {
    let mut from = Reader::new(payload);
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || from.left() == 0 {
            return None;
        }
        let entry = take(&mut from).ok_or(BadEntry);
        broken = entry.is_err();
        Some(entry)
    })
}

fn put(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Writer)) {
    let start = out.len();
    let mut body = Writer::over(std::mem::take(out));
    body.u8(tag).u32(0);
    fill(&mut body);
    *out = body.into_bytes();
    let length = u32::try_from(out.len() - start - HEAD_BYTES).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start + 1..start + HEAD_BYTES) {
        slot.copy_from_slice(&length.to_le_bytes());
    }
}

fn put_runs(body: &mut Writer, runs: &[Run]) {
    for run in runs {
        body.u8(run.lane.0).u64(run.first.0).u32(run.count);
    }
}

fn take<'a>(from: &mut Reader<'a>) -> Option<Entry<'a>> {
    let (tag, length) = (from.u8()?, from.u32()?);
    let mut body = Reader::new(from.bytes(usize::try_from(length).ok()?)?);
    match tag {
        TAG_DECISION => return items(&mut body, NAMED_BYTES).map(|named| Entry::Decision { named: NamedRuns(named) }),
        TAG_ROOM => return Some(Entry::Room),
        TAG_CANCELLED => return items(&mut body, RUN_BYTES).map(|runs| Entry::Cancelled { runs: Runs(runs) }),
        _ => {}
    }
    let group = body.u32()?;
    let entry = match tag {
        TAG_RESERVED => Entry::Reserved { group, attempt: body.u32()?, runs: Runs(items(&mut body, RUN_BYTES)?) },
        TAG_ACKED => Entry::Acked { group, runs: Runs(items(&mut body, RUN_BYTES)?) },
        TAG_RELEASED => Entry::Released { group, attempts: body.u32()?, runs: Runs(items(&mut body, RUN_BYTES)?) },
        TAG_RETRY => Entry::Retry {
            group,
            lane: LaneId(body.u8()?),
            seq: Seq(body.u64()?),
            attempts: body.u32()?,
            due: Timestamp(body.u64()?),
            delay_ms: body.u64()?,
            reason: body.text()?,
        },
        TAG_DEAD => Entry::Dead {
            group,
            lane: LaneId(body.u8()?),
            seq: Seq(body.u64()?),
            attempts: body.u32()?,
            cause: DeadCause::from_code(body.u8()?)?,
            at: Timestamp(body.u64()?),
            bytes: body.u32()?,
            reason: body.text()?,
        },
        TAG_STARTED => Entry::Started { group, lane: LaneId(body.u8()?), seq: Seq(body.u64()?) },
        TAG_GROUP_CREATED => {
            Entry::GroupCreated { group, name: body.text()?, starts: Starts(items(&mut body, START_BYTES)?) }
        }
        TAG_GROUP_REMOVED => Entry::GroupRemoved { group },
        TAG_GROUP_RETAINS => Entry::Retains { group, retention: take_retention(&mut body)? },
        TAG_PAUSED => Entry::Paused(pausable(group, body.u8()?)?),
        TAG_RESUMED => Entry::Resumed(pausable(group, body.u8()?)?),
        _ => return None,
    };
    (body.left() == 0).then_some(entry)
}

/// The rest of the body, if it is whole items.
fn items<'a>(body: &mut Reader<'a>, item_bytes: usize) -> Option<&'a [u8]> {
    let left = body.left();
    left.is_multiple_of(item_bytes).then(|| body.bytes(left)).flatten()
}
