//! What a checkpoint's blobs say, each of them verified, and what it means where one can't be had.

use std::collections::BTreeMap;

use crate::checkpoint::{BlobError, Key, Store, Value};
use crate::delivery::record_bits::{CHUNK_BITS, Chunked};
use crate::delivery::{DeadNote, GroupState, Note};
use crate::error::{Damage, DamageKind};
use crate::format::journal::DeadCause;
use crate::format::meta::{self, BEGUN_SHIFT, GROUP_IDS_END, ListedGroup, ListedLife, ListedNote, Meta, Paused, kind};
use crate::format::segment::{SEGMENT_BYTES_MAX, block_for};
use crate::types::{LaneId, Seq};

use super::ids::FoundIds;
use super::replay::Told;

/// A checkpoint whose blobs all read well.
pub(super) struct Base {
    pub meta: Meta,
    pub store: Store,
    pub saved: BTreeMap<Key, u32>,
    pub told: Told,
    pub ids: FoundIds,
    pub listed: Vec<ListedLife>,
    /// By base of a life.
    lane_of: BTreeMap<u64, LaneId>,
    pub fallback: bool,
}

pub(super) const OTHER_ROOT: &str = "; an older checkpoint or a full scan is used: tasks may come again, none is lost, \
     and a segment that it had let go may be told of as missing or damaged";

pub(super) fn checkpoint_damage(offset: u64, bytes: u64, what: String) -> Damage {
    let file = Store::FILE.to_owned();
    Damage { kind: DamageKind::Corrupt, file, offset, bytes, lane: None, lost: None, what }
}

/// What a root says, if it is enough to go on from, and what of its blobs is damaged.
pub(super) struct Loaded {
    pub base: Option<Base>,
    pub is_whole: bool,
    pub bad: Vec<Damage>,
}

/// Reads all blobs of a root.
///
/// Without the acks, attempts or dead letters of one blob its tasks come again; that is better than to go on without
/// any. A life or a group that is not known is not: it would be taken for one that is gone.
pub(super) fn load_blobs(store: Store, meta: &[u8], fallback: bool) -> Loaded {
    let malformed = |what: &str| checkpoint_damage(0, 0, format!("{what}{OTHER_ROOT}"));
    let Some(meta) = Meta::decode(meta) else {
        let bad = vec![malformed("the root's meta bytes are malformed")];
        return Loaded { base: None, is_whole: false, bad };
    };
    let (saved, told, ids) = (BTreeMap::new(), Told::default(), FoundIds::default());
    let (listed, lane_of) = (Vec::new(), BTreeMap::new());
    let mut base = Base { meta, saved, told, ids, listed, lane_of, fallback, store };
    let (mut bad, mut is_enough, mut is_whole) = (Vec::new(), true, true);
    let keys: Vec<Key> = base.store.keys().collect();
    let mut bitmap: Option<Key> = None;
    for key in keys {
        // All of a bitmap is there when the next one begins.
        if let Some(whole) = bitmap.replace(key).filter(|whole| is_bits(*whole) && !is_same_bits(*whole, key)) {
            base.bits_of(whole).map(Chunked::rest);
        }
        let found = base.store.get(key).map_err(|error| match error {
            BlobError::Damaged { offset, bytes } => checkpoint_damage(
                offset,
                bytes,
                "a blob does not verify; tasks may come again, none is lost".to_owned(),
            ),
            BlobError::Absent => malformed("a blob is absent"),
            BlobError::Io(error) => malformed(&format!("a blob can't be read: {error}")),
        });
        let found = found.and_then(|Value { bytes: value, bad_copy }| {
            let twice = "one of two copies of a blob does not verify; nothing is lost".to_owned();
            bad.extend(bad_copy.map(|offset| checkpoint_damage(offset, value.len() as u64, twice)));
            // The next checkpoint writes a blob again whose check is not as it was saved.
            let check = crc32fast::hash(&value);
            base.saved.insert(key, if bad_copy.is_some() { !check } else { check });
            base.load(key, &value).ok_or_else(|| malformed("a blob is malformed"))
        });
        if let Err(damage) = found {
            bad.push(damage);
            is_whole = false;
            is_enough &= !matches!(key.kind, kind::LIFE | kind::GROUP);
        }
    }
    Loaded { base: is_enough.then_some(base), is_whole, bad }
}

fn is_bits(key: Key) -> bool {
    matches!(key.kind, kind::ACKS | kind::CANCELLED | kind::BEGUN)
}

/// True if both are chunks of one bitmap.
fn is_same_bits(one: Key, other: Key) -> bool {
    (one.kind, one.a, one.b) == (other.kind, other.a, other.b)
}

impl Base {
    /// Takes over a blob. `None` if it is malformed. Lives come first, in the order of keys: they say which lane's a base is.
    fn load(&mut self, key: Key, value: &[u8]) -> Option<()> {
        if self.ids.load(key.kind, key.a, value)? {
            return Some(());
        }
        match key.kind {
            kind::PAUSED => self.told.paused = Paused::decode(value)?,
            kind::NEXT_GROUP => self.told.next_group = meta::decode_next_group(value)?,
            kind::CANCELLED => self.load_bits(key, value),
            _ if key.kind != kind::LIFE && key.a >= GROUP_IDS_END => return None,
            kind::LIFE => {
                let life = ListedLife::decode(value)?;
                self.lane_of.extend(life.log.lane().map(|lane| (life.base, lane)));
                self.listed.push(life);
            }
            kind::ACKS | kind::BEGUN => self.load_bits(key, value),
            kind::GROUP => {
                let group = ListedGroup::decode(value)?;
                let state = self.group(key);
                state.name = group.name;
                state.starts = group.starts.into_iter().collect();
                state.acked_gone = group.acked_gone.into_iter().collect();
                state.retention = group.retention;
            }
            kind::DONE => self.group(key).done.extend(meta::decode_done(value)?),
            kind::NOTES => {
                let notes = meta::decode_notes(value)?;
                self.group(key).notes.extend(notes.into_iter().map(note));
            }
            kind::DEAD => {
                let dead: Option<Vec<_>> = meta::decode_notes(value)?.into_iter().map(dead_note).collect();
                self.group(key).dead.extend(dead?);
            }
            _ => return None,
        }
        Some(())
    }

    fn group(&mut self, key: Key) -> &mut GroupState {
        self.told.groups.entry(key.a).or_default()
    }

    fn load_bits(&mut self, key: Key, value: &[u8]) {
        if let Some(bits) = self.bits_of(key) {
            bits.load_chunk(key.c, value);
        }
    }

    /// The bitmap that a blob is a chunk of, if its life is one that the checkpoint lists.
    fn bits_of(&mut self, key: Key) -> Option<&mut dyn Chunked> {
        let chunk = if key.kind == kind::BEGUN { key.c & ((1 << BEGUN_SHIFT) - 1) } else { key.c };
        let is_possible = key.a < GROUP_IDS_END && chunk <= block_for(SEGMENT_BYTES_MAX) / CHUNK_BITS;
        let lane = *self.lane_of.get(&key.b).filter(|_| is_possible)?;
        Some(match key.kind {
            kind::BEGUN => self.group(key).attempts.entry((lane, key.b)).or_default(),
            kind::CANCELLED => self.told.to_come.acks.entry((lane, key.b)).or_default(),
            _ => self.group(key).acks.entry((lane, key.b)).or_default(),
        })
    }
}

fn note(listed: ListedNote) -> ((LaneId, Seq), Note) {
    let due = listed.time.map(|time| (time, listed.detail));
    ((listed.lane, listed.seq), Note { attempts: listed.attempts, due, reason: listed.reason })
}

fn dead_note(listed: ListedNote) -> Option<((LaneId, Seq), DeadNote)> {
    let cause = DeadCause::from_code(u8::try_from(listed.detail & 0xFF).ok()?)?;
    let bytes = u32::try_from(listed.detail >> 8).ok()?;
    let at = listed.time.unwrap_or_default();
    let dead = DeadNote { attempts: listed.attempts, cause, at, bytes, reason: listed.reason };
    Some(((listed.lane, listed.seq), dead))
}
