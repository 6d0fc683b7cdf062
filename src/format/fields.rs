//! Optional fields of a task, between its header and its payload.
//!
//! A sequence of items: tag (1 byte), length (2 bytes), that many bytes. Tag 1 is one header of the task: name
//! length (1 byte), name in UTF-8, value. A reader skips tags it does not know, so that later fields (key,
//! delay, expiry, dedup id) need no new version. Covered by the record's body check; valid if and only if the
//! items end exactly where the fields end.

use super::wire::Reader;

/// Most bytes that a task's fields can take.
pub(crate) const FIELDS_BYTES_MAX: usize = 65_535;
const TAG_HEADER: u8 = 1;

/// Appends headers to `out`. Fails with the bytes that would be needed if a name or the whole does not fit.
pub(crate) fn encode_headers(out: &mut Vec<u8>, headers: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Result<(), usize> {
    let needed: usize = headers.iter().map(|(name, value)| 4 + name.as_ref().len() + value.as_ref().len()).sum();
    if needed + out.len() > FIELDS_BYTES_MAX {
        return Err(needed + out.len());
    }
    for (name, value) in headers {
        let (name, value) = (name.as_ref(), value.as_ref());
        let Ok(name_bytes) = u8::try_from(name.len()) else { return Err(FIELDS_BYTES_MAX + name.len()) };
        // Fits: checked against the whole above.
        let length = u16::try_from(1 + name.len() + value.len()).map_err(|_| needed)?;
        out.push(TAG_HEADER);
        out.extend_from_slice(&length.to_le_bytes());
        out.push(name_bytes);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
    }
    Ok(())
}

/// A task's headers, in the order they were given. What is malformed ends the list.
pub(crate) fn headers(fields: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut from = Reader::new(fields);
    let items = std::iter::from_fn(move || {
        let (tag, length) = (from.u8()?, from.u16()?);
        Some((tag, from.bytes(usize::from(length))?))
    });
    items.filter(|(tag, _)| *tag == TAG_HEADER).map_while(|(_, item)| {
        let mut from = Reader::new(item);
        let name_bytes = from.u8()?;
        let name = std::str::from_utf8(from.bytes(usize::from(name_bytes))?).ok()?;
        let left = from.left();
        Some((name, from.bytes(left)?))
    })
}
