//! Calls that are made to fail, and the errors that each can have.

/// A verb of the storage traits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Call {
    List,
    Create,
    Open,
    Remove,
    SyncDir,
    Read,
    Write,
    Truncate,
    Sync,
    Map,
}

impl Call {
    /// It changes or syncs something.
    pub(super) fn is_operation(self) -> bool {
        !matches!(self, Call::List | Call::Open | Call::Read | Call::Map)
    }

    /// The errors that it can end in.
    pub(crate) fn errors(self) -> &'static [i32] {
        match self {
            Call::List | Call::Open => &[EIO, EMFILE],
            Call::Create => &[ENOSPC, EDQUOT, EMFILE, EIO],
            Call::Remove | Call::SyncDir | Call::Read | Call::Truncate => &[EIO],
            Call::Write | Call::Sync => &[EIO, ENOSPC, EDQUOT],
            Call::Map => &[ENOMEM],
        }
    }
}

/// Input/output error.
pub(crate) const EIO: i32 = 5;
/// Cannot allocate memory.
pub(crate) const ENOMEM: i32 = 12;
/// Too many open files.
pub(crate) const EMFILE: i32 = 24;
/// No space left on device.
pub(crate) const ENOSPC: i32 = 28;
/// Disk quota exceeded.
pub(crate) const EDQUOT: i32 = 122;

/// Which calls are to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    This,
    /// All from it on.
    Onwards,
    /// So many of the next calls of a kind, behind so many others.
    Next {
        call: Call,
        skipped: u8,
        times: u8,
    },
}

/// A call that is to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failing {
    /// Number of the call, from 0.
    pub at: u64,
    /// Which of the errors that the call can have; counted around.
    pub choice: usize,
    pub which: Which,
}

impl Failing {
    /// The error of a call, if it is to fail. What is to fail once is forgotten then.
    pub(super) fn strikes(failing: &mut Option<Failing>, number: u64, call: Call) -> Option<i32> {
        let own = failing.filter(|own| match own.which {
            Which::This => number == own.at,
            Which::Onwards => number >= own.at,
            Which::Next { call: next, .. } => number >= own.at && call == next,
        })?;
        if let Which::Next { call, skipped, times } = own.which {
            let (skipped, left) = (skipped.saturating_sub(1), times.saturating_sub(u8::from(skipped == 0)));
            *failing = (left > 0).then_some(Failing { which: Which::Next { call, skipped, times: left }, ..own });
            if left == times {
                return None;
            }
        }
        let errors = call.errors();
        Some(errors.get(own.choice % errors.len()).copied().unwrap_or(EIO))
    }
}
