//! Journal entries.

use crate::format::journal::{self, Entry, Of, REASON_BYTES_MAX};

/// Reads the payload of a journal record.
pub fn decode_journal(bytes: &[u8]) {
    let entries: Vec<_> = journal::entries(bytes).collect();
    let bad = entries.iter().position(Result::is_err);
    assert!(bad.is_none_or(|at| at + 1 == entries.len()), "nothing is read behind a malformed entry");
    for entry in entries.into_iter().flatten() {
        let mut again = Vec::new();
        put(&mut again, &entry);
        let read: Vec<_> = journal::entries(&again).collect();
        let is_cut = matches!(&entry, Entry::Retry { reason, .. } | Entry::Dead { reason, .. } if reason.len() > REASON_BYTES_MAX);
        let same = matches!(&read[..], [Ok(read)] if is_cut || format!("{read:?}") == format!("{entry:?}"));
        assert!(same, "an entry comes back");
    }
}

fn put(out: &mut Vec<u8>, entry: &Entry<'_>) {
    match entry.clone() {
        Entry::Reserved { group, attempt, runs } => {
            journal::put_reserved(out, group, attempt, &runs.collect::<Vec<_>>())
        }
        Entry::Acked { group, runs } => journal::put_acked(out, group, &runs.collect::<Vec<_>>()),
        Entry::Released { group, attempts, runs } => {
            journal::put_released(out, group, attempts, &runs.collect::<Vec<_>>());
        }
        Entry::Retry { group, lane, seq, attempts, due, delay_ms, reason } => {
            journal::put_retry(out, Of { group, lane, seq, attempts }, due, delay_ms, reason);
        }
        Entry::Dead { group, lane, seq, attempts, cause, at, bytes, reason } => {
            journal::put_dead(out, Of { group, lane, seq, attempts }, cause, at, bytes, reason);
        }
        Entry::Started { group, lane, seq } => journal::put_started(out, group, lane, seq),
        Entry::GroupCreated { group, name, starts } => {
            journal::put_group_created(out, group, name, &starts.collect::<Vec<_>>());
        }
        Entry::GroupRemoved { group } => journal::put_group_removed(out, group),
        Entry::Retains { group, retention } => journal::put_group_retains(out, group, &retention),
        Entry::Paused(what) => journal::put_paused(out, what),
        Entry::Resumed(what) => journal::put_resumed(out, what),
        Entry::Decision { named } => journal::put_decision(out, &named.collect::<Vec<_>>()),
        Entry::Cancelled { runs } => journal::put_cancelled(out, &runs.collect::<Vec<_>>()),
        Entry::Room => journal::put_room(out, out.len() + journal::ROOM_BYTES_MIN),
    }
}
