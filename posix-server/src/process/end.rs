//! How processes and threads end, and what that means for others.

use super::futex::{Scope, Word, parking, robust};
use super::tree::{ExitStatus, INIT, Orphan, Remains, Tree};
use super::usage::Usage;
use super::{Phase, Pid, Process, Server, Thread, Whereabouts};
use crate::exec::stack::TICKS_PER_SECOND;
use crate::ptrace::stops::{self, End};
use crate::signal::deliver::send;
use crate::signal::{Details, Disposition, Signal, SignalInfo};
use crate::vm::Vm;
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
    let threads = process.threads();
    // None of them may run on while the others' locks are let go.
    threads.iter().for_each(|thread| thread.machine.suspend());
    threads.iter().for_each(leave_memory);
    let vm = process.vm();
    let is_borrowing = process.is_borrowing.get();
    for thread in threads {
        remove(&thread, End::With(status));
        if is_borrowing {
            vm.free_block(&thread.block());
        }
    }
    let files = core::mem::take(&mut *process.files.borrow_mut());
    let open: alloc::vec::Vec<_> = files.slots().files().cloned().collect();
    for file in open {
        file.release_record_locks(process.pid);
    }
    drop(files);
    detach_segments(process, &vm);
    process.server.ipc.process_ended(process.pid);
    process.unshare_directories();
    process.resumed.wake();
    process.child_news.wake();
    leave_session(process);
    process.release_parent();
    tell(process, status);
    process.server.forget_process(process.pid);
    crate::platform::tidy();
    if process.pid == INIT {
        let callback = process.server.on_end.borrow_mut().take();
        if let Some(callback) = callback {
            callback(status);
        }
    }
}

/// Shared memory of System V is let go before anybody hears of the end, unless another process goes on using the space.
fn detach_segments(process: &Process, vm: &Rc<Vm>) {
    let uses = |other: &Rc<Process>| other.pid != process.pid && Rc::ptr_eq(&other.vm(), vm);
    if vm.has_segments() && !process.server.processes().iter().any(uses) {
        vm.detach_all();
    }
}

/// What a thread leaves in memory when it ends or executes: its locks are let go, and who waits for its end is told.
pub fn leave_memory(thread: &Rc<Thread>) {
    robust::release(thread);
    clear_tid(thread);
}

/// Takes a thread out of everything. What it has used counts for the process.
fn remove(thread: &Rc<Thread>, end: End) {
    let process = &thread.process;
    let used = thread.usage();
    thread.whereabouts.set(Whereabouts::Gone);
    thread.machine.kill();
    let reply = thread.reply.borrow_mut().take();
    drop(reply);
    parking::abandon(thread);
    process.remove_thread(thread);
    thread.machine.close_channel(&process.table);
    process.ended_usage.set(process.ended_usage.get().with(&used));
    thread.server().forget_thread(thread.tid);
    let is_waited_for = stops::ended(thread, end);
    if thread.tid != process.pid && !is_waited_for {
        thread.server().tree.change(Tree::release_thread_id, thread.tid);
    }
    stops::tracer_ended(thread.server(), thread.tid, process.pid);
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
    leave_memory(thread);
    remove(thread, End::With(ExitStatus::Exited(status)));
    process.vm().free_block(&thread.block());
    pass_on_children(thread);
}

/// The children that a thread has made are its process's, and their `PR_SET_PDEATHSIG` has come.
fn pass_on_children(thread: &Rc<Thread>) {
    let process = &thread.process;
    let Some(heir) = process.threads().first().map(|heir| heir.tid) else { return };
    let pass_on = |tree: &mut Tree, (pid, tid, heir)| tree.pass_on(pid, tid, heir);
    let children = process.server.tree.change(pass_on, (process.pid, thread.tid, heir));
    for child in children.into_iter().filter_map(|child| process.server.process(child)) {
        send_parent_death_signal(&child, process.pid);
    }
}

/// Ends all threads of a process but one (`execve`).
pub fn end_other_threads(thread: &Rc<Thread>) {
    for other in thread.process.threads() {
        if other.tid != thread.tid {
            leave_memory(&other);
            let is_first = other.tid == thread.process.pid;
            remove(&other, if is_first { End::Unheard } else { End::With(ExitStatus::Exited(0)) });
            thread.process.vm().free_block(&other.block());
        }
    }
}

/// Takes out the thread that called `execve`, when another goes on in its place.
pub fn retire(thread: &Rc<Thread>) {
    remove(thread, End::Unheard);
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
    let own = process.usage();
    let uid = process.credentials().uid;
    let remains = Remains { status, uid, usage: own.with(&process.children_usage.get()) };
    let effects = server.tree.change(|tree, (pid, remains)| tree.exit(pid, remains), (process.pid, remains));
    for orphan in effects.adopted {
        adopt(process, orphan);
    }
    for group in effects.orphaned_groups {
        server.signal_group(group, Signal::HUP);
        server.signal_group(group, Signal::CONT);
    }
    if tell_tracer(process, remains) {
        return;
    }
    let Some((parent, signal)) = effects.notify else { return };
    tell_parent(server, (process.pid, parent), signal, child_details(process.pid, remains, &own));
}

/// Tells whoever traces a process, and is not its parent. True: its parent hears of it later.
fn tell_tracer(process: &Process, remains: Remains) -> bool {
    let server = &process.server;
    let stranger = server.tree.look(Tree::stranger, process.pid);
    match stranger.filter(|tracer| stops::is_waited_for(server, *tracer)) {
        Some(tracer) => {
            if let Some(tracee) = server.tracees.borrow_mut().get_mut(process.pid) {
                tracee.end(remains.status);
            }
            stops::tell_end(server, tracer, process.pid, remains.status, remains.uid);
            true
        }
        None => {
            server.tracees.borrow_mut().remove(process.pid);
            server.tree.change(|tree, pid| tree.set_tracer(pid, None), process.pid);
            false
        }
    }
}

/// A traced thread that has ended is no longer waited for by its tracer: its parent is told, if it was a process.
pub fn reap_traced(server: &Rc<Server>, tid: Pid, process: Pid) {
    if tid != process {
        server.tree.change(Tree::release_thread_id, tid);
        return;
    }
    let released = |tree: &mut Tree, tid: Pid| {
        tree.set_tracer(tid, None);
        (tree.remains(tid), tree.parent(tid), tree.exit_signal(tid))
    };
    let (remains, parent, signal) = server.tree.change(released, tid);
    if let Some(remains) = remains {
        tell_parent(server, (tid, parent), signal, child_details(tid, remains, &remains.usage));
    }
}

/// `si_code` and the rest of the signal that tells of an end.
fn child_details(pid: Pid, remains: Remains, used: &Usage) -> (i32, Details) {
    let (code, status) = remains.status.to_code_and_status();
    let ticks = |ns: u64| ns / (1_000_000_000 / TICKS_PER_SECOND);
    let times = [ticks(used.user_ns), ticks(used.system_ns)];
    (code, Details::Child { pid, uid: remains.uid, status, times })
}

/// Tells a parent that a child has ended; a child that nobody wants to wait for is gone at once.
fn tell_parent(server: &Rc<Server>, (pid, parent): (Pid, Pid), signal: Option<Signal>, told: (i32, Details)) {
    let Some(parent) = server.process(parent) else {
        server.tree.change(Tree::reap, pid);
        return;
    };
    let action = parent.signals.borrow().action(Signal::CHLD);
    let is_ignored = action.disposition() == Disposition::Ignore;
    let is_ordinary = signal == Some(Signal::CHLD);
    if is_ordinary && (is_ignored || action.has(linux::SA_NOCLDWAIT)) {
        server.tree.change(Tree::reap, pid);
    }
    if let Some(signal) = signal
        && !(is_ordinary && is_ignored)
    {
        let (code, details) = told;
        // A standard signal always fits; a real-time one that does not is lost, as on Linux.
        let _ = send(&parent, SignalInfo { signal, code, details });
    }
    parent.child_news.wake();
}

/// A child that somebody has inherited.
fn adopt(dead: &Rc<Process>, orphan: Orphan) {
    let server = &dead.server;
    match server.process(orphan.pid) {
        Some(child) => {
            child.update_local_answers();
            send_parent_death_signal(&child, dead.pid);
        }
        None => {
            let Some(remains) = server.tree.look(Tree::remains, orphan.pid) else { return };
            let told = child_details(orphan.pid, remains, &remains.usage);
            tell_parent(server, (orphan.pid, orphan.parent), Some(Signal::CHLD), told);
        }
    }
}

/// `PR_SET_PDEATHSIG`.
fn send_parent_death_signal(child: &Rc<Process>, parent: Pid) {
    if let Ok(signal) = Signal::from_number(u64::from(child.parent_death_signal.get())) {
        let _ = send(child, SignalInfo::from_process(signal, crate::signal::SI_USER, parent, 0));
    }
}
