//! Sticky mode: a key's tasks go to one worker, as long as that one lives.
//!
//! Keys fall into 256 buckets by their hash. A bucket belongs to the live worker with the highest score for it: rendezvous
//! hashing (D. Thaler and C. Ravishankar, *Using Name-Based Mappings to Increase Hit Rates*, 1998). So a worker that joins
//! takes its share from all others, and one that leaves gives its own to all others; no other bucket moves.
//!
//! # What holds
//!
//! - A bucket has one *owner*. It goes to the one that it should belong to when none of its tasks is on loan: till then
//!   nobody is handed a task of it. So no two workers ever have a key, or a bucket, at once.
//! - A task that is met by a reserve of somebody else is passed over ([`super::passed`]): a bit, and here, for each bucket and
//!   lane, a place that none of them lies before. Its owner's reserves walk over the bits from there; that place only moves
//!   forward, and all buckets of a worker move theirs together, so that each worker looks at each bit once.
//! - A task that is due again waits for its owner in the bucket's own list.

use std::collections::BTreeMap;

use crate::sabotage::{Bug, on};
use crate::types::{LaneId, Seq, mix};

use super::group::Group;
use super::keys::{KeyHash, Keys, Spot};
use super::meet::Asked;
use super::passed::{Found, Pick};
use super::reserve::{Candidate, Granted, Take};
use super::workers::WorkerId;

/// How many buckets there are.
pub(crate) const BUCKETS: usize = 256;

/// The keys of one bucket.
#[derive(Default)]
struct Bucket {
    /// Who is handed its tasks, unless it is about to move.
    owner: Option<WorkerId>,
    /// Whom it should belong to.
    heir: Option<WorkerId>,
    /// Its tasks on loan.
    in_flight: u32,
    /// Slots of its tasks that are due again.
    due: BTreeMap<(LaneId, Seq), u32>,
    /// For each lane in which tasks of it were passed over: none of them lies before.
    waiting: Vec<(LaneId, Spot)>,
}

impl Bucket {
    fn belongs_to(&self, worker: Option<WorkerId>) -> bool {
        worker.is_some() && self.owner == worker && self.heir == worker
    }

    fn waiting_in(&self, lane: LaneId) -> Option<Spot> {
        self.waiting.iter().find(|(own, _)| *own == lane).map(|(_, from)| *from)
    }

    /// True if it got another owner.
    fn move_on(&mut self) -> bool {
        let moves = self.owner != self.heir && (self.in_flight == 0 || on(Bug::BucketHandedEarly));
        if moves {
            self.owner = self.heir;
        }
        moves
    }
}

/// All buckets of a group.
pub(super) struct Sticky {
    buckets: Vec<Bucket>,
    /// Entries in all lists of what is due, and of what waits: as a rule there are none, and nobody needs to look.
    due: usize,
    waiting: usize,
    /// A task became deliverable to somebody since it was last asked.
    woken: bool,
}

/// The bucket of a key.
pub(crate) fn bucket_of(key: KeyHash) -> usize {
    usize::try_from(key.0 >> 56).unwrap_or(0) % BUCKETS
}

impl Sticky {
    pub(super) fn new() -> Self {
        Sticky { buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(), due: 0, waiting: 0, woken: false }
    }

    fn bucket(&self, key: KeyHash) -> Option<&Bucket> {
        self.buckets.get(bucket_of(key))
    }

    fn bucket_mut(&mut self, key: KeyHash) -> Option<&mut Bucket> {
        self.buckets.get_mut(bucket_of(key))
    }

    fn of(&self, worker: Option<WorkerId>) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().filter(move |bucket| bucket.belongs_to(worker))
    }

    fn of_mut(&mut self, worker: Option<WorkerId>) -> impl Iterator<Item = &mut Bucket> {
        self.buckets.iter_mut().filter(move |bucket| bucket.belongs_to(worker))
    }

    /// Gives every bucket to whom it should belong among the live workers, at once or when its loans are over.
    pub(super) fn share(&mut self, workers: &[WorkerId]) {
        for (number, bucket) in (0..).zip(&mut self.buckets) {
            bucket.heir = workers.iter().copied().max_by_key(|worker| (score(number, *worker), *worker));
            bucket.move_on();
        }
        self.woken = true;
    }

    /// How many buckets are the worker's.
    pub(super) fn count(&self, worker: WorkerId) -> usize {
        self.of(Some(worker)).count()
    }

    /// True if the key's bucket is nobody's.
    pub(super) fn is_nobodys(&self, key: KeyHash) -> bool {
        self.bucket(key).is_some_and(|bucket| bucket.owner.is_none())
    }

    /// True if the worker may be handed tasks of the key.
    pub(super) fn may(&self, worker: Option<WorkerId>, key: KeyHash) -> bool {
        self.bucket(key).is_some_and(|bucket| bucket.belongs_to(worker))
    }

    /// A task of the key is on loan.
    pub(super) fn lent(&mut self, key: KeyHash) {
        if let Some(bucket) = self.bucket_mut(key) {
            bucket.in_flight += 1;
        }
    }

    /// A loan of the key is over.
    pub(super) fn returned(&mut self, key: KeyHash) {
        if let Some(bucket) = self.bucket_mut(key) {
            bucket.in_flight = bucket.in_flight.saturating_sub(1);
            self.woken |= bucket.move_on();
        }
    }

    /// A task of the key is due again.
    pub(super) fn put_due(&mut self, key: KeyHash, lane: LaneId, seq: Seq, slot: u32) {
        self.woken = true;
        let before = self.bucket_mut(key).and_then(|bucket| bucket.due.insert((lane, seq), slot));
        self.due += usize::from(before.is_none());
    }

    /// The first task of the worker's that is due in the lane.
    pub(super) fn first_due(&self, worker: Option<WorkerId>, lane: LaneId) -> Option<(Seq, u32)> {
        if self.due == 0 {
            return None;
        }
        let first = |bucket: &Bucket| bucket.due.range((lane, Seq(0))..=(lane, Seq(u64::MAX))).next().map(due_entry);
        self.of(worker).filter_map(first).min()
    }

    /// Takes that one out.
    pub(super) fn take_due(&mut self, worker: Option<WorkerId>, lane: LaneId, seq: Seq) {
        let taken = self.of_mut(worker).filter_map(|bucket| bucket.due.remove(&(lane, seq))).count();
        self.due -= taken;
    }

    /// A task of the key is due no more.
    pub(super) fn drop_due(&mut self, key: KeyHash, lane: LaneId, seq: Seq) {
        let was = self.bucket_mut(key).and_then(|bucket| bucket.due.remove(&(lane, seq)));
        self.due -= usize::from(was.is_some());
    }

    /// A task of the key was passed over, for another worker.
    pub(super) fn wait(&mut self, key: KeyHash, lane: LaneId, spot: Spot) {
        self.woken = true;
        let Some(bucket) = self.bucket_mut(key) else { return };
        match bucket.waiting.iter_mut().find(|(own, _)| *own == lane) {
            Some((_, from)) => *from = spot.min(*from),
            None => {
                bucket.waiting.push((lane, spot));
                self.waiting += 1;
            }
        }
    }

    /// True if tasks of the key's bucket may have been passed over before `spot`.
    pub(super) fn waits_before(&self, key: KeyHash, lane: LaneId, spot: Spot) -> bool {
        self.bucket(key).and_then(|bucket| bucket.waiting_in(lane)).is_some_and(|from| from < spot)
    }

    /// Where the worker begins to look for what was passed over, if anything was.
    pub(super) fn first_waiting(&self, worker: Option<WorkerId>, lane: LaneId) -> Option<Spot> {
        if self.waiting == 0 {
            return None;
        }
        self.of(worker).filter_map(|bucket| bucket.waiting_in(lane)).min()
    }

    /// True if something of the worker's is due or was passed over in the lane.
    pub(super) fn has_any(&self, worker: Option<WorkerId>, lane: LaneId) -> bool {
        self.first_waiting(worker, lane).is_some() || self.first_due(worker, lane).is_some()
    }

    /// Everything before `rest` was looked at for the worker; `None`: everything there is.
    fn looked_at(&mut self, worker: Option<WorkerId>, lane: LaneId, rest: Option<Spot>) {
        let mut gone = 0;
        for bucket in self.of_mut(worker) {
            match rest {
                Some(rest) => {
                    bucket
                        .waiting
                        .iter_mut()
                        .filter(|(own, _)| *own == lane)
                        .for_each(|(_, from)| *from = rest.max(*from));
                }
                None => {
                    let before = bucket.waiting.len();
                    bucket.waiting.retain(|(own, _)| *own != lane);
                    gone += before - bucket.waiting.len();
                }
            }
        }
        self.waiting -= gone;
    }

    pub(super) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// What a walk for the worker does with a task at `spot`.
    fn pick(&self, keys: &mut Keys, worker: Option<WorkerId>, asked: &Asked, lane: LaneId, spot: Spot) -> Pick {
        let Some(key) = asked.key() else { return Pick::This };
        let is_mine = |bucket: &&Bucket| bucket.belongs_to(worker);
        let from = self.bucket(key).filter(is_mine).and_then(|bucket| bucket.waiting_in(lane));
        if from.is_none_or(|from| spot < from) {
            return Pick::Not;
        }
        if keys.is_free(key, lane, spot) {
            return Pick::This;
        }
        // From here on it waits for its key.
        keys.wait(key, lane, spot);
        Pick::Not
    }
}

fn due_entry((place, slot): (&(LaneId, Seq), &u32)) -> (Seq, u32) {
    (place.1, *slot)
}

/// The worker's score for a bucket: one hash over both numbers.
fn score(bucket: u64, worker: WorkerId) -> u64 {
    mix(mix(worker.consumer()).wrapping_add(bucket.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

impl Group {
    /// True if the one who asks may be handed tasks of the key.
    #[inline]
    pub(super) fn may_take(&self, worker: Option<WorkerId>, key: KeyHash) -> bool {
        self.sticky.as_ref().is_none_or(|sticky| sticky.may(worker, key))
    }

    /// The set of live workers changed.
    pub(super) fn share_buckets(&mut self) {
        if let Some(sticky) = &mut self.sticky {
            let workers: Vec<WorkerId> = self.workers.iter().map(|(id, _)| id).collect();
            sticky.share(&workers);
        }
    }

    /// How many buckets are the worker's, in sticky mode.
    pub(crate) fn buckets_of(&self, worker: WorkerId) -> usize {
        self.sticky.as_ref().map_or(0, |sticky| sticky.count(worker))
    }

    /// The next task of the lane that others passed over for the worker that asks.
    pub(super) fn next_of_buckets(&mut self, take: &mut Take<'_, '_>, granted: &mut Granted) -> Option<Candidate> {
        let (worker, lane) = (take.ask.worker(), take.lane);
        loop {
            let from = self.sticky.as_ref()?.first_waiting(worker, lane)?;
            let found = self.find_passed(take, from, |keys, sticky, asked, spot| {
                sticky.map_or(Pick::Not, |sticky| sticky.pick(keys, worker, asked, lane, spot))
            });
            self.sticky.as_mut()?.looked_at(worker, lane, found.as_ref().map(|found| found.rest));
            let Found { source, header, asked, spot, .. } = found?;
            let attempts = self.lanes.get(take.lane).map_or(0, |own| own.attempts(spot.base, spot.index));
            if let Some(slot) = self.take_in(&header, spot, asked, attempts, take) {
                return Some((slot, granted.source(&source), header));
            }
        }
    }
}
