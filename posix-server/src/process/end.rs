//! How processes and threads end, and what that means for others.

use super::futex::{Scope, Word};
use super::tree::{ExitStatus, INIT};
use super::{Phase, Pid, Process, Thread, Times, Whereabouts};
use crate::signal::deliver::send;
use crate::signal::{Details, Disposition, Signal, SignalInfo};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// Ends a process and all its threads.
pub fn end_process(process: &Rc<Process>, status: ExitStatus) {
    if process.phase.replace(Phase::Ended) == Phase::Ended {
        return;
    }
    if let Some(trace) = process.server.trace.get() {
        process.threads().iter().for_each(|thread| trace.vanish(thread.tid));
        trace.end(process.pid, status);
    }
    let times = process.times.get();
    process.times.set(Times { own_ns: process.run_time_ns(), ..times });
    let vm = process.vm();
    let is_borrowing = process.is_borrowing.get();
    for thread in process.threads() {
        clear_tid(&thread);
        remove(&thread);
        if is_borrowing {
            vm.free_block(thread.block.get());
        }
    }
    let files = core::mem::take(&mut *process.files.borrow_mut());
    for file in files.descriptors().filter_map(|fd| files.get(fd).ok()) {
        file.release_record_locks(process.pid);
    }
    drop(files);
    process.resumed.wake();
    process.child_news.wake();
    leave_session(process);
    process.release_parent();
    tell(process, status);
    process.server.forget_process(process.pid);
    if process.pid == INIT {
        let callback = process.server.on_end.borrow_mut().take();
        if let Some(callback) = callback {
            callback(status);
        }
    }
}

/// Takes a thread out of everything.
fn remove(thread: &Rc<Thread>) {
    thread.whereabouts.set(Whereabouts::Gone);
    thread.machine.kill();
    let reply = thread.reply.borrow_mut().take();
    drop(reply);
    thread.process.remove_thread(thread);
    thread.server().forget_thread(thread.tid);
    if thread.tid != thread.process.pid {
        thread.server().tree.borrow_mut().release_thread_id(thread.tid);
    }
    thread.signal_arrived.wake();
}

/// `set_tid_address`: tells who waits for the end of a thread.
fn clear_tid(thread: &Thread) {
    let address = thread.clear_tid.replace(0);
    if address == 0 {
        return;
    }
    let vm = thread.process.vm();
    if vm.space().write(address, &0u32.to_le_bytes()) == 4 {
        for scope in [Scope::Private, Scope::Any] {
            thread.server().futexes.wake(Word::at(&vm, address, scope), 1, u32::MAX);
        }
    }
}

/// Ends one thread; its process, if it was the last.
pub fn end_thread(thread: &Rc<Thread>, status: u8) {
    let process = thread.process.clone();
    if process.threads().len() <= 1 {
        end_process(&process, ExitStatus::Exited(status));
        return;
    }
    clear_tid(thread);
    let times = process.times.get();
    let own_ns = times.own_ns.saturating_add(thread.machine.run_time_ns());
    process.times.set(Times { own_ns, ..times });
    remove(thread);
    process.vm().free_block(thread.block.get());
}

/// Ends all threads of a process but one (`execve`).
pub fn end_other_threads(thread: &Rc<Thread>) {
    for other in thread.process.threads() {
        if other.tid != thread.tid {
            clear_tid(&other);
            remove(&other);
            thread.process.vm().free_block(other.block.get());
        }
    }
}

/// A thread has ended without being told to: its program has made a native call to that end, or the kernel has killed it.
pub fn thread_vanished(thread: &Rc<Thread>) {
    if thread.whereabouts.get() != Whereabouts::Gone {
        end_process(&thread.process, ExitStatus::Killed { signal: Signal::KILL, dumped: false });
    }
}

/// The end of a session's leader: the terminal is no longer the session's.
fn leave_session(process: &Rc<Process>) {
    let session = process.session();
    if session == process.pid {
        crate::tty::sessions::leader_ended(&process.server, session);
    }
}

/// Tells the parent, and those that the end makes orphans.
fn tell(process: &Rc<Process>, status: ExitStatus) {
    let server = &process.server;
    let effects = server.tree.borrow_mut().exit(process.pid, status);
    for child in effects.adopted {
        adopt(server, child);
    }
    for group in effects.orphaned_groups {
        server.signal_group(group, Signal::HUP);
        server.signal_group(group, Signal::CONT);
    }
    let Some((parent, signal)) = effects.notify else { return };
    let Some(parent) = server.process(parent) else {
        server.tree.borrow_mut().reap(process.pid);
        return;
    };
    let times = parent.times.get();
    let used = process.run_time_ns().saturating_add(process.times.get().children_ns);
    parent.times.set(Times { children_ns: times.children_ns.saturating_add(used), ..times });
    let action = parent.signals.borrow().action(Signal::CHLD);
    let is_unwanted = action.disposition() == Disposition::Ignore || action.has(linux::SA_NOCLDWAIT);
    if is_unwanted && signal == Some(Signal::CHLD) {
        server.tree.borrow_mut().reap(process.pid);
    }
    if let Some(signal) = signal {
        // A standard signal always fits; a real-time one that does not is lost, as on Linux.
        let _ = send(&parent, child_info(process, signal, status));
    }
    parent.child_news.wake();
}

fn child_info(process: &Process, signal: Signal, status: ExitStatus) -> SignalInfo {
    let (code, number) = match status {
        ExitStatus::Exited(status) => (linux::CLD_EXITED, i32::from(status)),
        ExitStatus::Killed { signal, dumped: false } => (linux::CLD_KILLED, i32::from(signal.number())),
        // Without a core file there is none to be told of.
        ExitStatus::Killed { signal, dumped: true } => (linux::CLD_KILLED, i32::from(signal.number())),
    };
    let details = Details::Child { pid: process.pid, uid: process.credentials().uid, status: number };
    SignalInfo { signal, code: code as i32, details }
}

/// A child that the first process has inherited.
fn adopt(server: &Rc<super::Server>, child: Pid) {
    match server.process(child) {
        Some(child) => {
            child.update_local_answers();
            let signal = child.parent_death_signal.get();
            if let Ok(signal) = Signal::from_number(u64::from(signal)) {
                let _ = send(&child, SignalInfo::from_kernel(signal));
            }
        }
        None => {
            if let Some(init) = server.process(INIT) {
                let _ = send(&init, SignalInfo::from_kernel(Signal::CHLD));
                init.child_news.wake();
            }
        }
    }
}
