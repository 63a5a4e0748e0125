//! Calls on epoll instances.

use super::blocking::usable_file;
use super::files::install;
use super::sleeper::{Attempt, InVain, sleep};
use super::wait_arguments::{TemporaryMask, TimeUnit, Timeout, Until};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::epoll::{Epoll, EpollFile, Event};
use crate::file::OpenFile;
use crate::fs::{Body, Inode};
use crate::process::Thread;
use crate::user::{USER_END, UserPtr};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::IntoBytes;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_epoll_create, |t, a| epoll_create(t, a).into()),
    SystemCall::new(linux::__NR_epoll_create1, |t, a| create(t, a[0] as u32).into()),
    SystemCall::new(linux::__NR_epoll_ctl, |t, a| epoll_ctl(t, a).into()),
    SystemCall::new(linux::__NR_epoll_wait, epoll_wait),
    SystemCall::new(linux::__NR_epoll_pwait, epoll_pwait),
    SystemCall::new(linux::__NR_epoll_pwait2, epoll_pwait2),
];

fn epoll_create(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    if arguments[0] as i32 <= 0 { Err(Errno::EINVAL) } else { create(thread, 0) }
}

fn create(thread: &Rc<Thread>, flags: u32) -> Result<u64> {
    if flags & !linux::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let inode = anonymous_inode(thread)?;
    let file = OpenFile::new(Rc::new(EpollFile(Epoll::new())), inode, None, linux::O_RDWR)?;
    install(thread, file, flags & linux::EPOLL_CLOEXEC)
}

/// The inode of a file that is only there to be waited for. `ENFILE`.
pub(super) fn anonymous_inode(thread: &Thread) -> Result<Rc<Inode>> {
    let namespace = thread.process.fs.borrow().namespace.clone();
    Inode::new(namespace.anonymous(), 0o600, 0, 0, Body::Anonymous).map_err(|_| Errno::ENFILE)
}

/// Flags that an exclusive item may have (`epoll_ctl(2)`).
const WITH_EXCLUSIVE: u32 = linux::EPOLLIN
    | linux::EPOLLOUT
    | linux::EPOLLERR
    | linux::EPOLLHUP
    | linux::EPOLLWAKEUP
    | linux::EPOLLET
    | linux::EPOLLEXCLUSIVE;

fn epoll_ctl(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [instance, operation, fd, event, ..] = *arguments;
    let operation = operation as u32;
    let deletes = operation == linux::EPOLL_CTL_DEL;
    let mut event: Event = if deletes { Event { events: 0, data: 0 } } else { pointer(thread, event).read()? };
    let instance = usable_file(thread, instance)?;
    let target = usable_file(thread, fd)?;
    if !target.ops().is_pollable() {
        return Err(Errno::EPERM);
    }
    let epoll = instance.ops().event_file().and_then(EventFile::epoll).filter(|_| !Rc::ptr_eq(&instance, &target));
    let epoll = epoll.ok_or(Errno::EINVAL)?;
    check_exclusive(operation, &target, event.events)?;
    event.events |= linux::EPOLLERR | linux::EPOLLHUP;
    let fd = fd as i32;
    match operation {
        linux::EPOLL_CTL_ADD => epoll.add(thread, fd, &target, event),
        linux::EPOLL_CTL_MOD => epoll.modify(thread, fd, &target, event),
        linux::EPOLL_CTL_DEL => epoll.delete(fd, &target),
        _ => Err(Errno::EINVAL),
    }
}

fn check_exclusive(operation: u32, target: &OpenFile, events: u32) -> Result<()> {
    if events & linux::EPOLLEXCLUSIVE == 0 {
        return Ok(());
    }
    let is_instance = target.ops().event_file().and_then(EventFile::epoll).is_some();
    let is_refused = match operation {
        linux::EPOLL_CTL_MOD => true,
        linux::EPOLL_CTL_ADD => is_instance || events & !WITH_EXCLUSIVE != 0,
        _ => false,
    };
    if is_refused { Err(Errno::EINVAL) } else { Ok(()) }
}

/// A wait for an instance's events.
struct Waiting {
    file: Rc<OpenFile>,
    events: UserPtr,
    max: usize,
    mask: TemporaryMask,
}

impl Waiting {
    /// Checks the arguments. `EINVAL`, `EFAULT`, `EBADF`.
    fn new(thread: &Rc<Thread>, arguments: &Arguments) -> Result<Self> {
        let [fd, address, max, ..] = *arguments;
        let max = max as i32;
        if max <= 0 || max as usize > i32::MAX as usize / size_of::<Event>() {
            return Err(Errno::EINVAL);
        }
        let end = address.checked_add(max as u64 * size_of::<Event>() as u64);
        if end.is_none_or(|end| end > USER_END) {
            return Err(Errno::EFAULT);
        }
        let file = usable_file(thread, fd)?;
        file.ops().event_file().and_then(EventFile::epoll).ok_or(Errno::EINVAL)?;
        Ok(Self { file, events: pointer(thread, address), max: max as usize, mask: TemporaryMask::NONE })
    }

    fn epoll(&self) -> Result<&Rc<Epoll>> {
        self.file.ops().event_file().and_then(EventFile::epoll).ok_or(Errno::EINVAL)
    }

    /// Reports what is ready; 0 if nothing is.
    fn attempt(&self, thread: &Thread) -> Result<u64> {
        let write = |events: &[Event]| self.events.write_prefix(events.as_bytes()) / size_of::<Event>();
        self.epoll()?.report(thread, self.max, write).map(|count| count as u64)
    }

    fn run(self, thread: &Rc<Thread>, until: Until) -> Outcome {
        match self.attempt(thread) {
            Ok(0) if until != Until::Now => sleep(thread, self, until.deadline_ns()),
            result => {
                self.mask.restore(thread, &result);
                result.into()
            }
        }
    }
}

impl Attempt for Waiting {
    fn queues(&self, _thread: &Thread, watch: &mut dyn FnMut(&WaitQueue)) {
        if let Ok(epoll) = self.epoll() {
            watch(epoll.sleepers());
        }
    }

    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        let result = Waiting::attempt(self, thread);
        if result == Ok(0) {
            return Err(Errno::EAGAIN);
        }
        self.mask.restore(thread, &result);
        result
    }

    fn give_up(&mut self, thread: &Rc<Thread>, why: InVain) -> Result<u64> {
        let result = match why {
            InVain::TimedOut => Ok(0),
            // Never made again, whatever the handler's flags (`signal(7)`).
            InVain::Interrupted => Err(Errno::EINTR),
        };
        self.mask.restore(thread, &result);
        result
    }
}

fn begin(
    thread: &Rc<Thread>,
    arguments: &Arguments,
    until: Until,
    mask: impl FnOnce() -> Result<TemporaryMask>,
) -> Outcome {
    let mask = match mask() {
        Ok(mask) => mask,
        Err(errno) => return errno.into(),
    };
    match Waiting::new(thread, arguments) {
        Ok(waiting) => Waiting { mask, ..waiting }.run(thread, until),
        Err(errno) => {
            mask.restore(thread, &Err(errno));
            errno.into()
        }
    }
}

fn epoll_wait(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    begin(thread, arguments, Until::after_ms(arguments[3] as i32), || Ok(TemporaryMask::NONE))
}

fn epoll_pwait(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [.., timeout, mask, size] = *arguments;
    begin(thread, arguments, Until::after_ms(timeout as i32), || TemporaryMask::set(thread, mask, size))
}

fn epoll_pwait2(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [.., timeout, mask, size] = *arguments;
    match Timeout::read(thread, timeout, TimeUnit::Nanoseconds) {
        Ok(timeout) => begin(thread, arguments, timeout.until, || TemporaryMask::set(thread, mask, size)),
        Err(errno) => errno.into(),
    }
}
