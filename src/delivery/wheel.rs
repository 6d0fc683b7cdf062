//! One hierarchical timer wheel for all leases and delays of a group.
//!
//! Scheme 7 of Varghese and Lauck, *Hashed and Hierarchical Timing Wheels* (1987): eleven levels of 64 buckets,
//! a tick of one millisecond at the lowest. A timer sits in the level of the highest digit in which its due time
//! differs from the present, and moves down as that digit is reached. Arming and disarming are O(1): timers
//! are nodes of doubly linked lists in one vector, numbered by the caller. A bitmap per level finds the next
//! bucket that holds anything, so that time can jump over years without stepping through them.

const LEVELS: usize = 11;
const BITS: u32 = 6;
const BUCKETS: usize = 1 << BITS;
const NONE: u32 = u32::MAX;
/// In place of the node before it: it is in no list.
const UNLISTED: u32 = u32::MAX - 1;

/// Timers by slot number.
pub(crate) struct Wheel {
    now: u64,
    nodes: Vec<Node>,
    heads: Box<[[u32; BUCKETS]; LEVELS]>,
    occupied: [u64; LEVELS],
    len: usize,
}

/// Which list it is in follows from its due time, but for the level: that says who looks for it as the first of a list.
#[derive(Clone, Copy)]
struct Node {
    due: u64,
    prev: u32,
    next: u32,
}

const UNARMED: Node = Node { due: 0, prev: UNLISTED, next: NONE };

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Wheel {
            now: now_ms,
            nodes: Vec::new(),
            heads: Box::new([[NONE; BUCKETS]; LEVELS]),
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// Arms the timer of `slot`, or moves it. One that is due in the past fires at the next advance.
    pub(crate) fn arm(&mut self, slot: u32, due_ms: u64) {
        self.disarm(slot);
        if slot as usize >= self.nodes.len() {
            self.nodes.resize(slot as usize + 1, UNARMED);
        }
        self.link(slot, due_ms);
        self.len += 1;
    }

    /// Disarms the timer of `slot`, if it is armed.
    pub(crate) fn disarm(&mut self, slot: u32) {
        if self.nodes.get(slot as usize).is_some_and(|node| node.prev != UNLISTED) {
            self.unlink(slot);
            self.len -= 1;
        }
    }

    /// Calls `fire` for every timer due at or before `now_ms`, in the order of due times; each is disarmed by
    /// then. A present that lies before the last one fires nothing.
    pub(crate) fn advance(&mut self, now_ms: u64, mut fire: impl FnMut(u32)) {
        while let Some((at, level, bucket)) = self.next_bucket() {
            if at > now_ms {
                break;
            }
            self.now = self.now.max(at);
            while let Some(slot) = self.head(level, bucket) {
                let due = self.nodes.get(slot as usize).map_or(0, |node| node.due);
                self.unlink(slot);
                if due <= self.now {
                    self.len -= 1;
                    fire(slot);
                } else {
                    // The digit is reached: the timer moves to a lower level, never to this bucket again.
                    self.link(slot, due);
                }
            }
        }
        self.now = self.now.max(now_ms);
    }

    /// When `advance` has work next: exact for near timers, for far ones the time at which they move down, which
    /// is never later than the earliest due time.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.next_bucket().map(|(at, _, _)| at)
    }

    /// How many timers are armed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bucket that is reached first, and when. Lower levels come first: all their timers are due before the
    /// next digit of the level above.
    fn next_bucket(&self) -> Option<(u64, usize, usize)> {
        for level in 0..LEVELS {
            let occupied = self.occupied.get(level).copied().unwrap_or(0);
            if occupied == 0 {
                continue;
            }
            // Every timer of a level has a digit at or above the present's (see `place_of`).
            let bucket = occupied.trailing_zeros();
            let shift = BITS * u32::try_from(level).unwrap_or(0);
            let above = self.now.checked_shr(shift + BITS).unwrap_or(0).checked_shl(shift + BITS).unwrap_or(0);
            let at = above | (u64::from(bucket) << shift);
            return Some((at.max(self.now), level, bucket as usize));
        }
        None
    }

    fn head(&self, level: usize, bucket: usize) -> Option<u32> {
        self.heads.get(level)?.get(bucket).copied().filter(|slot| *slot != NONE)
    }

    /// The highest digit in which the due time differs from the present decides the level; that digit is then
    /// greater than the present's. A timer due now or in the past sits in the present's bucket of level 0.
    fn place_of(&self, due: u64) -> (usize, usize) {
        let differs = due ^ self.now;
        let level = if differs == 0 { 0 } else { (63 - differs.leading_zeros()) / BITS };
        (level as usize, bucket_at(due, level))
    }

    fn link(&mut self, slot: u32, due: u64) {
        let due = due.max(self.now);
        let (level, bucket) = self.place_of(due);
        let Some(head) = self.heads.get_mut(level).and_then(|level| level.get_mut(bucket)) else { return };
        let next = std::mem::replace(head, slot);
        if let Some(occupied) = self.occupied.get_mut(level) {
            *occupied |= 1 << bucket;
        }
        if let Some(after) = self.nodes.get_mut(next as usize) {
            after.prev = slot;
        }
        if let Some(node) = self.nodes.get_mut(slot as usize) {
            *node = Node { due, prev: NONE, next };
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(node) = self.nodes.get_mut(slot as usize) else { return };
        let Node { due, prev, next } = std::mem::replace(node, UNARMED);
        if let Some(after) = self.nodes.get_mut(next as usize) {
            after.prev = prev;
        }
        if let Some(before) = self.nodes.get_mut(prev as usize) {
            before.next = next;
            return;
        }
        // It is the first of its list; the level was decided by a present that is past.
        let lists = (0_u32..).zip(&mut self.heads[..]).zip(&mut self.occupied);
        for ((level, heads), occupied) in lists {
            let bucket = bucket_at(due, level);
            let Some(head) = heads.get_mut(bucket).filter(|head| **head == slot) else { continue };
            *head = next;
            *occupied &= !(u64::from(next == NONE) << bucket);
            return;
        }
    }
}

/// A digit of a due time.
fn bucket_at(due: u64, level: u32) -> usize {
    usize::try_from((due >> (level * BITS)) & (BUCKETS as u64 - 1)).unwrap_or(0)
}
