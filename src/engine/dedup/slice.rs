//! A slice: ids that don't change any more, sorted, in pages. In memory there is a filter, the first fingerprint of each
//! page, and what the ends of all ids have in common; the pages too as long as no checkpoint has them.

use std::io;
use std::sync::Arc;

use crate::format::dedup::{Once, PAGE_BYTES, PAGE_ENTRIES, UNTIL_SETTLED, decode_page, decode_pages, encode_pages};
use crate::format::fields::halves;
use crate::storage::File;
use crate::types::Timestamp;

/// Bits of the filter for each id, and how many of them an id sets: 3 of 1,000 ids that are not there pass.
const FILTER_BITS: usize = 12;
const FILTER_PROBES: u64 = 8;

/// Ids that don't change.
#[derive(Clone)]
pub(super) struct Slice {
    pub count: usize,
    /// The earliest and the latest end, of those that are times.
    pub ends: Option<(Timestamp, Timestamp)>,
    /// Some are there until their task is settled.
    pub until_settled: bool,
    /// The high half of the first fingerprint of each page.
    fences: Vec<u64>,
    filter: Vec<u64>,
    pages: Pages,
}

#[derive(Clone)]
enum Pages {
    Held(Vec<u8>),
    /// In a file, from this offset on.
    Stored(Arc<dyn File>, u64),
}

/// A page that can't be used: where it is, and what the system said, if anything.
#[derive(Debug)]
pub(super) struct BadPage {
    pub offset: u64,
    pub error: Option<io::Error>,
}

impl Slice {
    /// A slice of these entries, whose fingerprints increase.
    pub(super) fn new(entries: &[(u128, Once)]) -> Self {
        Self::with(entries, Pages::Held(encode_pages(entries)))
    }

    /// The same, whose pages are durable there.
    pub(super) fn at(entries: &[(u128, Once)], (file, offset): (Arc<dyn File>, u64)) -> Self {
        Self::with(entries, Pages::Stored(file, offset))
    }

    fn with(entries: &[(u128, Once)], pages: Pages) -> Self {
        let mut filter = vec![0_u64; (entries.len() * FILTER_BITS).div_ceil(64)];
        for (fingerprint, _) in entries {
            for bit in probes(*fingerprint, filter.len()) {
                if let Some(word) = filter.get_mut(bit / 64) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        let first = |page: &[(u128, Once)]| page.first().map(|(fingerprint, _)| halves(*fingerprint).0);
        let times = || entries.iter().map(|(_, once)| once.ends).filter(|ends| *ends != UNTIL_SETTLED);
        Slice {
            count: entries.len(),
            ends: times().min().zip(times().max()),
            until_settled: entries.iter().any(|(_, once)| once.ends == UNTIL_SETTLED),
            fences: entries.chunks(PAGE_ENTRIES).filter_map(first).collect(),
            filter,
            pages,
        }
    }

    /// Its pages are durable there.
    pub(super) fn stored(&mut self, (file, offset): (Arc<dyn File>, u64)) {
        self.pages = Pages::Stored(file, offset);
    }

    /// The pages, as long as they are held.
    pub(super) fn held(&self) -> Option<&[u8]> {
        match &self.pages {
            Pages::Held(pages) => Some(pages),
            Pages::Stored(..) => None,
        }
    }

    /// True if some of it may be over.
    pub(super) fn may_be_over(&self, now: Timestamp) -> bool {
        self.until_settled || self.ends.is_none_or(|(first, _)| first <= now)
    }

    /// Bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Slice>() + 8 * (self.fences.len() + self.filter.len()) + self.held().map_or(0, <[u8]>::len)
    }

    /// What is known of an id.
    pub(super) fn find(&self, fingerprint: u128) -> Result<Option<Once>, BadPage> {
        let passes = |bit: usize| self.filter.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        if !probes(fingerprint, self.filter.len()).all(passes) {
            return Ok(None);
        }
        let (high, _) = halves(fingerprint);
        // The last page that begins below it, and those that begin like it.
        let from = self.fences.partition_point(|fence| *fence < high).saturating_sub(1);
        let to = self.fences.partition_point(|fence| *fence <= high);
        for page in from..to {
            let found = self.page(page)?.into_iter().find(|(other, _)| *other == fingerprint);
            if let Some((_, once)) = found {
                return Ok(Some(once));
            }
        }
        Ok(None)
    }

    /// All entries, in order.
    pub(super) fn entries(&self) -> Result<Vec<(u128, Once)>, BadPage> {
        match &self.pages {
            Pages::Held(pages) => decode_pages(pages).ok_or(BadPage { offset: 0, error: None }),
            Pages::Stored(file, offset) => {
                let mut pages = vec![0; self.fences.len() * PAGE_BYTES];
                let bad = |error| BadPage { offset: *offset, error };
                file.read_at(*offset, &mut pages).map_err(|error| bad(Some(error)))?;
                decode_pages(&pages).ok_or(bad(None))
            }
        }
    }

    fn page(&self, number: usize) -> Result<Vec<(u128, Once)>, BadPage> {
        let at = number * PAGE_BYTES;
        match &self.pages {
            Pages::Held(pages) => {
                let page = pages.get(at..at + PAGE_BYTES).and_then(decode_page);
                page.ok_or(BadPage { offset: at as u64, error: None })
            }
            Pages::Stored(file, offset) => {
                let (mut page, offset) = ([0; PAGE_BYTES], offset + at as u64);
                file.read_at(offset, &mut page).map_err(|error| BadPage { offset, error: Some(error) })?;
                decode_page(&page).ok_or(BadPage { offset, error: None })
            }
        }
    }
}

/// The bits of a filter of so many words that an id sets. A fingerprint is a hash: its halves serve as two.
fn probes(fingerprint: u128, words: usize) -> impl Iterator<Item = usize> {
    let (high, low) = halves(fingerprint);
    let bits = 64 * words as u128;
    (0..FILTER_PROBES).map(move |probe| {
        let hash = low.wrapping_add(probe.wrapping_mul(high | 1));
        usize::try_from((u128::from(hash) * bits) >> 64).unwrap_or(0)
    })
}
