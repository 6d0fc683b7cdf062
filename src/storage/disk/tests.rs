//! The real disk, in a directory of its own.

mod files;
mod lock;
mod maps;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::DiskStorage;

/// A directory that goes when the test ends, with a queue's directory in it.
struct Place {
    _dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("queue");
        Place { _dir: dir, path }
    }

    fn open(&self) -> DiskStorage {
        DiskStorage::open(&self.path).expect("a directory that nobody has open")
    }

    fn of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A handle that the storage knows nothing of.
#[expect(clippy::disallowed_methods, reason = "the test plays somebody who meddles with the directory")]
fn meddle(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}
