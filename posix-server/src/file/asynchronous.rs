//! Signals for readiness (`O_ASYNC`, `fcntl(2)`): whoever owns the file is told when it becomes ready.
//!
//! A queue that is woken must not do much at once, so a [`Signaller`] notes what happened and has a task send the signal.

use super::{AsyncOwner, OpenFile, PollEvents};
use crate::process::{Process, Server};
use crate::signal::{Details, Signal, SignalInfo, deliver};
use crate::wait::{Attachment, Heard, Notify};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::Cell;
use linux_raw_sys::general as linux;

/// Sends the signals of one open file.
pub struct Signaller {
    file: Weak<OpenFile>,
    server: Weak<Server>,
    /// The descriptor that was told to send signals.
    fd: i32,
    /// What has happened that nobody was told of yet.
    happened: Cell<PollEvents>,
    this: Weak<Self>,
}

impl Notify for Signaller {
    fn notify(&self, events: PollEvents) -> Heard {
        let is_scheduled = !self.happened.get().is_empty();
        self.happened.set(self.happened.get() | events);
        let (Some(server), Some(this)) = (self.server.upgrade(), self.this.upgrade()) else { return Heard::No };
        if !is_scheduled && !self.happened.get().is_empty() {
            server.executor.spawn(async move { this.send() });
        }
        Heard::Yes
    }
}

/// Has the owner of a file told of what it becomes ready for, until the result is dropped. `None`: it never becomes so.
pub fn begin(file: &Rc<OpenFile>, server: &Rc<Server>, fd: i32) -> Option<Attachment> {
    let queue = file.ops().wait_queue()?;
    let signaller = Rc::new_cyclic(|this| Signaller {
        file: Rc::downgrade(file),
        server: Rc::downgrade(server),
        fd,
        happened: Cell::new(PollEvents::empty()),
        this: this.clone(),
    });
    Some(queue.attach(signaller))
}

impl Signaller {
    fn send(&self) {
        let happened = self.happened.replace(PollEvents::empty());
        let (Some(file), Some(server)) = (self.file.upgrade(), self.server.upgrade()) else { return };
        let ready = file.ops().readiness() & happened;
        if ready.is_empty() {
            return;
        }
        for process in targets(&server, file.owner()) {
            if may_tell(&file, &process) {
                self.tell(&file, &process, &server, ready);
            }
        }
    }

    fn tell(&self, file: &OpenFile, process: &Rc<Process>, server: &Server, ready: PollEvents) {
        let chosen = Signal::from_number(u64::from(file.async_signal())).ok();
        let info = match chosen {
            Some(signal) => {
                let details = Details::Readiness { band: u64::from(ready.bits()), fd: self.fd };
                SignalInfo { signal, code: code(ready), details }
            }
            None => SignalInfo::from_kernel(Signal::IO),
        };
        let send = |info| match file.owner() {
            AsyncOwner::Thread(tid) => {
                server.thread(tid).map_or(Ok(()), |thread| deliver::send_to_thread(&thread, info))
            }
            AsyncOwner::Process(_) | AsyncOwner::Group(_) => deliver::send(process, info),
        };
        if send(info).is_err() {
            // The queue is full: as on Linux, the signal that needs no room in it has to do.
            let _ = send(SignalInfo::from_kernel(Signal::IO));
        }
    }
}

/// `si_code` for what a file is ready for.
fn code(ready: PollEvents) -> i32 {
    let code = if ready.intersects(PollEvents::HANG_UP) {
        linux::POLL_HUP
    } else if ready.intersects(PollEvents::ERROR) {
        linux::POLL_ERR
    } else if ready.intersects(PollEvents::PRIORITY) {
        linux::POLL_PRI
    } else if ready.intersects(PollEvents::READABLE) {
        linux::POLL_IN
    } else {
        linux::POLL_OUT
    };
    code as i32
}

fn targets(server: &Rc<Server>, owner: AsyncOwner) -> Vec<Rc<Process>> {
    match owner {
        AsyncOwner::Process(pid) => server.process(pid).into_iter().collect(),
        AsyncOwner::Thread(tid) => server.thread(tid).map(|thread| thread.process.clone()).into_iter().collect(),
        AsyncOwner::Group(group) => server.processes().into_iter().filter(|process| process.group() == group).collect(),
    }
}

/// Whether who set the owner may send signals to a process.
fn may_tell(file: &OpenFile, process: &Process) -> bool {
    let (uid, euid) = file.owner_users();
    let target = process.credentials();
    euid == crate::cred::ROOT || [uid, euid].iter().any(|user| *user == target.uid || *user == target.suid)
}
