//! To be nobody in particular: root is refused nothing.
#![expect(unsafe_code, reason = "the user of a whole process has no safe face")]

/// The user and the group that own nothing.
pub const NOBODY: u32 = 65_534;

/// Makes this process, which is root's, nobody's.
pub fn become_nobody() {
    // SAFETY: numbers alone; a group's list of none has no pointer.
    let ids = unsafe { [libc::setgroups(0, std::ptr::null()), libc::setgid(NOBODY), libc::setuid(NOBODY)] };
    assert_eq!(ids, [0, 0, 0], "root may be anybody");
}
