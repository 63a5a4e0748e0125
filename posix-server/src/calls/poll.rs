//! Waiting for several files: `poll`, `select` and their kin.
//!
//! All four ask each file what it is ready for; if nothing wanted is there, one listener watches the queues of all, and they
//! ask again after each wake-up. `ppoll`, `select` and `pselect6` write back the time that is left, as Linux does.

use super::blocking::{self, Woken};
use super::wait_arguments::{TemporaryMask, TimeUnit, Timeout, Until};
use super::{Outcome, SystemCall};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{FdTable, OpenFile, PollEvents};
use crate::process::Thread;
use crate::process::thread::Restart;
use crate::user::{USER_END, UserPtr};
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

/// What is kept of each file while a call waits, about, in bytes.
const BYTES_PER_FILE: u64 = 128;

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

    fn check(&mut self, thread: &Thread) -> bool {
        let events = self.file.as_ref().map_or(PollEvents::INVALID, |file| file.ops().readiness_for(thread));
        self.ready = events & self.wanted;
        !self.ready.is_empty()
    }

    fn watch(&self, thread: &Thread, listener: &mut Listener) {
        if let Some(queue) = self.file.as_ref().and_then(|file| file.ops().wait_queue_for(thread)) {
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

fn check_all(thread: &Thread, interests: &mut [Interest]) -> bool {
    // Not `any`: the answer tells of every file.
    interests.iter_mut().map(|interest| interest.check(thread)).filter(|ready| *ready).count() > 0
}

async fn wait_for_any(thread: &Rc<Thread>, interests: &mut [Interest], until: Until) -> Ended {
    let deadline_ns = until.deadline_ns();
    loop {
        let mut listener = Listener::new();
        interests.iter().for_each(|interest| interest.watch(thread, &mut listener));
        if check_all(thread, interests) {
            return Ended::Ready;
        }
        match blocking::wait(thread, listener, deadline_ns).await {
            Woken::Changed => {}
            // What has become ready at the same moment comes first.
            Woken::Interrupted if check_all(thread, interests) => return Ended::Ready,
            Woken::Interrupted => return Ended::Interrupted,
            Woken::TimedOut if check_all(thread, interests) => return Ended::Ready,
            Woken::TimedOut => return Ended::TimedOut,
        }
    }
}

/// A `poll` or `select` under way.
struct Waiting<W> {
    interests: Vec<Interest>,
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

impl<W: Fn(&[Interest]) -> Result<u64> + 'static> Waiting<W> {
    fn run(mut self, thread: &Rc<Thread>) -> Outcome {
        if check_all(thread, &mut self.interests) {
            return Outcome::Return(self.finish(thread, Ended::Ready));
        }
        if thread.is_interrupted() {
            return Outcome::Return(self.finish(thread, Ended::Interrupted));
        }
        if self.timeout.until == Until::Now {
            return Outcome::Return(self.finish(thread, Ended::TimedOut));
        }
        Outcome::Block(Box::pin(self.wait(thread.clone())))
    }

    async fn wait(mut self, thread: Rc<Thread>) -> Result<u64> {
        let ended = wait_for_any(&thread, &mut self.interests, self.timeout.until).await;
        self.finish(&thread, ended)
    }

    fn finish(&self, thread: &Rc<Thread>, ended: Ended) -> Result<u64> {
        let result = match (ended, self.restart) {
            (Ended::Ready | Ended::TimedOut, _) => (self.answer)(&self.interests),
            (Ended::Interrupted, None) if self.answers_interrupted => {
                (self.answer)(&self.interests).and(Err(Errno::RESTART_NO_HANDLER))
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

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollRecord {
    fd: i32,
    events: u16,
    revents: u16,
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
        if pointer.address() > USER_END {
            return Err(Errno::EFAULT);
        }
        Ok(ready)
    };
    Waiting { interests, timeout, mask, restart, answers_interrupted: true, _charge: charge, answer }.run(thread)
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
            Waiting { interests, timeout, mask, restart: None, answers_interrupted: false, _charge: charge, answer }
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
