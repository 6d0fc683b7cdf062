//! The checkpoint file: roots, index chunks, meta bytes and blobs.

use std::io;
use std::sync::Arc;

use crate::checkpoint::{Key, Store};
use crate::format::checkpoint::{BLOBS_AT, COPY_BYTES, Root, RootCopy, UNIT_BYTES, decode_entries, encode_entries};
use crate::format::dedup::{decode_pages, encode_pages};
use crate::format::meta::{
    ListedGroup, ListedLife, Meta, Paused, decode_done, decode_notes, encode_done, encode_notes,
};
use crate::sim::SimDisk;
use crate::storage::{File, Prepare, Storage};

/// Reads a copy of a root, every kind of blob, and a whole file whose first root a forger made.
pub fn decode_checkpoint(bytes: &[u8]) {
    read_root(bytes);
    read_blobs(bytes);
    let (root, blobs) = bytes.split_at(bytes.len() / 2);
    let forged = forge_root(root, blobs);
    if let RootCopy::Valid(root) = Root::decode(&forged) {
        let _loaded = load(&forged, blobs);
        read_meta(&root.meta);
    }
}

fn read_root(copy: &[u8]) {
    if let RootCopy::Valid(root) = Root::decode(copy) {
        let again = root.encode().map(|bytes| Root::decode(&bytes));
        assert!(again == Some(RootCopy::Valid(root)), "a root comes back");
    }
}

fn read_meta(bytes: &[u8]) {
    if let Some(meta) = Meta::decode(bytes) {
        assert!(Meta::decode(&meta.encode()) == Some(meta), "meta bytes come back");
    }
}

fn read_blobs(bytes: &[u8]) {
    read_meta(bytes);
    if let Some(entries) = decode_entries(bytes) {
        assert!(decode_entries(&encode_entries(entries.iter().copied())) == Some(entries), "entries come back");
    }
    if let Some(life) = ListedLife::decode(bytes) {
        assert!(ListedLife::decode(&life.encode()) == Some(life), "a life comes back");
    }
    if let Some(group) = ListedGroup::decode(bytes) {
        assert!(ListedGroup::decode(&group.encode()) == Some(group), "a group comes back");
    }
    if let Some(paused) = Paused::decode(bytes) {
        assert!(Paused::decode(&paused.encode()) == Some(paused), "pauses come back");
    }
    if let Some(notes) = decode_notes(bytes) {
        let again = decode_notes(&encode_notes(notes.iter())).map(|notes| notes.len());
        assert!(again == Some(notes.len()), "notes come back");
    }
    if let Some(ids) = decode_pages(bytes) {
        assert!(decode_pages(&encode_pages(&ids)) == Some(ids), "dedup ids come back");
    }
    if let Some(done) = decode_done(bytes) {
        assert!(decode_done(&encode_done(done.iter().copied())) == Some(done), "done lives come back");
    }
}

/// A copy's bytes with a right magic, version, length and checksum, and right checksums of its index chunks.
fn forge_root(bytes: &[u8], blobs: &[u8]) -> Vec<u8> {
    let bytes = bytes.get(..bytes.len().min(COPY_BYTES - 4)).unwrap_or(bytes);
    let mut copy = bytes.to_vec();
    let length = u32::try_from(bytes.len() + 4).unwrap_or(u32::MAX);
    let head = [&b"LANEROOT"[..], &crate::format::FORMAT_VERSION.to_le_bytes(), &length.to_le_bytes()].concat();
    copy.iter_mut().zip(head).for_each(|(to, byte)| *to = byte);
    copy.extend(crc32fast::hash(&copy).to_le_bytes());
    let RootCopy::Valid(mut root) = Root::decode(&copy) else { return copy };
    for (_, blob) in &mut root.chunks {
        let from = usize::try_from(u64::from(blob.unit) * UNIT_BYTES).unwrap_or(usize::MAX);
        let chunk = from.checked_add(blob.bytes as usize).and_then(|to| blobs.get(from..to));
        blob.check = chunk.map_or(blob.check, crc32fast::hash);
    }
    root.encode().unwrap_or(copy)
}

/// Loads a file with this root and these blobs, reads everything it has, and goes on from it.
fn load(root: &[u8], blobs: &[u8]) -> io::Result<()> {
    let disk = SimDisk::new(0);
    let bytes = BLOBS_AT + (blobs.len() as u64).next_multiple_of(UNIT_BYTES);
    let file: Arc<dyn File> = disk.create(Store::FILE, bytes, Prepare::Small)?;
    for copy in [0, COPY_BYTES as u64] {
        file.write_at(copy, root)?;
    }
    file.write_at(BLOBS_AT, blobs)?;
    let loaded = Store::load(&file)?;
    for (mut store, meta) in [loaded.newest, loaded.older].into_iter().flatten() {
        let keys: Vec<Key> = store.keys().collect();
        for key in keys {
            let _value = store.get(key);
        }
        let _committed = store.commit(&meta, crate::checkpoint::Changes::default());
    }
    Ok(())
}
