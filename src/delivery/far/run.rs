//! A sorted run of entries outside of memory, of which one page is in it.

use std::io;

use crate::format::far::{FarEntry, page_bytes, put_page, read_page};
use crate::types::Seq;

/// Bytes outside of memory, in places of one size. What is written there nobody needs after the process.
pub(crate) trait Scratch: Send + Sync {
    /// A number that no run had before.
    fn number(&self) -> u64;
    /// Writes a run, all of one length, and gives its place.
    fn put(&self, bytes: &[u8]) -> io::Result<u64>;
    /// Fills `buf` from `offset` of a place on.
    fn read(&self, place: u64, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// The place is free for another run.
    fn give_back(&self, place: u64);
}

/// A run, read from its front to its end.
pub(super) struct Run {
    number: u64,
    place: u64,
    page_entries: usize,
    pages: u32,
    /// The next page to be read.
    next: u32,
    /// What of the page before it was not taken yet, the nearest last.
    page: Vec<FarEntry>,
    /// First and last sequence.
    span: (Seq, Seq),
}

impl Run {
    /// Writes entries, which are sorted. The first page stays in memory.
    pub(super) fn write(scratch: &dyn Scratch, entries: &[FarEntry], page_entries: usize) -> io::Result<Run> {
        let (number, size) = (scratch.number(), page_entries.max(1));
        let mut bytes = Vec::with_capacity(page_bytes(size) * entries.len().div_ceil(size));
        let mut pages = 0;
        for page in entries.chunks(size) {
            bytes = put_page(bytes, number, pages, size, page);
            pages += 1;
        }
        let place = scratch.put(&bytes)?;
        let page = entries.iter().take(size).rev().copied().collect();
        let seqs = || entries.iter().map(|entry| entry.seq);
        let span = (seqs().min().unwrap_or_default(), seqs().max().unwrap_or_default());
        Ok(Run { number, place, page_entries: size, pages, next: 1, page, span })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn place(&self) -> u64 {
        self.place
    }

    pub(super) fn span(&self) -> (Seq, Seq) {
        self.span
    }

    /// The key of the next entry in memory.
    pub(super) fn head(&self) -> Option<u64> {
        self.page.last().map(|entry| entry.key)
    }

    /// Takes the next entry that is in memory.
    pub(super) fn pop(&mut self) -> Option<FarEntry> {
        self.page.pop()
    }

    /// Reads the next page if none of the last is left. Gives the key of the next entry; `None` at the end of the run.
    ///
    /// Errors: the page can't be read, or does not verify.
    pub(super) fn refill(&mut self, scratch: &dyn Scratch) -> io::Result<Option<u64>> {
        if self.page.is_empty() && self.next < self.pages {
            let mut bytes = vec![0; page_bytes(self.page_entries)];
            scratch.read(self.place, u64::from(self.next) * bytes.len() as u64, &mut bytes)?;
            let page = read_page(&bytes, self.number, self.next);
            self.page = page.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            self.page.reverse();
            self.next += 1;
        }
        Ok(self.head())
    }

    /// Entries in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.page.capacity()
    }
}
