//! Which keys are taken, and how many tasks were passed over behind each.
//!
//! # What holds
//!
//! A key is *held* by at most one slot: a task that was handed out, or is about to be, and is not settled for good. While
//! it is held, or an earlier task of it waits in the lane, the cursor passes its tasks over: a bit each ([`super::passed`]),
//! and here a count and the place of the first, so that what is blocked costs nothing but its bit. Once the key is free its
//! next task is found by walking over the bits from that place on.
//!
//! - A key that is free and for which nothing waits is not known here at all.
//! - Every task that was passed over lies at or behind the place of its key in its lane. A count may be too high, because a
//!   record may turn out damaged, and nobody knows what its key was; it is never too low.
//! - Keys are told apart by 64 bits of a hash. Two that share one are delivered as if they were the same, which is slower
//!   and never wrong.
//!
//! Nothing of this is stored: after a reopen the cursor meets every task again, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use crate::types::{LaneId, Seq};

/// A key, as far as delivery tells keys apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KeyHash(pub u64);

/// Which record it is, and where it was when it was met. It may have been moved since, so the order knows nothing of that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spot {
    pub base: u64,
    pub index: u32,
    pub offset: u32,
}

impl Ord for Spot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.base, self.index).cmp(&(other.base, other.index))
    }
}

impl PartialOrd for Spot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Spot {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Spot {}

impl Spot {
    pub(super) fn seq(self) -> Seq {
        Seq(self.base + u64::from(self.index))
    }
}

/// Tasks that were passed over in one lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// At most so many.
    pub count: u64,
    /// None of them lies before.
    pub from: Spot,
}

impl Waiting {
    pub(super) fn add(&mut self, spot: Spot) {
        self.count += 1;
        self.from = self.from.min(spot);
    }
}

/// What is known of a key that is held or waited for.
#[derive(Default)]
struct Known {
    holder: Option<u32>,
    /// One entry for each lane in which something waits, few as a rule.
    waiting: Vec<(LaneId, Waiting)>,
}

impl Known {
    fn waiting_in(&mut self, lane: LaneId) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|(own, _)| *own == lane).map(|(_, waiting)| waiting)
    }
}

/// All keys of a group that are held or waited for.
pub(super) struct Keys {
    seed: u64,
    known: BTreeMap<KeyHash, Known>,
    /// Keys that are free and waited for: by lane, place of the first task, key.
    ready: BTreeSet<(LaneId, Spot, KeyHash)>,
    /// A key became ready since it was last asked.
    woken: bool,
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        Keys { seed, known: BTreeMap::new(), ready: BTreeSet::new(), woken: false }
    }

    /// The hash of a key in this open.
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        hash(self.seed, key)
    }

    /// True if a task of the key may be handed out whose place in the lane is `spot`.
    pub(super) fn is_free(&self, key: KeyHash, lane: LaneId, spot: Spot) -> bool {
        let Some(known) = self.known.get(&key) else { return true };
        let is_behind = known.waiting.iter().any(|(own, waiting)| *own == lane && waiting.from < spot);
        known.holder.is_none() && !is_behind
    }

    /// True if `slot` has the key.
    pub(super) fn is_held_by(&self, key: KeyHash, slot: u32) -> bool {
        self.known.get(&key).is_some_and(|known| known.holder == Some(slot))
    }

    /// The slot that has the key.
    pub(super) fn holder(&self, key: KeyHash) -> Option<u32> {
        self.known.get(&key)?.holder
    }

    /// `slot` takes a key that is free.
    pub(super) fn hold(&mut self, key: KeyHash, slot: u32) {
        let known = self.known.entry(key).or_default();
        debug_assert!(known.holder.is_none(), "a key is held by one slot at a time");
        known.holder = Some(slot);
        for (lane, waiting) in &known.waiting {
            self.ready.remove(&(*lane, waiting.from, key));
        }
    }

    /// The task in `slot` needs its key no more, if it had it.
    pub(super) fn free(&mut self, key: KeyHash, slot: u32) {
        let Some(known) = self.known.get_mut(&key).filter(|known| known.holder == Some(slot)) else { return };
        known.holder = None;
        if known.waiting.is_empty() {
            self.known.remove(&key);
            return;
        }
        self.woken = true;
        self.ready.extend(known.waiting.iter().map(|(lane, waiting)| (*lane, waiting.from, key)));
    }

    /// A task of the key was passed over.
    pub(super) fn wait(&mut self, key: KeyHash, lane: LaneId, spot: Spot) {
        let known = self.known.entry(key).or_default();
        let is_free = known.holder.is_none();
        match known.waiting_in(lane) {
            Some(waiting) => {
                self.ready.remove(&(lane, waiting.from, key));
                waiting.add(spot);
            }
            None => known.waiting.push((lane, Waiting { count: 1, from: spot })),
        }
        if is_free && let Some(waiting) = known.waiting_in(lane) {
            self.woken = true;
            self.ready.insert((lane, waiting.from, key));
        }
    }

    /// A key that is free and waited for in the lane, and where to look: of those that `may` be handed out the one whose
    /// first task lies first.
    pub(super) fn next_ready(&self, lane: LaneId, may: impl Fn(KeyHash) -> bool) -> Option<(KeyHash, Spot)> {
        let of_lane = (lane, Spot::default(), KeyHash(0))..;
        let mut ready = self.ready.range(of_lane).take_while(|(own, _, _)| *own == lane);
        ready.find(|(_, _, key)| may(*key)).map(|(_, from, key)| (*key, *from))
    }

    /// True if a key is free and waited for in the lane that `may` be handed out.
    pub(super) fn has_ready(&self, lane: LaneId, may: impl Fn(KeyHash) -> bool) -> bool {
        !self.ready.is_empty() && self.next_ready(lane, may).is_some()
    }

    /// The first waiting task of a free key was found; the others lie at or behind `rest`.
    pub(super) fn found(&mut self, key: KeyHash, lane: LaneId, rest: Spot) {
        let left = self.known.get_mut(&key).and_then(|known| known.waiting_in(lane)).map(|waiting| {
            self.ready.remove(&(lane, waiting.from, key));
            *waiting = Waiting { count: waiting.count.saturating_sub(1), from: rest };
            waiting.count
        });
        match left {
            Some(1..) => {
                self.ready.insert((lane, rest, key));
            }
            Some(0) => self.found_none(key, lane),
            None => {}
        }
    }

    /// Nothing of a free key waits in the lane any more, whatever its count says.
    pub(super) fn found_none(&mut self, key: KeyHash, lane: LaneId) {
        let Some(known) = self.known.get_mut(&key) else { return };
        known.waiting.retain(|(own, waiting)| {
            let goes = *own == lane;
            if goes {
                self.ready.remove(&(lane, waiting.from, key));
            }
            !goes
        });
        if known.waiting.is_empty() && known.holder.is_none() {
            self.known.remove(&key);
        }
    }

    /// True if a key became ready since the last call.
    pub(super) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Bytes that all of it takes, roughly and rather too many.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let waiting: usize = self.known.values().map(|known| known.waiting.capacity()).sum();
        let node = size_of::<(KeyHash, Known)>() * 2;
        self.known.len() * node
            + waiting * size_of::<(LaneId, Waiting)>()
            + self.ready.len() * 2 * size_of::<(LaneId, Spot, KeyHash)>()
    }

    /// True if no key is held or waited for.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.ready.is_empty()
    }
}

/// SipHash with keys of zero (what the standard library's hasher is by default), over the seed and the key. The seed is the
/// queue's random id, so that nobody who doesn't know it can make keys collide.
pub(crate) fn hash(seed: u64, key: &[u8]) -> KeyHash {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(key);
    KeyHash(hasher.finish())
}
