//! Values in numbered slots. A slot is opened by the fence of the lease that it is lent under, and by no other number:
//! neither an older fence nor any at all while it is lent to nobody.

use crate::sabotage::{Bug, on};

/// A slab of `T`.
pub(crate) struct Slab<T> {
    slots: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
}

struct Entry<T> {
    /// Of the lease that holds; 0 is none.
    fence: u64,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// Puts `value` into a free slot that nothing opens yet.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.slots.get_mut(slot as usize)
        {
            entry.value = Some(value);
            return slot;
        }
        // Leases are bounded by memory long before 2^32 of them.
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Entry { fence: 0, value: Some(value) });
        slot
    }

    pub(crate) fn get(&self, slot: u32, fence: u64) -> Option<&T> {
        self.slots.get(slot as usize).filter(|entry| entry.opens(fence))?.value.as_ref()
    }

    /// The value of a slot, whoever it is lent to.
    pub(crate) fn slot(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    pub(crate) fn slot_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    /// The fence that opens the slot now; 0 is none.
    pub(crate) fn fence(&self, slot: u32) -> u64 {
        self.slots.get(slot as usize).map_or(0, |entry| entry.fence)
    }

    /// From here on `fence` opens the slot. Gives the fence.
    pub(crate) fn lend(&mut self, slot: u32, fence: u64) -> u64 {
        self.slots.get_mut(slot as usize).map_or(0, |entry| entry.lend(fence))
    }

    /// From here on nothing opens the slot; its value stays.
    pub(crate) fn end(&mut self, slot: u32) {
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            entry.end();
        }
    }

    pub(crate) fn remove(&mut self, slot: u32, fence: u64) -> Option<T> {
        self.get(slot, fence)?;
        self.remove_slot(slot)
    }

    pub(crate) fn remove_slot(&mut self, slot: u32) -> Option<T> {
        let entry = self.slots.get_mut(slot as usize)?;
        let value = entry.value.take()?;
        entry.end();
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(slot, entry)| Some((slot, entry.value.as_ref()?)))
    }

    /// All of them, unless there are or were more than so many: then to look at them takes too long.
    pub(crate) fn few(&self, most: usize) -> Option<impl Iterator<Item = &T>> {
        (self.slots.len() <= most).then(|| self.iter().map(|(_, value)| value))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<T> Entry<T> {
    fn opens(&self, fence: u64) -> bool {
        fence != 0 && self.fence == fence
    }

    fn lend(&mut self, fence: u64) -> u64 {
        if !on(Bug::TokenKept) || self.fence == 0 {
            self.fence = fence;
        }
        self.fence
    }

    fn end(&mut self) {
        if !on(Bug::TokenKept) {
            self.fence = 0;
        }
    }
}
