//! The room's promises, held against a disk that loses what was not synced and a twin that is a plain map.

mod commit;
mod crash;
mod damage;
mod disk;
mod units;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::load::Loaded;
use super::{BlobError, Changes, Key, Store};
use crate::storage::File;
use crate::types::QueueId;
use disk::{Disk, Random};

const QUEUE: QueueId = QueueId(0x51);

/// What a checkpoint should hold: meta bytes and blobs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Twin {
    meta: Vec<u8>,
    blobs: BTreeMap<Key, Vec<u8>>,
}

impl Twin {
    /// The twin after a commit.
    fn after(&self, meta: &[u8], changes: &Changes) -> Twin {
        let mut next = Twin { meta: meta.to_vec(), blobs: self.blobs.clone() };
        for key in &changes.deletes {
            next.blobs.remove(key);
        }
        next.blobs.extend(changes.puts.iter().cloned());
        next
    }

    /// Everything that a store holds, or `None` if a blob does not verify.
    fn of(store: &Store, meta: &[u8]) -> Option<Twin> {
        let blobs = store.keys().map(|key| Some((key, store.get(key).ok()?.bytes))).collect::<Option<_>>()?;
        Some(Twin { meta: meta.to_vec(), blobs })
    }
}

fn key(b: u64) -> Key {
    // Some are stored twice and some once.
    Key { kind: 1 + u8::try_from(b % 3).unwrap(), a: 7, b, c: u32::try_from(b % 5).unwrap() }
}

/// Some puts and deletes over `keys` different keys, and the meta bytes that go with them.
fn some_changes(random: &mut Random, keys: u64, count: u64) -> (Vec<u8>, Changes) {
    let mut touched = BTreeMap::new();
    for _ in 0..random.below(count + 1) {
        let bytes = usize::try_from(random.below(4) * random.below(700)).unwrap();
        let value = (random.below(4) > 0).then(|| random.bytes(bytes));
        touched.insert(key(random.below(keys)), value);
    }
    let mut changes = Changes::default();
    for (key, value) in touched {
        match value {
            Some(value) => changes.puts.push((key, value)),
            None => changes.deletes.push(key),
        }
    }
    let meta_bytes = usize::try_from(random.below(300)).unwrap();
    (random.bytes(meta_bytes), changes)
}

fn put(b: u64, value: &[u8]) -> Changes {
    Changes { puts: vec![(key(b), value.to_vec())], deletes: Vec::new() }
}

fn fresh() -> (Arc<Disk>, Store) {
    let disk = Disk::zeroed(Store::FILE_BYTES_MIN);
    let store = Store::empty(disk.clone(), QUEUE).unwrap();
    (disk, store)
}

fn load(disk: &Arc<Disk>) -> std::io::Result<Loaded> {
    let file: Arc<dyn File> = disk.clone();
    Store::load(&file)
}

/// The newest checkpoint of a disk, wholly read.
fn newest(disk: &Arc<Disk>) -> (Store, Twin) {
    let (store, meta) = load(disk).unwrap().newest.expect("a usable root");
    let twin = Twin::of(&store, &meta).expect("every blob verifies");
    (store, twin)
}

/// The older checkpoint of a disk, wholly read.
fn older(disk: &Arc<Disk>) -> (Store, Twin) {
    let (store, meta) = load(disk).unwrap().older.expect("a second usable root");
    let twin = Twin::of(&store, &meta).expect("every blob verifies");
    (store, twin)
}
