//! Waiting for several files: `poll`, `select` and their kin.
//!
//! All four ask each file what it is ready for; if nothing wanted is there, one listener watches the queues of all, and they
//! ask again after each wake-up: as on Linux, the descriptors as they are then. `ppoll`, `select` and `pselect6` write back the time that is left, as Linux does.

use super::sleeper::{Attempt, InVain, sleep};
use super::wait_arguments::{TemporaryMask, TimeUnit, Timeout, Until};
use super::{Outcome, SystemCall};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{OpenFile, PollEvents};
use crate::process::Thread;
use crate::process::thread::Restart;
use crate::user::{USER_END, UserPtr};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem::offset_of;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_poll, poll),
    SystemCall::new(linux::__NR_ppoll, ppoll),
    SystemCall::new(linux::__NR_select, select),
    SystemCall::new(linux::__NR_pselect6, pselect6),
];

/// What is kept of each file while a call waits, about, in bytes.
const BYTES_PER_FILE: u64 = 128;

/// What is asked of a descriptor, and the answer: a `struct pollfd`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollRecord {
    /// Negative: nothing is asked.
    fd: i32,
    events: u16,
    revents: u16,
}

/// Whether a call has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slept {
    Yes,
    No,
}

/// How a wait for several files has ended.
enum Ended {
    Ready,
    TimedOut,
    Interrupted,
}

/// A `poll` or `select` under way.
struct Waiting<W> {
    records: Vec<PollRecord>,
    /// The files as they were when it began to wait, which it keeps.
    files: Vec<Rc<OpenFile>>,
    /// Events that are reported whether or not they are asked for.
    unasked: PollEvents,
    timeout: Timeout,
    mask: TemporaryMask,
    /// How it goes on after an interruption, if not by being made again.
    restart: Option<Restart>,
    /// Whether the answer is also written when a signal ended the wait.
    answers_interrupted: bool,
    /// Pays for what is kept of each descriptor.
    _charge: Charge,
    /// Writes the answer for the program; gives the call's result.
    answer: W,
}

impl<W: Fn(&mut [PollRecord], Slept) -> Result<u64> + 'static> Waiting<W> {
    fn run(mut self, thread: &Rc<Thread>) -> Outcome {
        let ended = if self.look(thread) {
            Ended::Ready
        } else if thread.is_interrupted() {
            Ended::Interrupted
        } else if self.timeout.until == Until::Now {
            Ended::TimedOut
        } else {
            self.files = self.files(thread);
            let deadline_ns = self.timeout.until.deadline_ns();
            return sleep(thread, self, deadline_ns);
        };
        Outcome::Return(self.finish(thread, ended, Slept::No))
    }

    /// Asks every file what it is ready for, and keeps nothing of it: not even the file, which may be closed during the call. Whether
    /// any is.
    fn look(&mut self, thread: &Thread) -> bool {
        let files = thread.process.files.borrow();
        let slots = files.slots();
        let mut is_any_ready = false;
        for record in self.records.iter_mut().filter(|record| record.fd >= 0) {
            let wanted = PollEvents::from_bits_retain(u32::from(record.events)) | self.unasked;
            let events = slots.get(record.fd).map_or(PollEvents::INVALID, |file| file.ops().readiness_for(thread));
            record.revents = (events & wanted).bits() as u16;
            is_any_ready |= record.revents != 0;
        }
        is_any_ready
    }

    /// The files as they are now.
    fn files(&self, thread: &Thread) -> Vec<Rc<OpenFile>> {
        let files = thread.process.files.borrow();
        let slots = files.slots();
        self.records.iter().filter_map(|record| slots.get(record.fd).ok()).collect()
    }

    fn finish(&mut self, thread: &Rc<Thread>, ended: Ended, slept: Slept) -> Result<u64> {
        let result = match (ended, self.restart) {
            (Ended::Ready | Ended::TimedOut, _) => (self.answer)(&mut self.records, slept),
            (Ended::Interrupted, None) if self.answers_interrupted => {
                (self.answer)(&mut self.records, slept).and(Err(Errno::RESTART_NO_HANDLER))
            }
            (Ended::Interrupted, None) => Err(Errno::RESTART_NO_HANDLER),
            (Ended::Interrupted, Some(restart)) => {
                thread.restart.replace(Some(restart));
                Err(Errno::RESTART_BLOCK)
            }
        };
        let result = self.timeout.write_back(result);
        self.mask.restore(thread, &result);
        result
    }
}

fn poll(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    poll_until(thread, args[0], args[1], Until::after_ms(args[2] as i32))
}

/// A `poll` that, when it is interrupted, goes on with what is left of its time.
pub(super) fn poll_until(thread: &Rc<Thread>, address: u64, count: u64, until: Until) -> Outcome {
    let restart = Restart::Poll { address, count, until };
    begin_poll(thread, address, count, Timeout::given(thread, until), TemporaryMask::NONE, Some(restart))
}

fn ppoll(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = Timeout::read(thread, args[2], TimeUnit::Nanoseconds)
        .and_then(|timeout| Ok((timeout, TemporaryMask::set(thread, args[3], args[4])?)));
    match prepared {
        Ok((timeout, mask)) => begin_poll(thread, args[0], args[1], timeout, mask, None),
        Err(errno) => Outcome::Return(Err(errno)),
    }
}

fn begin_poll(
    thread: &Rc<Thread>,
    address: u64,
    count: u64,
    timeout: Timeout,
    mask: TemporaryMask,
    restart: Option<Restart>,
) -> Outcome {
    let count = count as u32;
    let pointer = UserPtr::new(&thread.space(), address);
    let prepared = (|| {
        if u64::from(count) > super::files::descriptor_limit(thread) {
            return Err(Errno::EINVAL);
        }
        let charge = Charge::new(Budget::Open, u64::from(count) * BYTES_PER_FILE)?;
        Ok((pointer.read_array::<PollRecord>(count as usize)?, charge))
    })();
    let (records, charge) = match prepared {
        Ok(prepared) => prepared,
        Err(errno) => {
            mask.restore(thread, &Err(errno));
            return Outcome::Return(Err(errno));
        }
    };
    let answer = move |records: &mut [PollRecord], slept| answer_poll(&pointer, records, slept);
    let unasked = PollEvents::ALWAYS;
    Waiting {
        records,
        files: Vec::new(),
        unasked,
        timeout,
        mask,
        restart,
        answers_interrupted: true,
        _charge: charge,
        answer,
    }
    .run(thread)
}

impl<W: Fn(&mut [PollRecord], Slept) -> Result<u64> + 'static> Attempt for Waiting<W> {
    fn queues(&self, thread: &Thread, watch: &mut dyn FnMut(&WaitQueue)) {
        self.files.iter().filter_map(|file| file.ops().wait_queue_for(thread)).for_each(watch);
    }

    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        if self.look(thread) { self.finish(thread, Ended::Ready, Slept::Yes) } else { Err(Errno::EAGAIN) }
    }

    fn give_up(&mut self, thread: &Rc<Thread>, why: InVain) -> Result<u64> {
        let ended = match why {
            InVain::Interrupted => Ended::Interrupted,
            InVain::TimedOut => Ended::TimedOut,
        };
        self.finish(thread, ended, Slept::Yes)
    }
}

/// Writes what is ready; returns for how many records.
fn answer_poll(pointer: &UserPtr, records: &mut [PollRecord], slept: Slept) -> Result<u64> {
    // Also for no records at all, the address must be one that a program can have.
    if pointer.address() > USER_END {
        return Err(Errno::EFAULT);
    }
    let ready = records.iter().filter(|record| record.fd >= 0 && record.revents != 0).count();
    for record in records.iter_mut().filter(|record| record.fd < 0) {
        record.revents = 0;
    }
    match records {
        [record] => pointer.offset(offset_of!(PollRecord, revents) as u64)?.write(&record.revents)?,
        _ => {
            if slept == Slept::Yes {
                // What else the program has changed meanwhile stays.
                let now: Vec<PollRecord> = pointer.read_array(records.len())?;
                for (record, now) in records.iter_mut().zip(now) {
                    *record = PollRecord { revents: record.revents, ..now };
                }
            }
            pointer.write_bytes(records.as_bytes())?;
        }
    }
    Ok(ready as u64)
}

/// Bits of a word of a descriptor set.
const SET_WORD_BITS: usize = u64::BITS as usize;

/// What counts as an answer in the three sets of `select`, in order.
const SET_ANSWERS: [PollEvents; 3] = [
    PollEvents::IN
        .union(PollEvents::READ_NORMAL)
        .union(PollEvents::READ_BAND)
        .union(PollEvents::HANG_UP)
        .union(PollEvents::ERROR),
    PollEvents::OUT.union(PollEvents::WRITE_NORMAL).union(PollEvents::WRITE_BAND).union(PollEvents::ERROR),
    PollEvents::PRIORITY,
];

/// The sets of a `select`: where they are, and what was in them.
struct Sets {
    pointers: [UserPtr; 3],
    words: [Vec<u64>; 3],
}

impl Sets {
    fn read(thread: &Rc<Thread>, count: usize, addresses: [u64; 3]) -> Result<Self> {
        let words = count.div_ceil(SET_WORD_BITS);
        let pointers = addresses.map(|address| UserPtr::new(&thread.space(), address));
        let mut sets = Self { pointers, words: [const { Vec::new() }; 3] };
        for (pointer, set) in sets.pointers.iter().zip(&mut sets.words) {
            if !pointer.is_null() {
                *set = pointer.read_array(words)?;
            }
        }
        Ok(sets)
    }

    fn contains(&self, set: usize, fd: usize) -> bool {
        let word = self.words.get(set).and_then(|words| words.get(fd / SET_WORD_BITS));
        word.is_some_and(|word| word >> (fd % SET_WORD_BITS) & 1 != 0)
    }

    /// The events that count as an answer for a descriptor, if any set has it. Unlike for `poll`, a hang-up is only one to who
    /// asked for reading.
    fn wanted(&self, fd: usize) -> Option<PollEvents> {
        let sets = SET_ANSWERS.iter().enumerate().filter(|(set, _)| self.contains(*set, fd));
        sets.map(|(_, answers)| *answers).reduce(PollEvents::union)
    }

    /// What is asked for of all descriptors below `count`. `EBADF` if one of them is not open.
    fn records(&self, thread: &Thread, count: usize) -> Result<Vec<PollRecord>> {
        let files = thread.process.files.borrow();
        let mut records = Vec::new();
        for fd in 0..count {
            let Some(wanted) = self.wanted(fd) else { continue };
            files.slots().get(fd as i32)?;
            records.push(PollRecord { fd: fd as i32, events: wanted.bits() as u16, revents: 0 });
        }
        Ok(records)
    }

    /// Writes the sets back with what is ready; gives the number of bits set.
    fn answer(&self, records: &[PollRecord]) -> Result<u64> {
        let mut bits = 0;
        for (set, answers) in SET_ANSWERS.iter().enumerate() {
            let (Some(pointer), Some(asked)) = (self.pointers.get(set), self.words.get(set)) else { continue };
            if pointer.is_null() {
                continue;
            }
            let mut words = alloc::vec![0u64; asked.len()];
            for record in records {
                let fd = record.fd as usize;
                let ready = PollEvents::from_bits_retain(u32::from(record.revents));
                if self.contains(set, fd) && ready.intersects(*answers) {
                    if let Some(word) = words.get_mut(fd / SET_WORD_BITS) {
                        *word |= 1 << (fd % SET_WORD_BITS);
                    }
                    bits += 1;
                }
            }
            pointer.write_bytes(words.as_bytes())?;
        }
        Ok(bits)
    }
}

fn begin_select(thread: &Rc<Thread>, args: &[u64; 6], timeout: Timeout, mask: TemporaryMask) -> Outcome {
    let prepared = (|| {
        let count = usize::try_from(args[0] as i32).map_err(|_| Errno::EINVAL)?;
        // Beyond the limit no descriptor can be open: those bits are not looked at.
        let count = count.min(usize::try_from(super::files::descriptor_limit(thread)).unwrap_or(usize::MAX));
        let charge = Charge::new(Budget::Open, count as u64 * BYTES_PER_FILE)?;
        let sets = Sets::read(thread, count, [args[1], args[2], args[3]])?;
        let records = sets.records(thread, count)?;
        Ok((sets, records, charge))
    })();
    match prepared {
        Ok((sets, records, charge)) => {
            let answer = move |records: &mut [PollRecord], _| sets.answer(records);
            let (unasked, answers_interrupted) = (PollEvents::empty(), false);
            Waiting {
                records,
                files: Vec::new(),
                unasked,
                timeout,
                mask,
                restart: None,
                answers_interrupted,
                _charge: charge,
                answer,
            }
            .run(thread)
        }
        Err(errno) => {
            mask.restore(thread, &Err(errno));
            Outcome::Return(Err(errno))
        }
    }
}

fn select(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    match Timeout::read(thread, args[4], TimeUnit::Microseconds) {
        Ok(timeout) => begin_select(thread, args, timeout, TemporaryMask::NONE),
        Err(errno) => Outcome::Return(Err(errno)),
    }
}

fn pselect6(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let [mask, size] = if args[5] == 0 { [0, 0] } else { UserPtr::new(&thread.space(), args[5]).read()? };
        let timeout = Timeout::read(thread, args[4], TimeUnit::Nanoseconds)?;
        Ok((timeout, TemporaryMask::set(thread, mask, size)?))
    })();
    match prepared {
        Ok((timeout, mask)) => begin_select(thread, args, timeout, mask),
        Err(errno) => Outcome::Return(Err(errno)),
    }
}
