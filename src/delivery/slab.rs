//! Values in numbered slots, each under a token that can be changed: an old token no longer opens the slot.

use crate::sabotage::{Bug, on};

/// A slab of `T`.
pub(crate) struct Slab<T> {
    slots: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
}

struct Entry<T> {
    /// Never 0. Wraps after 2^32 uses of one slot, within which an old token would have to be kept and tried.
    token: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// Puts `value` into a free slot; gives the slot and its token.
    pub(crate) fn insert(&mut self, value: T) -> (u32, u32) {
        self.len += 1;
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.slots.get_mut(slot as usize)
        {
            entry.value = Some(value);
            return (slot, entry.token);
        }
        // Leases are bounded by memory long before 2^32 of them.
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Entry { token: 1, value: Some(value) });
        (slot, 1)
    }

    pub(crate) fn get(&self, slot: u32, token: u32) -> Option<&T> {
        self.slots.get(slot as usize).filter(|entry| entry.token == token)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32, token: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize).filter(|entry| entry.token == token)?.value.as_mut()
    }

    /// The value of a slot, whatever its token.
    pub(crate) fn slot(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    pub(crate) fn slot_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    /// The token that opens the slot now.
    pub(crate) fn token(&self, slot: u32) -> u32 {
        self.slots.get(slot as usize).map_or(0, |entry| entry.token)
    }

    /// Gives the slot a fresh token and keeps its value.
    pub(crate) fn renew(&mut self, slot: u32) -> u32 {
        self.slots.get_mut(slot as usize).map_or(0, Entry::renew)
    }

    pub(crate) fn remove(&mut self, slot: u32, token: u32) -> Option<T> {
        self.get(slot, token)?;
        self.remove_slot(slot)
    }

    pub(crate) fn remove_slot(&mut self, slot: u32) -> Option<T> {
        let entry = self.slots.get_mut(slot as usize)?;
        let value = entry.value.take()?;
        entry.renew();
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(slot, entry)| Some((slot, entry.value.as_ref()?)))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<T> Entry<T> {
    fn renew(&mut self) -> u32 {
        if !on(Bug::TokenKept) {
            self.token = self.token.checked_add(1).unwrap_or(1);
        }
        self.token
    }
}
