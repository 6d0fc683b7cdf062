//! A value with cache lines of its own.

use std::ops::Deref;

/// What one side writes often and the other side doesn't read: on a line with other things it would take these away from
/// whoever reads them, and have to be fetched back for each write. Two lines, for cores fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(T);

impl<T> Line<T> {
    pub(crate) fn new(value: T) -> Self {
        Line(value)
    }
}

impl<T> Deref for Line<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
