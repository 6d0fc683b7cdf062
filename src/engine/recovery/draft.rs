//! Lives before it is known how far their log is durable, and what proves that.

use std::collections::BTreeMap;

use super::lives::Candidate;
use crate::format::segment::{FOOTER_TRAILER_BYTES, Footer, PRELUDE_BYTES};
use crate::log::{Place, scan};
use crate::storage::Region;

/// A life before it is known how far the log is durable.
pub(super) struct Draft {
    pub candidate: Candidate,
    pub footer: Option<Footer>,
    /// The file up to where anything was ever written, as far as it has to be scanned.
    pub bytes: Option<Region>,
}

impl Draft {
    /// The checkpoint lists it, and something of it as durable.
    pub(super) fn is_listed_durable(&self) -> bool {
        self.candidate.listed.as_ref().is_some_and(|listed| listed.sealed || listed.offset > 0)
    }

    /// The checkpoint or a footer says how it ends; or nothing is listed of it, as of one that is newer.
    pub(super) fn is_sealed(&self) -> bool {
        self.footer.is_some() || self.candidate.listed.as_ref().is_none_or(|listed| listed.sealed)
    }

    /// Up to where the checkpoint lists it as durable.
    pub(super) fn listed_place(&self) -> Place {
        let offset = self.candidate.listed.as_ref().map_or(0, |listed| listed.offset);
        Place { base: self.candidate.header.base, offset }
    }

    /// Where it was left for the next one, if the checkpoint knows: the next one may be gone before it.
    pub(super) fn listed_end(&self) -> Option<u32> {
        let end = self.candidate.listed.as_ref()?.left_at;
        (end > 0).then_some(end)
    }

    /// Where the life before this one ended, if this one knows.
    pub(super) fn says_end_of(&self, before: Option<&Draft>) -> Option<u32> {
        let header = &self.candidate.header;
        // Of a cold one it knows where the life ended that it was made of.
        let is_it = |before: &Candidate| before.header.base == header.predecessor && !before.header.cold;
        let known = before.is_some_and(|before| is_it(&before.candidate));
        (known && header.predecessor_end > 0).then_some(header.predecessor_end)
    }
}

/// How far the lives of a log are durable, by what listings, footers and marks say of each.
#[derive(Default)]
pub(super) struct Proven(BTreeMap<u64, u32>);

impl Proven {
    fn prove(&mut self, place: Place) {
        let offset = self.0.entry(place.base).or_default();
        *offset = place.offset.max(*offset);
    }

    /// The furthest place. It proves the lives before it as well, but for those that a checkpoint gave up.
    pub(super) fn furthest(&self) -> Place {
        self.0.last_key_value().map_or(Place::default(), |(base, offset)| Place { base: *base, offset: *offset })
    }

    /// How far the life with this base is durable, by what speaks of it and no other.
    pub(super) fn of(&self, base: u64) -> u32 {
        self.0.get(&base).copied().unwrap_or(0)
    }
}

/// What listings, footers and marks prove durable.
pub(super) fn proven_durable(drafts: &[Draft]) -> Proven {
    let mut proven = Proven::default();
    for draft in drafts {
        let header = &draft.candidate.header;
        // Offset 0 says that nothing of it is known durable, and so nothing of the life before it.
        if let Some(listed) = draft.candidate.listed.as_ref().filter(|listed| listed.offset > 0) {
            proven.prove(Place { base: header.base, offset: listed.offset });
        }
        if let Some(footer) = &draft.footer {
            proven.prove(Place { base: header.base, offset: footer.end });
        }
        let from = draft.candidate.listed.as_ref().map_or(0, |listed| listed.offset);
        let from = from.max(u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX));
        if let Some(place) = scan::last_mark(header.life(), bytes_of(draft.bytes.as_ref()), from) {
            proven.prove(place);
        }
    }
    proven
}

pub(super) fn bytes_of(region: Option<&Region>) -> &[u8] {
    region.and_then(|region| region.slice(0..region.readable())).unwrap_or_default()
}

/// The footer at the end of the file, if it is one of this life.
pub(super) fn read_footer(candidate: &Candidate) -> Option<Footer> {
    let bytes = candidate.file_bytes;
    let trailer_bytes = FOOTER_TRAILER_BYTES as u64;
    let mut trailer = [0; FOOTER_TRAILER_BYTES];
    candidate.file.read_at(bytes.checked_sub(trailer_bytes)?, &mut trailer).ok()?;
    let index_bytes = Footer::index_bytes(&trailer)?;
    let from = bytes.checked_sub(trailer_bytes)?.checked_sub(index_bytes)?;
    let mut whole = vec![0; usize::try_from(index_bytes + trailer_bytes).ok()?];
    candidate.file.read_at(from, &mut whole).ok()?;
    let footer = Footer::decode(candidate.header.life(), &whole)?;
    let is_its = footer.base == candidate.header.base && footer.cold == candidate.header.cold;
    (is_its && u64::from(footer.end) <= from).then_some(footer)
}
