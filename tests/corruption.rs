//! Promise: any single flipped bit in durable data is detected, named and contained: the rest is served.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::os::unix::fs::FileExt;

use lanelog::{DamageKind, Queue, Task, inspect};
use support::{drain, place, small, texts};

fn flip(path: &std::path::Path, offset: u64, bit: u8) {
    let file = std::fs::OpenOptions::new();
    let file = open(file, path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test plays the failing disk")]
fn open(mut options: std::fs::OpenOptions, path: &std::path::Path) -> std::fs::File {
    options.read(true).write(true).open(path).unwrap()
}

#[test]
fn a_flipped_bit_is_reported_by_verify_and_by_damage_with_lane_and_sequence_and_the_rest_is_delivered() {
    for clean in [true, false] {
        let place = place();
        let queue = small().open(&place.path).unwrap();
        let ids: Vec<_> = (0..100).map(|n| queue.enqueue(Task::new(&format!("task {n}"))).unwrap()).collect();
        queue.sync().unwrap();
        if clean {
            queue.close().unwrap();
        } else {
            drop(queue);
        }
        assert_eq!(inspect(&place.path).unwrap().verify(), []);
        let mut records = Vec::new();
        inspect(&place.path).unwrap().for_each_task(|task| records.push(task));
        assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), ids);
        let victim = &records[41];
        // In the header, in the payload.
        for offset in [9, 33] {
            let file = place.path.join(&victim.file);
            flip(&file, victim.offset + offset, 3);
            let found = inspect(&place.path).unwrap().verify();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].kind, found[0].lane), (DamageKind::Corrupt, Some(victim.id.lane())));
            assert_eq!(found[0].lost, Some((victim.id.seq(), victim.id.seq())), "clean {clean}: {found:?}");
            flip(&file, victim.offset + offset, 3);
        }
        flip(&place.path.join(&victim.file), victim.offset + 33, 0);
        let queue = Queue::open(&place.path).unwrap();
        let left = texts(&drain(&queue));
        assert_eq!(left.len(), 99);
        assert!(!left.contains("task 41"));
        let damage = queue.damage();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(
            (damage[0].lane, damage[0].lost),
            (Some(victim.id.lane()), Some((victim.id.seq(), victim.id.seq())))
        );
    }
}
