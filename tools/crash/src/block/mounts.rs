//! Loop devices and mounts, undone when they are dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::outcome::Skipped;

/// Bytes of a device under test: the least that ext4 has a journal of its usual kind on.
pub const DISK_BYTES: usize = 32 << 20;

/// Why this machine can't do what a mode needs, if it can't.
pub fn means(fuse: bool) -> Result<()> {
    let skip = |why: &str| Err(Skipped(why.to_owned()).into());
    if !rustix::process::geteuid().is_root() {
        return skip("mounting needs root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return skip("there are no loop devices (/dev/loop-control)");
    }
    if fuse && fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return skip("/dev/fuse can't be opened");
    }
    if !Path::new("/dev/shm").is_dir() {
        return skip("there is no /dev/shm for images in memory");
    }
    for tool in ["losetup", "mkfs.ext4"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return skip(&format!("{tool} is not installed"));
        }
    }
    // A container may have all of that and still not be let mount.
    let try_it = || -> Result<()> {
        let disk = Disk::in_memory()?;
        disk.make_file_system()?;
        disk.mount()?.unmount()
    };
    try_it().or_else(|error| skip(&format!("an ext4 file system on a loop device can't be had: {error:#}")))
}

/// A loop device, and the file under it if that is ours.
pub struct Disk {
    device: PathBuf,
    file: PathBuf,
    _own: Option<TempDir>,
}

impl Disk {
    /// Over a file that is there.
    pub fn over(file: &Path) -> Result<Disk> {
        let device = run(Command::new("losetup").arg("--find").arg("--show").arg(file))?;
        Ok(Disk { device: device.trim().into(), file: file.to_owned(), _own: None })
    }

    /// Over an empty file in memory.
    pub fn in_memory() -> Result<Disk> {
        let dir = tempfile::Builder::new().prefix("lanelog-image-").tempdir_in("/dev/shm")?;
        let file = dir.path().join("image");
        fs::File::create(&file)?.set_len(DISK_BYTES as u64)?;
        let mut disk = Disk::over(&file)?;
        disk._own = Some(dir);
        Ok(disk)
    }

    pub fn make_file_system(&self) -> Result<()> {
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-E", options]).arg(&self.device)).map(drop)
    }

    /// Puts other bytes into the file under it.
    pub fn fill(&self, image: &[u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        fs::File::options().write(true).open(&self.file)?.write_all_at(image, 0).context("can't write an image")
    }

    /// Mounts the ext4 on it, which replays its journal.
    pub fn mount(&self) -> Result<Mount> {
        let dir = tempfile::Builder::new().prefix("lanelog-mount-").tempdir()?;
        mount(&self.device, dir.path(), "ext4", MountFlags::NOATIME, None)
            .with_context(|| format!("can't mount {}", self.device.display()))?;
        Ok(Mount { dir: Some(dir) })
    }

    /// Copies the file under it to a place where it can be looked at.
    pub fn keep_file(&self, name: &str) -> Result<PathBuf> {
        Self::keep(&fs::read(&self.file)?, name)
    }

    /// The same for an image.
    pub fn keep(image: &[u8], name: &str) -> Result<PathBuf> {
        let file = std::env::temp_dir().join(format!("lanelog-crash-{}-{name}.img", std::process::id()));
        fs::write(&file, image)?;
        Ok(file)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = run(Command::new("losetup").arg("--detach").arg(&self.device));
    }
}

/// A mounted file system.
pub struct Mount {
    dir: Option<TempDir>,
}

impl Mount {
    pub fn path(&self) -> PathBuf {
        self.dir.as_ref().map_or_else(PathBuf::new, |dir| dir.path().to_owned())
    }

    /// Unmounts it, and says so if that fails.
    pub fn unmount(mut self) -> Result<()> {
        let Some(dir) = self.dir.take() else { return Ok(()) };
        if let Err(error) = unmount_patiently(dir.path()) {
            self.dir = Some(dir);
            bail!("can't unmount {}: {error}", self.path().display());
        }
        Ok(())
    }
}

/// Unmounts, and waits for whoever is on the way out: a process that was killed, a loop device that somebody looks at
/// while it is being given back.
pub fn unmount_patiently(path: &Path) -> rustix::io::Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match unmount(path, UnmountFlags::empty()) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < end => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            let _gone = unmount(dir.path(), UnmountFlags::DETACH);
        }
    }
}

/// Runs a command for its output.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
