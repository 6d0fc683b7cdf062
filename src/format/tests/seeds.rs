//! The fuzzers' seeds are what the encoders write: one copy of the format on disk, in the repository.
//!
//! When the format changes, `LANELOG_WRITE_SEEDS=1 cargo test --lib seeds` writes them anew.

use std::path::{Path, PathBuf};

use super::super::checkpoint::{Root, encode_entries};
use super::super::dedup::encode_pages;
use super::super::journal::{self, DeadCause, Of, Run};
use super::super::record::{self, Kind, POWER, Record, mark_payload};
use super::super::segment::{Footer, LifeHeader, PRELUDE_BYTES};
use super::{LIFE, meta, sealed, task};
use crate::checkpoint::{BlobRef, Key};
use crate::types::{Beyond, LaneId, LogId, QueueId, Retention, Seq, Timestamp};

/// Salt, base and offset, which the fuzzers take off the front, then the bytes.
fn placed(offset: u32, bytes: &[u8]) -> Vec<u8> {
    [&LIFE.salt.to_le_bytes()[..], &LIFE.base.to_le_bytes(), &offset.to_le_bytes(), bytes].concat()
}

fn records() -> Vec<(&'static str, Vec<u8>)> {
    let mut headers = Vec::new();
    super::super::fields::encode_headers(&mut headers, &[("trace", b"abc")]).unwrap();
    let mark = mark_payload(LIFE.base, 512);
    vec![
        ("task", placed(512, &sealed(LIFE, 512, &Record { flags: POWER, ..task(0, b"", b"a payload") }))),
        ("empty", placed(512, &sealed(LIFE, 512, &task(0, b"", b"")))),
        ("headers", placed(544, &sealed(LIFE, 544, &task(1, &headers, b"with headers")))),
        ("mark", placed(1024, &sealed(LIFE, 1024, &Record { kind: Kind::Mark, ..task(9, b"", &mark) }))),
        ("hole", placed(512, &record::claim_word(LIFE, 512, 64).0.to_le_bytes())),
        ("padding", placed(512, &record::padding_word(LIFE, 512, 64).0.to_le_bytes())),
    ]
}

/// A small life: two tasks, a batch of two, a mark, a hole, a task, and a footer.
fn segment() -> Vec<u8> {
    let header = LifeHeader {
        queue: QueueId(1),
        file: 2,
        size: 4096,
        log: LogId(0),
        base: LIFE.base,
        block: 128,
        salt: LIFE.salt,
        predecessor: 0,
        predecessor_end: 0,
        created: Timestamp(3),
        cold: false,
    };
    let mut bytes = header.encode().to_vec();
    let offset = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap();
    for index in 0..2 {
        bytes.extend(sealed(LIFE, offset(&bytes), &task(index, b"", b"alone")));
    }
    bytes.extend(record::seal_batch(LIFE, offset(&bytes), 32 + 2 * 40, 2, 2, Timestamp(4)));
    for index in 2..4 {
        bytes.extend(sealed(LIFE, offset(&bytes), &Record { flags: record::INNER, ..task(index, b"", b"inner") }));
    }
    let mark = mark_payload(LIFE.base, offset(&bytes));
    bytes.extend(sealed(LIFE, offset(&bytes), &Record { kind: Kind::Mark, ..task(4, b"", &mark) }));
    bytes.extend(record::claim_word(LIFE, offset(&bytes), 32).0.to_le_bytes());
    bytes.resize(bytes.len() + 24, 0);
    bytes.extend(sealed(LIFE, offset(&bytes), &task(5, b"", b"the last")));
    let end = offset(&bytes);
    let footer = Footer {
        base: LIFE.base,
        records: 6,
        tasks: 5,
        end,
        has_ids: true,
        cold: false,
        seek: vec![u32::try_from(PRELUDE_BYTES).unwrap()],
    };
    bytes.extend(footer.encode(LIFE));
    bytes
}

fn segments() -> Vec<(&'static str, Vec<u8>)> {
    let whole = segment();
    let mut damaged = whole.clone();
    damaged[PRELUDE_BYTES + 13] ^= 1;
    let cut = whole[..PRELUDE_BYTES + 100].to_vec();
    vec![("whole", whole), ("damaged", damaged), ("cut", cut), ("zeros", vec![0; 1024])]
}

fn checkpoints() -> Vec<(&'static str, Vec<u8>)> {
    let key = |b| Key { kind: 3, a: 1, b, c: 0 };
    let blob = BlobRef { unit: 1, copies: 1, bytes: 600, check: 7 };
    let root = |meta: Vec<u8>, chunks| Root { queue: QueueId(1), generation: 2, meta, chunks };
    vec![
        ("root", root(meta::meta().encode(), vec![(key(1), blob), (key(2), blob)]).encode().unwrap()),
        ("bare", root(Vec::new(), Vec::new()).encode().unwrap()),
        ("entries", encode_entries([(key(1), blob), (key(9), blob)].into_iter())),
        ("meta", meta::meta().encode()),
        ("ids", encode_pages(&super::dedup::entries(20))),
    ]
}

fn journals() -> Vec<(&'static str, Vec<u8>)> {
    let runs = [Run { lane: LaneId(1), first: Seq(2), count: 3 }];
    let of = Of { group: 4, lane: LaneId(5), seq: Seq(6), attempts: 7 };
    let (mut settles, mut deaths, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    journal::put_reserved(&mut settles, 1, 2, &runs);
    journal::put_acked(&mut settles, 1, &runs);
    journal::put_released(&mut settles, 1, 2, &runs);
    journal::put_retry(&mut deaths, of, Timestamp(8), 9, "again");
    journal::put_dead(&mut deaths, of, DeadCause::MaxAttempts, Timestamp(8), 9, "no more");
    journal::put_started(&mut deaths, 4, LaneId(1), Seq(2));
    journal::put_group_created(&mut groups, 4, "mailers", &[(LaneId(1), Seq(2))]);
    journal::put_group_removed(&mut groups, 4);
    journal::put_group_retains(&mut groups, 4, &Retention::new().tasks(5).beyond(Beyond::Drop));
    vec![("settles", settles), ("deaths", deaths), ("groups", groups)]
}

fn seeds() -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
    let targets =
        [("record", records()), ("segment", segments()), ("checkpoint", checkpoints()), ("journal", journals())];
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    targets.into_iter().flat_map(move |(target, seeds)| {
        let folder = corpus.join(target);
        seeds.into_iter().map(move |(name, bytes)| (folder.join(format!("seed-{name}")), bytes))
    })
}

#[test]
fn fuzz_seeds_are_what_the_encoders_write() {
    for (path, bytes) in seeds() {
        if std::env::var_os("LANELOG_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let there = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(there == bytes, "{}: the format changed; see this file's head", path.display());
    }
}
