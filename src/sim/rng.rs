//! Where choices come from: a seed, or bytes that somebody else chose.

/// A stream of choices.
pub(super) trait Choices {
    /// Any number.
    fn next(&mut self) -> u64;

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64;

    /// True once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Choices for Rng {
    fn next(&mut self) -> u64 {
        Rng::next(self)
    }

    fn below(&mut self, bound: u64) -> u64 {
        Rng::below(self, bound)
    }
}

/// Bytes as choices, as few for each as its bound needs. At its end every choice is the first one, and nothing rare
/// happens any more.
pub(super) struct Tape<'a>(pub &'a [u8]);

impl Tape<'_> {
    fn number(&mut self, bytes: usize) -> u64 {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl Choices for Tape<'_> {
    fn next(&mut self) -> u64 {
        self.number(8)
    }

    fn below(&mut self, bound: u64) -> u64 {
        let bytes = match bound {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        self.number(bytes) % bound.max(1)
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }
}
