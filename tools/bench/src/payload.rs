//! Payloads that say which they are, and the ledger that holds what came against what was acknowledged.
//!
//! A payload is a stamp (producer, number, time) and bytes that no compression shrinks, of one of [`PATTERNS`] patterns,
//! chosen by its number. So a producer stamps a buffer that is ready, and a consumer compares with a pattern: both cost
//! the same for every engine, and next to nothing.

use crate::row::count;

/// How many different contents there are; also the most tasks of a batch.
pub const PATTERNS: usize = 64;

/// The least bytes of a payload: those of its stamp.
pub const STAMP_BYTES: usize = 20;

/// Which task a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who sent it, from 0.
    pub producer: u32,
    /// The producer's tasks are numbered from 0, without gaps.
    pub number: u64,
    /// When it was sent, or due, by [`crate::clock`].
    pub at_ns: u64,
}

/// The contents, of one size.
pub struct Patterns(Vec<Vec<u8>>);

impl Patterns {
    /// Of payloads of so many bytes, stamp included.
    pub fn new(payload_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut byte = || {
            // Xorshift: incompressible is all that is asked.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        Patterns((0..PATTERNS).map(|_| (0..payload_bytes.max(STAMP_BYTES)).map(|_| byte()).collect()).collect())
    }

    /// The stamp of a payload whose content is what its number asks for.
    pub fn check(&self, payload: &[u8]) -> Option<Stamp> {
        let stamp = stamp_of(payload)?;
        let pattern = self.0.get(usize::try_from(stamp.number).ok()? % PATTERNS)?;
        (payload.len() == pattern.len() && payload.get(STAMP_BYTES..) == pattern.get(STAMP_BYTES..)).then_some(stamp)
    }

    /// For one producer.
    pub fn writer(&self, producer: usize) -> Writer {
        let producer = u32::try_from(producer).unwrap_or(u32::MAX);
        Writer { buffers: self.0.clone(), producer, next: 0 }
    }
}

fn stamp_of(payload: &[u8]) -> Option<Stamp> {
    let (producer, rest) = payload.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (at, _) = rest.split_first_chunk()?;
    Some(Stamp {
        producer: u32::from_le_bytes(*producer),
        number: u64::from_le_bytes(*number),
        at_ns: u64::from_le_bytes(*at),
    })
}

/// One producer's payloads, in order.
pub struct Writer {
    buffers: Vec<Vec<u8>>,
    producer: u32,
    /// The number of the next payload: how many there were.
    pub next: u64,
}

impl Writer {
    /// Stamps so many payloads and shows them all at once. At most [`PATTERNS`].
    pub fn with<T>(&mut self, tasks: usize, at_ns: u64, show: impl FnOnce(&[&[u8]]) -> T) -> T {
        let tasks = tasks.min(PATTERNS);
        let first = self.index(self.next);
        for _ in 0..tasks {
            self.stamp(at_ns);
        }
        let mut views: [&[u8]; PATTERNS] = [&[]; PATTERNS];
        let ring = self.buffers.iter().cycle().skip(first);
        for (view, buffer) in views.iter_mut().zip(ring).take(tasks) {
            *view = buffer;
        }
        show(views.get(..tasks).unwrap_or_default())
    }

    fn stamp(&mut self, at_ns: u64) {
        let index = self.index(self.next);
        let stamped = self.buffers.get_mut(index).and_then(|buffer| {
            let (producer, rest) = buffer.split_first_chunk_mut()?;
            let (number, rest) = rest.split_first_chunk_mut()?;
            let (at, _) = rest.split_first_chunk_mut()?;
            (*producer, *number, *at) = (self.producer.to_le_bytes(), self.next.to_le_bytes(), at_ns.to_le_bytes());
            Some(())
        });
        debug_assert!(stamped.is_some(), "each buffer has room for a stamp");
        self.next += 1;
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % (PATTERNS as u64)).unwrap_or(0)
    }
}

/// What one consumer saw.
#[derive(Default)]
pub struct Ledger {
    /// For each producer a bit for each of its tasks.
    seen: Vec<Vec<u64>>,
    /// Distinct tasks that were seen.
    pub tasks: u64,
    doubled: u64,
    /// Payloads that no producer sent.
    foreign: u64,
}

impl Ledger {
    /// Enters a payload; gives its stamp if it is one that somebody sent.
    pub fn enter(&mut self, patterns: &Patterns, payload: &[u8]) -> Option<Stamp> {
        let Some(stamp) = patterns.check(payload) else {
            self.foreign += 1;
            return None;
        };
        let producer = usize::try_from(stamp.producer).unwrap_or(usize::MAX);
        let word = usize::try_from(stamp.number / 64).unwrap_or(usize::MAX);
        if producer >= 1 << 16 || word >= 1 << 32 {
            self.foreign += 1;
            return None;
        }
        if self.seen.len() <= producer {
            self.seen.resize_with(producer + 1, Vec::new);
        }
        if let Some(words) = self.seen.get_mut(producer) {
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                let bit = 1 << (stamp.number % 64);
                let new = u64::from(*word & bit == 0);
                self.tasks += new;
                self.doubled += 1 - new;
                *word |= bit;
            }
        }
        Some(stamp)
    }

    /// Adds what another consumer saw.
    pub fn add(&mut self, other: &Ledger) {
        self.doubled += other.doubled;
        self.foreign += other.foreign;
        if self.seen.len() < other.seen.len() {
            self.seen.resize_with(other.seen.len(), Vec::new);
        }
        for (words, more) in self.seen.iter_mut().zip(&other.seen) {
            if words.len() < more.len() {
                words.resize(more.len(), 0);
            }
            for (word, &bits) in words.iter_mut().zip(more) {
                let both = u64::from((*word & bits).count_ones());
                self.doubled += both;
                self.tasks += u64::from(bits.count_ones()) - both;
                *word |= bits;
            }
        }
    }

    /// Holds it against how many tasks of each producer were acknowledged. Says what is wrong.
    ///
    /// # Errors
    /// What is missing, came twice, or was never sent.
    pub fn audit(&self, acknowledged: &[u64]) -> Result<(), String> {
        let due: u64 = acknowledged.iter().sum();
        let all_came = acknowledged
            .iter()
            .enumerate()
            .all(|(producer, &tasks)| self.seen.get(producer).map_or(0, |words| prefix(words)) >= tasks);
        if all_came && self.doubled == 0 && self.foreign == 0 {
            return Ok(());
        }
        let share = 100.0 * count(self.tasks.min(due)) / count(due.max(1));
        Err(format!(
            "{} of {due} acknowledged tasks came ({share:.1} %), {} came again, {} had another content",
            self.tasks, self.doubled, self.foreign
        ))
    }
}

/// How many bits from the first on are set.
fn prefix(words: &[u64]) -> u64 {
    let mut bits = 0;
    for word in words {
        bits += u64::from(word.trailing_ones());
        if *word != u64::MAX {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(patterns: &Patterns, tasks: usize) -> Vec<Vec<u8>> {
        let mut writer = patterns.writer(1);
        (0..tasks)
            .flat_map(|at| writer.with(1, at as u64, |all| all.iter().map(|one| one.to_vec()).collect::<Vec<_>>()))
            .collect()
    }

    #[test]
    fn batch_is_stamped_in_order() {
        let patterns = Patterns::new(100);
        let mut writer = patterns.writer(3);
        writer.with(60, 5, |_| ());
        let numbers = writer.with(10, 7, |tasks| tasks.iter().map(|task| patterns.check(task)).collect::<Vec<_>>());
        let expected = (60..70).map(|number| Some(Stamp { producer: 3, number, at_ns: 7 })).collect::<Vec<_>>();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn ledger_finds_what_is_missing_doubled_or_changed() {
        let patterns = Patterns::new(64);
        let payloads = sent(&patterns, 130);
        let audit = |payloads: &[Vec<u8>]| {
            let mut ledger = Ledger::default();
            for payload in payloads {
                ledger.enter(&patterns, payload);
            }
            ledger.audit(&[0, 130])
        };
        assert_eq!(audit(&payloads), Ok(()));
        assert!(audit(&payloads[1..]).unwrap_err().starts_with("129 of 130 "));
        let doubled = [payloads.clone(), vec![payloads[5].clone()]].concat();
        assert!(audit(&doubled).unwrap_err().contains("1 came again"));
        for byte in [0, 4, 20, 63] {
            let mut changed = payloads.clone();
            changed[7][byte] ^= 1;
            assert!(audit(&changed).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn two_consumers_together_saw_everything_once() {
        let patterns = Patterns::new(64);
        let payloads = sent(&patterns, 100);
        let mut ledgers = [Ledger::default(), Ledger::default()];
        for (index, payload) in payloads.iter().enumerate() {
            ledgers[usize::from(index % 3 == 0)].enter(&patterns, payload);
        }
        let [mut first, second] = ledgers;
        first.add(&second);
        assert_eq!((first.tasks, first.audit(&[0, 100])), (100, Ok(())));
        first.add(&second);
        assert!(first.audit(&[0, 100]).is_err());
    }
}
