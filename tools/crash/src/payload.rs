//! Payloads that say who they are: whoever reads one can tell whether a byte of it is wrong, without a list.

use crate::rng::Rng;

/// Bytes before the filling: unit, index, count.
const TAG_BYTES: usize = 12;

/// Which task a payload belongs to. A unit is what one call enqueued: a task, or a batch of several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag {
    pub unit: u64,
    pub index: u16,
    pub count: u16,
}

impl Tag {
    /// The payload: the tag, and a filling whose length and bytes follow from it.
    pub fn payload(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TAG_BYTES + 64);
        bytes.extend(self.unit.to_le_bytes());
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        let mut rng = Rng::new(self.unit ^ (u64::from(self.index) << 48));
        let filling = if rng.chance(1, 24) { rng.below(1_500) } else { rng.below(150) };
        for _ in 0..filling {
            bytes.push(rng.next().to_le_bytes().first().copied().unwrap_or_default());
        }
        bytes
    }

    /// Reads a payload back; `None` if any byte of it is not what was enqueued.
    pub fn read(payload: &[u8]) -> Option<Tag> {
        let (unit, rest) = payload.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let count = rest.first_chunk()?;
        let tag = Tag {
            unit: u64::from_le_bytes(*unit),
            index: u16::from_le_bytes(*index),
            count: u16::from_le_bytes(*count),
        };
        (tag.payload() == payload).then_some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::Tag;

    #[test]
    fn every_flipped_bit_of_a_payload_is_noticed() {
        let tag = Tag { unit: 0x0102_0304, index: 2, count: 5 };
        let payload = tag.payload();
        assert_eq!(Tag::read(&payload), Some(tag));
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Tag::read(&flipped), Some(tag), "bit {bit}");
        }
    }
}
