//! Waiting for several files: `poll`, `select` and their kin.
//!
//! All four ask each file what it is ready for; if nothing wanted is there, one listener watches the queues of all, and they
//! ask again after each wake-up. `ppoll`, `select` and `pselect6` write back the time that is left, as Linux does.

use super::blocking::{self, Woken};
use super::{Outcome, SystemCall};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{FdTable, OpenFile, PollEvents};
use crate::platform;
use crate::process::Thread;
use crate::signal::SignalSet;
use crate::user::UserPtr;
use crate::wait::Listener;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_poll, poll),
    SystemCall::new(linux::__NR_ppoll, ppoll),
    SystemCall::new(linux::__NR_select, select),
    SystemCall::new(linux::__NR_pselect6, pselect6),
];

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MILLISECOND: u64 = 1_000_000;
const NS_PER_MICROSECOND: u64 = 1_000;
/// What is kept of each file while a call waits, about, in bytes.
const BYTES_PER_FILE: u64 = 128;
/// The size of a signal set, which callers must name.
const SIGNAL_SET_BYTES: u64 = 8;

/// Until when a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// It does not wait.
    Now,
    /// Until this time, in ns since the machine's start.
    Deadline(u64),
    /// For ever.
    Forever,
}

impl Until {
    fn after_ns(ns: u64) -> Self {
        if ns == 0 { Self::Now } else { Self::Deadline(platform::now_ns().saturating_add(ns)) }
    }

    fn deadline_ns(self) -> Option<u64> {
        match self {
            Self::Now => Some(0),
            Self::Deadline(deadline) => Some(deadline),
            Self::Forever => None,
        }
    }

    fn remaining_ns(self) -> u64 {
        match self {
            Self::Now | Self::Forever => 0,
            Self::Deadline(deadline) => deadline.saturating_sub(platform::now_ns()),
        }
    }
}

/// The units of a pair of numbers that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeUnit {
    /// `struct timespec`.
    Nanoseconds,
    /// `struct timeval`.
    Microseconds,
}

impl TimeUnit {
    fn ns(self) -> u64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => NS_PER_MICROSECOND,
        }
    }
}

/// The time that a program gave, and where to write what is left of it.
struct Timeout {
    until: Until,
    pointer: UserPtr,
    unit: TimeUnit,
}

impl Timeout {
    fn read(thread: &Rc<Thread>, address: u64, unit: TimeUnit) -> Result<Self> {
        let pointer = UserPtr::new(&thread.space(), address);
        if pointer.is_null() {
            return Ok(Self { until: Until::Forever, pointer, unit });
        }
        let [seconds, fraction]: [i64; 2] = pointer.read()?;
        let (Ok(seconds), Ok(fraction)) = (u64::try_from(seconds), u64::try_from(fraction)) else {
            return Err(Errno::EINVAL);
        };
        // A `timeval` may have more than a second of microseconds; a `timespec` may not.
        let fraction_ns = fraction.saturating_mul(unit.ns());
        if unit == TimeUnit::Nanoseconds && fraction_ns >= NS_PER_SECOND {
            return Err(Errno::EINVAL);
        }
        let ns = seconds.saturating_mul(NS_PER_SECOND).saturating_add(fraction_ns);
        Ok(Self { until: Until::after_ns(ns), pointer, unit })
    }

    /// Writes back what is left. That it can't be written is no error, as on Linux.
    fn write_back(&self) {
        if self.until != Until::Forever {
            let left = self.until.remaining_ns();
            let _ = self.pointer.write(&[left / NS_PER_SECOND, left % NS_PER_SECOND / self.unit.ns()]);
        }
    }
}

/// What a call waits for.
struct Interest {
    file: Option<Rc<OpenFile>>,
    wanted: PollEvents,
    ready: PollEvents,
}

impl Interest {
    fn new(files: &FdTable, fd: i32, wanted: PollEvents) -> Self {
        Self { file: files.get(fd).ok(), wanted: wanted | PollEvents::ALWAYS, ready: PollEvents::empty() }
    }

    fn check(&mut self) -> bool {
        let events = self.file.as_ref().map_or(PollEvents::INVALID, |file| file.ops().readiness());
        self.ready = events & self.wanted;
        !self.ready.is_empty()
    }

    fn watch(&self, listener: &mut Listener) {
        if let Some(queue) = self.file.as_ref().and_then(|file| file.ops().wait_queue()) {
            listener.watch(queue);
        }
    }
}

/// How a wait for several files has ended.
enum Ended {
    Ready,
    TimedOut,
    Interrupted,
}

fn check_all(interests: &mut [Interest]) -> bool {
    // Not `any`: the answer tells of every file.
    interests.iter_mut().map(Interest::check).filter(|ready| *ready).count() > 0
}

async fn wait_for_any(thread: &Rc<Thread>, interests: &mut [Interest], until: Until) -> Ended {
    let deadline_ns = until.deadline_ns();
    loop {
        let mut listener = Listener::new();
        interests.iter().for_each(|interest| interest.watch(&mut listener));
        if check_all(interests) {
            return Ended::Ready;
        }
        match blocking::wait(thread, listener, deadline_ns).await {
            Woken::Changed => {}
            Woken::Interrupted => return Ended::Interrupted,
            Woken::TimedOut => {
                return if check_all(interests) { Ended::Ready } else { Ended::TimedOut };
            }
        }
    }
}

/// A signal mask for the time of one call.
struct TemporaryMask {
    is_set: bool,
}

impl TemporaryMask {
    /// Sets the mask that a program points at, if it does.
    fn set(thread: &Rc<Thread>, address: u64, size: u64) -> Result<Self> {
        if address == 0 {
            return Ok(Self { is_set: false });
        }
        if size != SIGNAL_SET_BYTES {
            return Err(Errno::EINVAL);
        }
        let mask = SignalSet(UserPtr::new(&thread.space(), address).read::<u64>()?);
        let mut signals = thread.signals.borrow_mut();
        let old = signals.set_mask(mask);
        signals.saved_mask = Some(old);
        Ok(Self { is_set: true })
    }

    /// Takes it back, unless the call was interrupted: then the delivery of the signal does.
    fn restore(&self, thread: &Rc<Thread>, result: &Result<u64>) {
        if !self.is_set || result.is_err_and(Errno::is_restart) {
            return;
        }
        let mut signals = thread.signals.borrow_mut();
        if let Some(old) = signals.saved_mask.take() {
            signals.set_mask(old);
        }
    }
}

/// A `poll` or `select` under way.
struct Waiting<W> {
    interests: Vec<Interest>,
    timeout: Timeout,
    mask: TemporaryMask,
    /// Pays for what is kept of each descriptor.
    _charge: Charge,
    /// Writes the answer for the program; gives the call's result.
    answer: W,
}

impl<W: Fn(&[Interest]) -> Result<u64> + 'static> Waiting<W> {
    fn run(mut self, thread: &Rc<Thread>) -> Outcome {
        if check_all(&mut self.interests) || self.timeout.until == Until::Now {
            return Outcome::Return(self.finish(thread, Ended::Ready));
        }
        Outcome::Block(Box::pin(self.wait(thread.clone())))
    }

    async fn wait(mut self, thread: Rc<Thread>) -> Result<u64> {
        let ended = wait_for_any(&thread, &mut self.interests, self.timeout.until).await;
        self.finish(&thread, ended)
    }

    fn finish(&self, thread: &Rc<Thread>, ended: Ended) -> Result<u64> {
        let result = match ended {
            Ended::Ready | Ended::TimedOut => (self.answer)(&self.interests),
            Ended::Interrupted => Err(Errno::RESTART_NO_HANDLER),
        };
        self.timeout.write_back();
        self.mask.restore(thread, &result);
        result
    }
}

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollRecord {
    fd: i32,
    events: u16,
    revents: u16,
}

fn poll(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let milliseconds = args[2] as i32;
    let until = match u64::try_from(milliseconds) {
        Ok(milliseconds) => Until::after_ns(milliseconds * NS_PER_MILLISECOND),
        Err(_) => Until::Forever,
    };
    // There is nothing to write the rest back to.
    let pointer = UserPtr::new(&thread.space(), 0);
    let timeout = Timeout { until, pointer, unit: TimeUnit::Nanoseconds };
    begin_poll(thread, args[0], args[1], timeout, TemporaryMask { is_set: false })
}

fn ppoll(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = Timeout::read(thread, args[2], TimeUnit::Nanoseconds)
        .and_then(|timeout| Ok((timeout, TemporaryMask::set(thread, args[3], args[4])?)));
    match prepared {
        Ok((timeout, mask)) => begin_poll(thread, args[0], args[1], timeout, mask),
        Err(errno) => Outcome::Return(Err(errno)),
    }
}

fn begin_poll(thread: &Rc<Thread>, address: u64, count: u64, timeout: Timeout, mask: TemporaryMask) -> Outcome {
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
    let interests = {
        let files = thread.process.files.borrow();
        let interest = |record: &PollRecord| {
            let mut interest = Interest::new(&files, record.fd, PollEvents::from_bits_retain(u32::from(record.events)));
            if record.fd < 0 {
                // Such an entry is skipped.
                interest.wanted = PollEvents::empty();
            }
            interest
        };
        records.iter().map(interest).collect()
    };
    let answer = move |interests: &[Interest]| {
        let mut ready = 0;
        for (index, (record, interest)) in records.iter().zip(interests).enumerate() {
            let answered = PollRecord { revents: interest.ready.bits() as u16, ..*record };
            pointer.offset((index * size_of::<PollRecord>()) as u64)?.write(&answered)?;
            ready += u64::from(!interest.ready.is_empty());
        }
        // Also for no records at all, the address must be one that a program can have.
        pointer.write_bytes(&[])?;
        Ok(ready)
    };
    Waiting { interests, timeout, mask, _charge: charge, answer }.run(thread)
}

/// Bits of a word of a descriptor set.
const SET_WORD_BITS: usize = u64::BITS as usize;

/// What the three sets of `select` mean, in order: the events asked for, and those that count as an answer.
const SET_EVENTS: [(PollEvents, PollEvents); 3] = [
    (
        PollEvents::IN.union(PollEvents::READ_NORMAL).union(PollEvents::READ_BAND),
        PollEvents::IN
            .union(PollEvents::READ_NORMAL)
            .union(PollEvents::READ_BAND)
            .union(PollEvents::HANG_UP)
            .union(PollEvents::ERROR),
    ),
    (
        PollEvents::OUT.union(PollEvents::WRITE_NORMAL).union(PollEvents::WRITE_BAND),
        PollEvents::OUT.union(PollEvents::WRITE_NORMAL).union(PollEvents::WRITE_BAND).union(PollEvents::ERROR),
    ),
    (PollEvents::PRIORITY, PollEvents::PRIORITY),
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

    /// The events that are asked for of a descriptor, if any set has it.
    fn wanted(&self, fd: usize) -> Option<PollEvents> {
        let sets = SET_EVENTS.iter().enumerate().filter(|(set, _)| self.contains(*set, fd));
        sets.map(|(_, (wanted, _))| *wanted).reduce(PollEvents::union)
    }

    /// Writes the sets back with what is ready; gives the number of bits set.
    fn answer(&self, descriptors: &[usize], interests: &[Interest]) -> Result<u64> {
        let mut ready = 0;
        for (set, (_, answers)) in SET_EVENTS.iter().enumerate() {
            let (Some(pointer), Some(asked)) = (self.pointers.get(set), self.words.get(set)) else { continue };
            if pointer.is_null() {
                continue;
            }
            let mut words = alloc::vec![0u64; asked.len()];
            for (fd, interest) in descriptors.iter().zip(interests) {
                if self.contains(set, *fd) && interest.ready.intersects(*answers) {
                    if let Some(word) = words.get_mut(fd / SET_WORD_BITS) {
                        *word |= 1 << (fd % SET_WORD_BITS);
                    }
                    ready += 1;
                }
            }
            pointer.write_bytes(words.as_bytes())?;
        }
        Ok(ready)
    }
}

fn begin_select(thread: &Rc<Thread>, args: &[u64; 6], timeout: Timeout, mask: TemporaryMask) -> Outcome {
    let prepared = (|| {
        let count = usize::try_from(args[0] as i32).map_err(|_| Errno::EINVAL)?;
        // Beyond the limit no descriptor can be open: those bits are not looked at.
        let count = count.min(usize::try_from(super::files::descriptor_limit(thread)).unwrap_or(usize::MAX));
        let charge = Charge::new(Budget::Open, count as u64 * BYTES_PER_FILE)?;
        let sets = Sets::read(thread, count, [args[1], args[2], args[3]])?;
        let files = thread.process.files.borrow();
        let (mut descriptors, mut interests) = (Vec::new(), Vec::new());
        for fd in 0..count {
            let Some(wanted) = sets.wanted(fd) else { continue };
            let interest = Interest::new(&files, fd as i32, wanted);
            if interest.file.is_none() {
                return Err(Errno::EBADF);
            }
            descriptors.push(fd);
            interests.push(interest);
        }
        Ok((sets, descriptors, interests, charge))
    })();
    match prepared {
        Ok((sets, descriptors, mut interests, charge)) => {
            // Unlike `poll`, a hang-up is only an answer to who asked for reading.
            for interest in &mut interests {
                let answers = SET_EVENTS.iter().filter(|(wanted, _)| interest.wanted.intersects(*wanted));
                interest.wanted = answers.map(|(_, answers)| *answers).fold(PollEvents::empty(), PollEvents::union);
            }
            let answer = move |interests: &[Interest]| sets.answer(&descriptors, interests);
            Waiting { interests, timeout, mask, _charge: charge, answer }.run(thread)
        }
        Err(errno) => {
            mask.restore(thread, &Err(errno));
            Outcome::Return(Err(errno))
        }
    }
}

fn select(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    match Timeout::read(thread, args[4], TimeUnit::Microseconds) {
        Ok(timeout) => begin_select(thread, args, timeout, TemporaryMask { is_set: false }),
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
