//! Which calls a thread may make (`seccomp(2)`).
//!
//! The server judges every call before it runs it. The shim is in the program's hands, so it is not asked: a thread with a filter gets no
//! local answers (`LocalAnswers::traced`), and its process no shared files; what a program does in spite of that, with the shim's code
//! but not its rules, is to look at what it has in its own memory already.
//!
//! A filter can only be added to, never be taken away; threads that a thread makes, and programs that it executes, have it too.

pub mod program;

use crate::budget::{Charge, Kind};
use crate::errno::{Errno, Result};
use crate::process::Thread;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use program::{Data, Instruction, Program};

/// The instructions that may be run for one call, together with [`FILTER_COST`] for each filter before (`MAX_INSNS_PER_PATH`).
const MAX_COST: usize = 32768;
const FILTER_COST: usize = 4;
/// What an instruction takes of the server's memory, about, in bytes, and what a filter does besides.
const INSTRUCTION_BYTES: u64 = 24;
const FILTER_BYTES: u64 = 128;
/// `AUDIT_ARCH_X86_64`.
pub const ARCHITECTURE: u32 = 0xc000_003e;

/// What is allowed to a thread.
#[derive(Clone, Default)]
pub enum Mode {
    /// Everything.
    #[default]
    Off,
    /// `read`, `write`, `exit` and `rt_sigreturn`.
    Strict,
    /// What a filter allows.
    Filter(Rc<Filter>),
}

impl Mode {
    /// Whether everything is allowed.
    pub fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// Its number, as `PR_GET_SECCOMP` and `/proc` tell it.
    pub fn number(&self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Strict => 1,
            Self::Filter(_) => 2,
        }
    }

    /// How many filters there are.
    pub fn filters(&self) -> usize {
        self.filter().map_or(0, |filter| filter.chain().count())
    }

    fn filter(&self) -> Option<&Rc<Filter>> {
        match self {
            Self::Filter(filter) => Some(filter),
            Self::Off | Self::Strict => None,
        }
    }

    /// Whether a thread with this may get `other` in its place: it has no filter but what that one is built on.
    pub fn can_become(&self, other: &Self) -> bool {
        match (self, other.filter()) {
            (Self::Off, _) => true,
            (Self::Filter(own), Some(other)) => other.chain().any(|filter| core::ptr::eq(filter, &**own)),
            (Self::Filter(_), None) | (Self::Strict, _) => false,
        }
    }
}

/// A program, and those that were there before it: all of them are asked.
pub struct Filter {
    program: Program,
    before: Option<Rc<Filter>>,
    _charge: Charge,
}

impl Drop for Filter {
    fn drop(&mut self) {
        // One after the other: there can be thousands.
        let mut next = self.before.take();
        while let Some(mut filter) = next.and_then(Rc::into_inner) {
            next = filter.before.take();
        }
    }
}

impl Filter {
    /// Adds a program to what a thread has. `EINVAL` for a bad program, or if the thread is in strict mode; `ENOMEM`.
    pub fn add(mode: &Mode, instructions: &[Instruction]) -> Result<Mode> {
        let program = Program::check(instructions)?;
        let before = match mode {
            Mode::Off => None,
            Mode::Strict => return Err(Errno::EINVAL),
            Mode::Filter(filter) => Some(filter.clone()),
        };
        let chain = before.iter().flat_map(|filter| filter.chain());
        let cost = chain.map(|filter| filter.program.instructions() + FILTER_COST).sum::<usize>();
        if program.instructions() + cost > MAX_COST {
            return Err(Errno::ENOMEM);
        }
        let charge = Charge::new(Kind::Open, FILTER_BYTES + INSTRUCTION_BYTES * program.instructions() as u64)?;
        Ok(Mode::Filter(Rc::new(Self { program, before, _charge: charge })))
    }

    /// The filters, the youngest first.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |filter| filter.before.as_deref())
    }

    /// What all of them say: the strictest, and of several the youngest.
    fn judge(&self, data: &Data) -> u32 {
        self.chain()
            .map(|filter| filter.program.run(data))
            .min_by_key(|said| action_of(*said) as i32)
            .unwrap_or_default()
    }
}

/// What a filter says is to be done: the upper half; the lower half goes with it.
const ACTION_MASK: u32 = 0xffff_0000;
const DATA_MASK: u32 = 0xffff;

fn action_of(said: u32) -> u32 {
    said & ACTION_MASK
}

/// `SECCOMP_RET_*`.
pub mod action {
    /// The process ends.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// The thread ends.
    pub const KILL_THREAD: u32 = 0;
    /// `SIGSYS`.
    pub const TRAP: u32 = 0x0003_0000;
    /// An error.
    pub const ERRNO: u32 = 0x0005_0000;
    /// Who traces the process decides.
    pub const TRACE: u32 = 0x7ff0_0000;
    /// Another process decides. There is none.
    pub const USER_NOTIFICATION: u32 = 0x7fc0_0000;
    /// The call runs, and is noted.
    pub const LOG: u32 = 0x7ffc_0000;
    /// The call runs.
    pub const ALLOW: u32 = 0x7fff_0000;
    /// All that can be said to have an effect.
    pub const KNOWN: [u32; 7] = [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW];
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Run,
    /// It fails with this number, or returns 0 for 0.
    Fail(u16),
    /// `SIGSYS` tells of it, with this number.
    Trap(u16),
    /// Whoever traces the thread decides, and gets this number.
    Ask(u16),
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
    /// The thread ends as if by `SIGKILL`: it was in strict mode.
    Strict,
}

/// The largest error.
const MAX_ERRNO: u16 = 4095;

/// The error that says that there is no such call.
const NO_SUCH_CALL: u16 = linux_raw_sys::errno::ENOSYS as u16;

impl Verdict {
    fn of(said: u32) -> Self {
        let data = (said & DATA_MASK) as u16;
        match action_of(said) {
            action::ALLOW | action::LOG => Self::Run,
            action::ERRNO => Self::Fail(data.min(MAX_ERRNO)),
            action::TRAP => Self::Trap(data),
            action::TRACE => Self::Ask(data),
            action::USER_NOTIFICATION => Self::Fail(NO_SUCH_CALL),
            action::KILL_THREAD => Self::KillThread,
            // What is not known ends the process.
            _ => Self::KillProcess,
        }
    }
}

/// Judges a call of a thread that was made just before `instruction`.
pub fn judge(thread: &Thread, number: u32, arguments: &[u64; 6], instruction: u64) -> Verdict {
    let filter = match &*thread.seccomp.borrow() {
        Mode::Off => return Verdict::Run,
        Mode::Strict => return judge_strictly(number),
        Mode::Filter(filter) => filter.clone(),
    };
    Verdict::of(filter.judge(&data_of(number, arguments, instruction)))
}

fn judge_strictly(number: u32) -> Verdict {
    match number {
        linux::__NR_read | linux::__NR_write | linux::__NR_exit | linux::__NR_rt_sigreturn => Verdict::Run,
        _ => Verdict::Strict,
    }
}

fn data_of(number: u32, arguments: &[u64; 6], instruction: u64) -> Data {
    let mut data =
        [number, ARCHITECTURE, instruction as u32, (instruction >> 32) as u32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let words = arguments.iter().flat_map(|argument| [*argument as u32, (*argument >> 32) as u32]);
    for (place, word) in data.iter_mut().skip(4).zip(words) {
        *place = word;
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    fn says(value: u32) -> Vec<Instruction> {
        let mut bytes = [6, 0, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&value.to_le_bytes());
        vec![Instruction::read_from_bytes(&bytes).unwrap()]
    }

    use alloc::vec;
    use alloc::vec::Vec;

    fn judged(mode: &Mode) -> u32 {
        mode.filter().unwrap().judge(&[0; 16])
    }

    #[test]
    fn the_strictest_filter_wins_and_of_equals_the_youngest() {
        let mut mode = Mode::Off;
        for said in [action::ALLOW, action::ERRNO | 1, action::LOG, action::ERRNO | 2] {
            mode = Filter::add(&mode, &says(said)).unwrap();
        }
        assert_eq!(judged(&mode), action::ERRNO | 2);
        assert_eq!(mode.filters(), 4);
        let mode = Filter::add(&mode, &says(action::KILL_PROCESS)).unwrap();
        assert_eq!(Verdict::of(judged(&mode)), Verdict::KillProcess);
    }

    #[test]
    fn filters_are_not_added_without_end() {
        let mut mode = Mode::Off;
        let error = loop {
            match Filter::add(&mode, &says(action::ALLOW)) {
                Ok(more) => mode = more,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::ENOMEM);
        assert_eq!(mode.filters(), 6554);
    }

    #[test]
    fn a_thread_may_get_what_is_built_on_its_own() {
        let one = Filter::add(&Mode::Off, &says(1)).unwrap();
        let two = Filter::add(&one, &says(2)).unwrap();
        let other = Filter::add(&Mode::Off, &says(1)).unwrap();
        assert!(Mode::Off.can_become(&two) && one.can_become(&two) && two.can_become(&two));
        assert!(!two.can_become(&one) && !other.can_become(&two) && !Mode::Strict.can_become(&two));
    }

    #[test]
    fn data_has_the_layout_of_linux() {
        let data = data_of(5, &[1, 2 << 32, 3, 4, 5, 6], 7 << 32 | 8);
        assert_eq!(data[..8], [5, ARCHITECTURE, 8, 7, 1, 0, 0, 2]);
    }
}
