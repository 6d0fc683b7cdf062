//! The simulated disk does to files what it says it does.

use crate::sim::disk::{Loss, SimDisk};
use crate::storage::{Prepare, Storage};

const EIO: i32 = 5;

fn disk_with_file(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create("f", 2048, Prepare::Small).unwrap();
    disk.sync_dir().unwrap();
    disk
}

fn read(disk: &SimDisk) -> Vec<u8> {
    let file = disk.open("f").unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn synced_bytes_survive_power_loss_and_unsynced_ones_may() {
    let (mut kept, mut gone) = (false, false);
    for seed in 0..64 {
        let disk = disk_with_file(seed);
        let file = disk.open("f").unwrap();
        file.write_at(0, &[1; 512]).unwrap();
        file.sync().unwrap();
        file.write_at(512, &[2; 512]).unwrap();
        assert_eq!(read(&disk.restart(Loss::Process))[512], 2, "a process's death takes nothing");
        let after = read(&disk.restart(Loss::Power));
        assert_eq!(after[..512], [1; 512]);
        kept |= after[512] == 2;
        gone |= after[512] == 0;
    }
    assert!(kept && gone, "both outcomes occur");
}

#[test]
fn failed_sync_loses_bytes_that_the_cache_still_shows_and_a_rewrite_saves_them() {
    let (mut reverted, mut saved) = (false, true);
    for seed in 0..64 {
        for rewrite in [false, true] {
            let disk = disk_with_file(seed);
            let file = disk.open("f").unwrap();
            file.write_at(0, &[7; 2048]).unwrap();
            disk.fail_at(disk.operations(), EIO);
            assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
            let next = disk.restart(Loss::Process);
            let file = next.open("f").unwrap();
            assert_eq!(read(&next), [7; 2048], "the cache goes on showing them");
            if rewrite {
                file.write_at(0, &[7; 2048]).unwrap();
            }
            file.sync().unwrap();
            let whole = read(&next.restart(Loss::Power)) == [7; 2048];
            if rewrite {
                saved &= whole;
            } else {
                reverted |= !whole;
            }
        }
    }
    assert!(reverted, "a sync that says OK does not bring them back");
    assert!(saved, "writing them again does");
}

#[test]
fn names_are_volatile_until_the_directory_is_synced() {
    let (mut created, mut lost, mut back) = (false, false, false);
    for seed in 0..64 {
        let disk = disk_with_file(seed);
        disk.create("g", 512, Prepare::Small).unwrap();
        disk.remove("f").unwrap();
        let names: Vec<String> = disk.restart(Loss::Power).files().into_iter().map(|(name, _)| name).collect();
        created |= names.contains(&"g".to_owned());
        lost |= !names.contains(&"g".to_owned());
        back |= names.contains(&"f".to_owned());
    }
    assert!(created && lost && back);
}

#[test]
fn same_seed_gives_the_same_run() {
    let run = |seed| {
        let disk = disk_with_file(seed);
        let file = disk.open("f").unwrap();
        for at in 0..20 {
            file.write_at(at * 64, &[u8::try_from(at).unwrap(); 64]).unwrap();
        }
        (read(&disk.restart(Loss::Power)), disk.random())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn nothing_happens_after_the_crash_point() {
    let disk = disk_with_file(1);
    let file = disk.open("f").unwrap();
    disk.crash_at(disk.operations());
    assert!(file.write_at(0, &[9; 8]).is_err() && file.sync().is_err() && disk.sync_dir().is_err());
    assert_eq!(read(&disk.restart(Loss::Process)), [0; 2048]);
}
