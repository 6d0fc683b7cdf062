//! What kind of file system holds the directory, by the magic numbers of statfs(2).

use std::io;
use std::os::fd::OwnedFd;

use crate::storage::Medium;

/// What holds `dir`.
pub(super) fn of(dir: &OwnedFd) -> io::Result<Medium> {
    let magic = rustix::fs::fstatfs(dir)?.f_type;
    // The width of the field differs between platforms; the magic numbers are 32-bit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers are 32 bits wide")]
    let magic = magic as u32;
    let known = KINDS.iter().find(|(number, _)| *number == magic);
    Ok(known.map_or(Medium::Local, |(_, medium)| *medium))
}

const KINDS: &[(u32, Medium)] = &[
    (0x0102_1994, Medium::Volatile("tmpfs")),
    (0x8584_58f6, Medium::Volatile("ramfs")),
    (0x794c_7630, Medium::Foreign("overlayfs")),
    (0x0000_6969, Medium::Foreign("nfs")),
    (0xff53_4d42, Medium::Foreign("cifs")),
    (0xfe53_4d42, Medium::Foreign("smb2")),
    (0x6573_5546, Medium::Foreign("fuse")),
    (0x0102_1997, Medium::Foreign("9p")),
    (0x00c3_6400, Medium::Foreign("ceph")),
    (0x9123_683e, Medium::CopyOnWrite),
    (0xca45_1a4e, Medium::CopyOnWrite),
    (0x2fc1_2fc1, Medium::CopyOnWrite),
];
