//! System calls that fail from now on, as a scene asks the kernel for.
#![expect(unsafe_code, reason = "a filter of system calls has no safe face")]

use libc::{c_long, c_ulong, sock_filter, sock_fprog};

/// A system call that fails from now on.
#[derive(Clone, Copy)]
pub struct Failing {
    pub call: c_long,
    pub only: Only,
    pub errno: i32,
}

/// Which calls of that name.
#[derive(Clone, Copy)]
pub enum Only {
    All,
    /// Those whose argument of this number is one of these two.
    With {
        argument: u32,
        either: [u32; 2],
    },
    /// Those whose argument of this number has one of these bits.
    Bits {
        argument: u32,
        bits: u32,
    },
}

/// Makes calls fail, in every thread of this process and for good. The kernel does nothing of what they ask for.
pub fn fail(failing: &[Failing]) {
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const HAS: u16 = 0x45;
    const ANSWER: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let mut program = Vec::new();
    for one in failing {
        let number = u32::try_from(one.call).unwrap();
        let answer = step(ANSWER, ERRNO | one.errno.unsigned_abs(), 0, 0);
        // The low half of an argument; the number of the call lies at 0.
        let argument = |at: u32| step(LOAD, 16 + 8 * at, 0, 0);
        program.push(step(LOAD, 0, 0, 0));
        match one.only {
            Only::All => program.extend([step(IS, number, 0, 1), answer]),
            Only::With { argument: at, either: [a, b] } => {
                program.extend([step(IS, number, 0, 4), argument(at), step(IS, a, 1, 0), step(IS, b, 0, 1), answer])
            }
            Only::Bits { argument: at, bits } => {
                program.extend([step(IS, number, 0, 3), argument(at), step(HAS, bits, 0, 1), answer]);
            }
        }
    }
    program.push(step(ANSWER, ALLOW, 0, 0));
    let program = sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    const SET_MODE_FILTER: c_ulong = 1;
    const ALL_THREADS: c_ulong = 1;
    // SAFETY: numbers alone.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0, "no new privileges");
    // SAFETY: the program lives through the call, which copies it.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, ALL_THREADS, &raw const program) };
    assert_eq!(set, 0, "a filter of system calls: {}", std::io::Error::last_os_error());
}
