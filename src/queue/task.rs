//! A task as a producer hands it in.

use crate::error::{Error, Result};
use crate::format::fields::{FIELDS_BYTES_MAX, encode_headers};
use crate::types::{Durability, LaneId};

/// A task to be enqueued. Borrows its payload and headers; making one allocates nothing without headers.
///
/// ```
/// use lanelog::{Durability, LaneId, Task};
///
/// let task = Task::new("resize cat.jpg").lane(LaneId(1)).header("tenant", "acme").durability(Durability::Process);
/// ```
#[derive(Clone, Debug)]
pub struct Task<'a> {
    pub(super) payload: &'a [u8],
    pub(super) lane: LaneId,
    pub(super) durability: Durability,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Task<'a> {
    /// A task for lane 0 at `Power`. An empty payload is a task like any other.
    pub fn new<P: AsRef<[u8]> + ?Sized>(payload: &'a P) -> Self {
        Task { payload: payload.as_ref(), lane: LaneId(0), durability: Durability::Power, headers: Vec::new() }
    }

    /// The lane it goes to; 0 is the most urgent.
    #[must_use]
    pub fn lane(mut self, lane: LaneId) -> Self {
        self.lane = lane;
        self
    }

    /// When it counts as accepted, and from when on it is delivered: at `Power` not before it is durable.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Adds a header: a name of 1 to 255 bytes, a value of any; all headers together take at most 65,535 bytes.
    #[must_use]
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// The optional fields as they lie in the record.
    #[inline]
    pub(super) fn fields(&self) -> Result<Vec<u8>> {
        let mut fields = Vec::new();
        if self.headers.is_empty() {
            return Ok(fields);
        }
        if let Some((name, _)) = self.headers.iter().find(|(name, _)| name.is_empty() || name.len() > 255) {
            let why = format!("a header's name has 1 to 255 bytes, this one has {}", name.len());
            return Err(Error::InvalidOption { option: "header", why });
        }
        encode_headers(&mut fields, &self.headers)
            .map_err(|bytes| Error::HeadersTooLarge { bytes: bytes as u64, max: FIELDS_BYTES_MAX as u64 })?;
        Ok(fields)
    }
}
