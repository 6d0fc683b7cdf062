//! Creating, opening, reading and removing files.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::{DiskStorage, clock, fork};
use super::{Place, mode};
use crate::error::Error;
use crate::storage::{LOCK_FILE, Medium, Prepare, Storage};

const ALL: [Prepare; 3] = [Prepare::Small, Prepare::Large, Prepare::Rare];

#[test]
fn created_file_is_zero_filled_allocated_and_its_owners_alone() {
    for prepare in ALL {
        for len in [1, 512, 4096, 10_000, 1 << 20] {
            let place = Place::new();
            let file = place.open().create("f", len, prepare).unwrap();
            assert_eq!(file.len().unwrap(), len);
            let mut bytes = vec![1; usize::try_from(len).unwrap()];
            file.read_at(0, &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0), "{prepare:?}, {len} bytes");
            assert_eq!(mode(&place.of("f")), 0o600);
            let blocks = std::fs::metadata(place.of("f")).unwrap().blocks();
            assert!(blocks * 512 >= len, "no store into the map can meet a full disk: {prepare:?}, {len} bytes");
        }
    }
}

#[test]
fn directory_is_made_with_its_parents_for_its_owner_alone() {
    let place = Place::new();
    let deep = place.of("a").join("b");
    DiskStorage::open(&deep).unwrap();
    for path in [&place.path, &place.of("a"), &deep] {
        assert_eq!(mode(path), 0o700);
    }
}

#[test]
fn name_that_exists_is_not_created_again() {
    let place = Place::new();
    let disk = place.open();
    for prepare in ALL {
        std::fs::write(place.of("f"), b"there already").unwrap();
        let error = disk.create("f", 512, prepare).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(place.of("f")).unwrap(), b"there already", "and stays as it was");
    }
    symlink(place.of("elsewhere"), place.of("link")).unwrap();
    assert!(disk.create("link", 512, Prepare::Small).is_err());
    assert!(!place.of("elsewhere").exists(), "nothing is created through a link");
}

#[test]
fn create_that_fails_leaves_no_file() {
    let place = Place::new();
    let disk = place.open();
    for len in [1 << 62, u64::MAX] {
        assert!(disk.create("huge", len, Prepare::Rare).is_err());
        assert_eq!(disk.list().unwrap(), [LOCK_FILE], "{len} bytes");
    }
    assert!(disk.create("huge", 512, Prepare::Rare).is_ok(), "the name is free");
}

#[test]
fn links_are_not_followed() {
    let place = Place::new();
    let disk = place.open();
    std::fs::write(place.of("target"), b"secret").unwrap();
    for to in ["target", "nothing"] {
        symlink(place.of(to), place.of(&format!("to-{to}"))).unwrap();
        assert!(disk.open(&format!("to-{to}")).is_err(), "{to}");
    }
    let looking = DiskStorage::open_read_only(&place.path).unwrap();
    assert!(looking.open("to-target").is_err());
    assert!(looking.open("target").is_ok());
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let place = Place::new();
    let disk = place.open();
    std::fs::create_dir(place.of("directory")).unwrap();
    mknodat(CWD, place.of("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(place.of("socket")).unwrap();
    let looking = DiskStorage::open_read_only(&place.path).unwrap();
    for name in ["directory", "fifo", "socket"] {
        for (disk, how) in [(&disk, "locked"), (&looking, "looking")] {
            assert!(disk.open(name).is_err(), "{name}, {how}");
        }
    }
    drop(socket);
}

#[test]
fn file_of_somebody_else_is_refused() {
    let place = Place::new();
    let disk = place.open();
    disk.create("theirs", 512, Prepare::Small).unwrap();
    // Only root can give a file away; for others there is nothing to test.
    if std::os::unix::fs::chown(place.of("theirs"), Some(12_345), None).is_ok() {
        assert_eq!(disk.open("theirs").err().unwrap().kind(), ErrorKind::PermissionDenied);
    }
}

#[test]
fn file_that_is_absent_is_not_found() {
    let place = Place::new();
    let disk = place.open();
    assert_eq!(disk.open("absent").err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove("absent").err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn bytes_are_read_where_they_were_written_and_a_short_read_is_an_error() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", 100, Prepare::Small).unwrap();
    file.write_at(90, &[7; 20]).unwrap();
    assert_eq!(file.len().unwrap(), 110, "writing grows the file");
    let mut bytes = [0; 20];
    file.read_at(90, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 20]);
    for offset in [91, 110, 111, 1 << 40] {
        let error = file.read_at(offset, &mut bytes).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "at {offset}");
    }
    file.truncate(95).unwrap();
    assert_eq!(file.read_at(90, &mut bytes).err().unwrap().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(disk.open("f").unwrap().len().unwrap(), 95, "for every handle");
    assert!(file.read_at(1 << 40, &mut []).is_ok(), "nothing can be read anywhere");
}

#[test]
fn removed_name_is_gone_and_its_handle_goes_on() {
    let place = Place::new();
    let disk = place.open();
    let file = disk.create("f", 16, Prepare::Small).unwrap();
    file.write_at(0, &[3; 16]).unwrap();
    disk.remove("f").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.list().unwrap(), [LOCK_FILE]);
    let mut bytes = [0; 16];
    file.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [3; 16]);
    file.sync().unwrap();
}

#[test]
fn list_names_everything_and_nothing_twice() {
    let place = Place::new();
    let disk = place.open();
    for number in 0..300 {
        std::fs::write(place.of(&format!("{number:03}")), b"").unwrap();
    }
    for _ in 0..2 {
        let mut names = disk.list().unwrap();
        names.sort();
        let mut expected: Vec<_> = (0..300).map(|number| format!("{number:03}")).collect();
        expected.push(LOCK_FILE.to_owned());
        assert_eq!(names, expected, "also the second time");
    }
}

#[test]
fn who_looks_changes_nothing() {
    let place = Place::new();
    place.open().create("f", 64, Prepare::Small).unwrap();
    let looking = DiskStorage::open_read_only(&place.path).unwrap();
    let refused = |outcome: std::io::Result<()>| outcome.err().unwrap().kind() == ErrorKind::PermissionDenied;
    assert!(refused(looking.create("g", 64, Prepare::Small).map(drop)));
    assert!(refused(looking.remove("f")) && refused(looking.sync_dir()));
    let file = looking.open("f").unwrap();
    assert!(file.write_at(0, &[1]).is_err() && file.truncate(1).is_err());
    let mut names = looking.list().unwrap();
    names.sort();
    assert_eq!(names, [LOCK_FILE, "f"]);
    assert_eq!(std::fs::read(place.of("f")).unwrap(), [0; 64]);
}

#[test]
fn path_that_is_no_directory_is_no_queue() {
    let place = Place::new();
    assert!(matches!(DiskStorage::open_read_only(&place.path), Err(Error::NotAQueue { .. })));
    assert!(!place.path.exists(), "looking makes nothing");
    std::fs::write(&place.path, b"a file").unwrap();
    for path in [&place.path, &place.of("below")] {
        assert!(matches!(DiskStorage::open(path), Err(Error::NotAQueue { .. })), "{}", path.display());
    }
    assert_eq!(std::fs::read(&place.path).unwrap(), b"a file");
}

#[test]
fn file_system_in_memory_is_recognised() {
    let shared = std::path::Path::new("/dev/shm");
    let Ok(dir) = tempfile::TempDir::new_in(shared) else { return };
    // A machine may mount something else there; the kernel's own list says what.
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_tmpfs = mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq(["/dev/shm", "tmpfs"]));
    let medium = DiskStorage::open(dir.path()).unwrap().medium();
    assert_eq!(medium == Medium::Volatile("tmpfs"), is_tmpfs, "{medium:?}");
}

#[test]
fn random_bits_differ() {
    let place = Place::new();
    let disk = place.open();
    let bits: std::collections::BTreeSet<u64> = (0..1000).map(|_| disk.random()).collect();
    assert_eq!(bits.len(), 1000);
}

#[test]
fn clocks_go_forward_and_the_coarse_one_follows_the_fine_one() {
    let (before, nanos) = (clock::now(), clock::nanos());
    let coarse = clock::coarse_wall();
    let after = clock::now();
    assert!(after.boot_ms >= before.boot_ms && clock::nanos() >= nanos);
    assert!(nanos / 1_000_000 >= before.boot_ms, "one clock in two units");
    assert!(coarse <= after.wall && coarse.0 + 100 > before.wall.0, "wall time, at most a few ticks late");
    assert!(before.wall.0 > 1_600_000_000_000, "milliseconds since 1970");
}

#[test]
fn parent_is_no_child() {
    let guard = fork::ForkGuard::new().unwrap();
    assert!(!guard.is_child());
    std::thread::scope(|scope| scope.spawn(|| assert!(!guard.is_child(), "nor is its thread")).join().unwrap());
}
