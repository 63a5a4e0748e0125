//! Processes on the model of the machine: what calls do to them, without a processor.

mod paging;
mod sleepers;
mod tracing;
mod turns;

use super::futex::Word;
use super::server::{Parts, Server};
use super::tree::ExitStatus;
use super::{FirstProcess, Phase, Pid, Process, Thread, start_first};
use crate::calls::{Outcome, call};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::exec::elf::test_image;
use crate::exec::shim_image::ShimImage;
use crate::exec::stack::Strings;
use crate::exec::{Executor as Caller, Program, SetIds, prepare};
use crate::file::FdTable;
use crate::file::io::SliceSource;
use crate::fs::content::Content;
use crate::fs::{Body, Dentry, FsContext, Inode, Namespace, tmpfs};
use crate::platform::{self, Account, Executor, Registers, Reply};
use crate::signal::deliver::send;
use crate::signal::{Signal, SignalAction, SignalInfo};
use crate::vm::write_all;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;
use posix_protocol::shim::{Context, RETURN};

const STACK: u64 = 8 << 20;
/// Somewhere in the test program's writable segment.
const SCRATCH: u64 = 0x40_3000;

pub(crate) struct World {
    server: Rc<Server>,
    init: Rc<Process>,
}

pub(crate) fn world() -> World {
    let (filesystem, root) = tmpfs::new(0o755);
    let content = Content::empty();
    let image = test_image(
        elf::abi::ET_EXEC,
        &[[5, 0, 0x40_0000, 0x1000, 0x1000, 0x1000], [6, 0, 0x40_2000, 0, 0x4000, 0x1000]],
    );
    content.write(0, &mut SliceSource::new(&image)).unwrap();
    for (name, body) in [("program", Body::Regular(content)), ("text", Body::Regular(Content::empty()))] {
        let inode = Inode::new(&filesystem, 0o755, 0, 0, body).unwrap();
        let dentry = Dentry::new(&root, name.as_bytes(), inode);
        root.inode().directory().unwrap().names().unwrap().insert(dentry);
    }
    let namespace = Namespace::new(&filesystem, root);
    let server = Server::new(Parts {
        executor: Executor::new(),
        namespace: namespace.clone(),
        shim: ShimImage::empty().unwrap(),
        process_frames: 1000,
        max_processes: 20,
    });
    let (fs, credentials) = (FsContext::new(&namespace), Credentials::root());
    let caller = Caller { context: &fs, credentials: &credentials, set_ids: SetIds::Honoured };
    let strings = Strings { arguments: [b"program".to_vec()].to_vec(), environment: Vec::new() };
    let account = Account;
    let prepared = Program::open(caller, b"/program", strings, STACK)
        .and_then(|program| prepare(program, caller, &account, &server.shim, STACK))
        .unwrap();
    let first =
        FirstProcess { files: FdTable::new(), fs: fs.clone(), credentials: credentials.clone(), account, prepared };
    let init = start_first(&server, first).unwrap();
    World { server, init }
}

impl World {
    pub(crate) fn thread(&self, pid: Pid) -> Rc<Thread> {
        self.server.thread(pid).unwrap()
    }

    fn run(&self) {
        self.server.executor.run_ready(platform::now_ns());
    }

    /// A call that must be done at once.
    fn now(&self, pid: Pid, number: u32, arguments: [u64; 6]) -> Result<u64> {
        match call(&self.thread(pid), number, &arguments) {
            Outcome::Return(result) => result,
            Outcome::Block(_) | Outcome::Parked | Outcome::Context | Outcome::Gone => {
                panic!("call {number} did not return")
            }
        }
    }

    /// A call that waits; its result appears in the cell.
    fn later(&self, pid: Pid, number: u32, arguments: [u64; 6]) -> Rc<Cell<Option<Result<u64>>>> {
        let result = Rc::new(Cell::new(None));
        match call(&self.thread(pid), number, &arguments) {
            Outcome::Block(future) => {
                let cell = result.clone();
                self.server.executor.spawn(async move { cell.set(Some(future.await)) });
            }
            Outcome::Return(_) | Outcome::Parked | Outcome::Context | Outcome::Gone => {
                panic!("call {number} did not wait")
            }
        }
        self.run();
        result
    }

    fn fork(&self, parent: Pid) -> Pid {
        let child = self.now(parent, linux::__NR_fork, [0; 6]).unwrap() as Pid;
        // It has left the shim.
        let machine = &self.thread(child).machine;
        machine.set_registers(&Registers { rip: 0x40_0000, ..machine.registers().unwrap() }).unwrap();
        child
    }

    fn exit(&self, pid: Pid, status: u64) {
        assert!(matches!(call(&self.thread(pid), linux::__NR_exit_group, &[status, 0, 0, 0, 0, 0]), Outcome::Gone));
        self.run();
    }

    fn wait(&self, parent: Pid, options: u32) -> Result<u64> {
        self.now(parent, linux::__NR_wait4, [u64::MAX, SCRATCH, u64::from(options), 0, 0, 0])
    }

    fn word(&self, pid: Pid, address: u64) -> u32 {
        let mut bytes = [0; 4];
        assert_eq!(self.thread(pid).space().read(address, &mut bytes), 4);
        u32::from_le_bytes(bytes)
    }
}

#[test]
fn a_child_has_a_copy_of_the_memory_and_its_end_is_told() {
    let world = world();
    write_all(&world.init.space(), SCRATCH, &7u32.to_le_bytes()).unwrap();
    let child = world.fork(1);
    write_all(&world.init.space(), SCRATCH, &8u32.to_le_bytes()).unwrap();
    assert_eq!(world.word(child, SCRATCH), 7);
    assert_eq!(world.thread(child).context().rax, 0);
    assert_eq!(world.wait(1, linux::WNOHANG), Ok(0));
    world.exit(child, 300);
    assert_eq!(world.wait(1, linux::WNOHANG), Ok(child as u64));
    assert_eq!(world.word(1, SCRATCH), 44 << 8, "the low byte of the status");
    assert_eq!(world.wait(1, linux::WNOHANG), Err(Errno::ECHILD));
}

#[test]
fn a_wait_ends_when_the_child_does() {
    let world = world();
    let child = world.fork(1);
    let waiting = world.later(1, linux::__NR_wait4, [u64::MAX, 0, 0, 0, 0, 0]);
    assert_eq!(waiting.get(), None);
    world.exit(child, 0);
    world.run();
    assert_eq!(waiting.get(), Some(Ok(child as u64)));
}

#[test]
fn a_wait_is_interrupted_by_a_signal_with_a_handler() {
    let world = world();
    world.fork(1);
    let waiting = world.later(1, linux::__NR_wait4, [u64::MAX, 0, 0, 0, 0, 0]);
    let action = SignalAction { handler: 0x40_0000, ..SignalAction::default() };
    world.init.signals.borrow_mut().set_action(Signal::HUP, action).unwrap();
    world.thread(1).whereabouts.set(super::Whereabouts::Inside);
    send(&world.init, SignalInfo::from_kernel(Signal::HUP)).unwrap();
    world.run();
    assert_eq!(waiting.get(), Some(Err(Errno::RESTART)));
}

/// The first process waits at a word; its answer appears in the reply.
fn parked(world: &World) -> Reply {
    let thread = world.thread(1);
    // A stack for handlers.
    thread.set_context(&Context { rsp: SCRATCH + 0x2000, ..Context::default() });
    let reply = Reply::default();
    thread.whereabouts.set(super::Whereabouts::Inside);
    thread.reply.replace(Some(reply.clone()));
    let arguments = [SCRATCH, u64::from(linux::FUTEX_WAIT | linux::FUTEX_PRIVATE_FLAG), 0, 0, 0, 0];
    assert!(matches!(call(&thread, linux::__NR_futex, &arguments), Outcome::Parked));
    assert_eq!(reply.answered(), None);
    reply
}

fn wake(world: &World) -> Result<u64> {
    let operation = u64::from(linux::FUTEX_WAKE | linux::FUTEX_PRIVATE_FLAG);
    world.now(1, linux::__NR_futex, [SCRATCH, operation, 5, 0, 0, 0])
}

#[test]
fn who_is_parked_at_a_word_is_answered_by_the_wake() {
    let world = world();
    let reply = parked(&world);
    assert_eq!(wake(&world), Ok(1));
    assert_eq!(reply.answered(), Some((RETURN, 0)));
    assert_eq!(wake(&world), Ok(0), "it has left the line");
}

#[test]
fn a_signal_with_a_handler_ends_the_parking_and_one_that_is_ignored_does_not() {
    let world = world();
    let reply = parked(&world);
    send(&world.init, SignalInfo::from_kernel(Signal::CHLD)).unwrap();
    assert_eq!(reply.answered(), None);
    let action = SignalAction { handler: 0x40_0000, ..SignalAction::default() };
    world.init.signals.borrow_mut().set_action(Signal::HUP, action).unwrap();
    send(&world.init, SignalInfo::from_kernel(Signal::HUP)).unwrap();
    assert!(reply.answered().is_some());
    assert_eq!(wake(&world), Ok(0), "it has left the line");
}

#[test]
fn a_thread_that_ends_while_it_is_parked_leaves_the_line() {
    let world = world();
    let reply = parked(&world);
    let word = Word::Private { space: world.init.space().id(), address: SCRATCH };
    let thread = Rc::downgrade(&world.thread(1));
    send(&world.init, SignalInfo::from_kernel(Signal::KILL)).unwrap();
    world.run();
    assert_eq!(world.server.futexes.wake(word, 1, u32::MAX), Some(0));
    assert_eq!(reply.answered(), None);
    assert!(thread.upgrade().is_none(), "nothing holds it any more");
}

#[test]
fn a_process_that_ignores_its_children_has_no_zombies() {
    let world = world();
    let ignore = SignalAction { handler: 1, ..SignalAction::default() };
    world.init.signals.borrow_mut().set_action(Signal::CHLD, ignore).unwrap();
    let child = world.fork(1);
    world.exit(child, 0);
    assert_eq!(world.wait(1, 0), Err(Errno::ECHILD));
}

#[test]
fn a_killed_process_leaves_nothing_but_its_zombie() {
    let world = world();
    let child = world.fork(1);
    let held = Rc::downgrade(&world.server.process(child).unwrap());
    assert_eq!(world.now(1, linux::__NR_kill, [child as u64, 9, 0, 0, 0, 0]), Ok(0));
    world.run();
    assert!(world.server.process(child).is_none() && world.server.thread(child).is_none());
    assert_eq!(world.wait(1, 0), Ok(child as u64));
    assert_eq!(world.word(1, SCRATCH), 9);
    assert!(held.upgrade().is_none(), "nothing holds it any more");
}

#[test]
fn a_stopped_process_is_told_of_and_goes_on() {
    let world = world();
    let child = world.fork(1);
    assert_eq!(world.now(1, linux::__NR_kill, [child as u64, 19, 0, 0, 0, 0]), Ok(0));
    assert_eq!(world.server.process(child).unwrap().phase.get(), Phase::Stopped);
    assert_eq!(world.wait(1, linux::WNOHANG), Ok(0));
    assert_eq!(world.wait(1, linux::WNOHANG | linux::WUNTRACED), Ok(child as u64));
    assert_eq!(world.word(1, SCRATCH), 0x137f);
    assert_eq!(world.now(1, linux::__NR_kill, [child as u64, 18, 0, 0, 0, 0]), Ok(0));
    assert_eq!(world.server.process(child).unwrap().phase.get(), Phase::Running);
    assert_eq!(world.wait(1, linux::WNOHANG | linux::WCONTINUED), Ok(child as u64));
    assert_eq!(world.word(1, SCRATCH), 0xffff);
}

#[test]
fn too_many_processes_are_refused_and_the_parent_lives_on() {
    let world = world();
    let mut count = 1;
    let error = loop {
        match world.now(1, linux::__NR_fork, [0; 6]) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error, count), (Errno::EAGAIN, 20));
    world.exit(5, 0);
    world.wait(1, 0).unwrap();
    assert!(world.now(1, linux::__NR_fork, [0; 6]).is_ok());
}

#[test]
fn vfork_holds_the_parent_until_the_child_lets_go() {
    let world = world();
    let waiting = world.later(1, linux::__NR_vfork, [0; 6]);
    assert_eq!(waiting.get(), None);
    let child = world.server.process(2).unwrap();
    assert_eq!(child.space().id(), world.init.space().id(), "it borrows the parent's space");
    assert_ne!(world.thread(2).block().address(), world.thread(1).block().address());
    drop(child);
    world.exit(2, 0);
    world.run();
    assert_eq!(waiting.get(), Some(Ok(2)));
}

#[test]
fn a_failed_execve_leaves_the_program_as_it_was_and_a_good_one_replaces_it() {
    let world = world();
    let space = world.init.space().id();
    let mut strings = Vec::new();
    for text in ["/text\0", "/missing\0", "/program\0"] {
        let at = SCRATCH + 0x100 * (strings.len() as u64 + 1);
        write_all(&world.init.space(), at, text.as_bytes()).unwrap();
        strings.push(at);
    }
    let execve = |at: u64| world.now(1, linux::__NR_execve, [at, 0, 0, 0, 0, 0]);
    assert_eq!(execve(strings[0]), Err(Errno::ENOEXEC));
    assert_eq!(execve(strings[1]), Err(Errno::ENOENT));
    assert_eq!(execve(1), Err(Errno::EFAULT));
    assert_eq!(world.init.space().id(), space);
    assert!(matches!(call(&world.thread(1), linux::__NR_execve, &[strings[2], 0, 0, 0, 0, 0]), Outcome::Gone));
    assert_ne!(world.init.space().id(), space);
    assert_eq!(world.word(1, SCRATCH), 0, "new memory");
    assert_eq!(world.thread(1).context(), Context::default());
}

#[test]
fn the_end_of_the_first_process_is_reported_once() {
    let world = world();
    let status = Rc::new(RefCell::new(Vec::new()));
    let seen = status.clone();
    world.server.on_end.replace(Some(alloc::boxed::Box::new(move |status| seen.borrow_mut().push(status))));
    world.fork(1);
    world.exit(1, 3);
    assert_eq!(*status.borrow(), [ExitStatus::Exited(3)]);
}

#[test]
fn unknown_calls_and_wild_arguments_are_errors() {
    let world = world();
    let wild = [u64::MAX, 1 << 63, 0xdead_beef_0000, 0x7fff_ffff_ffff, 8, 4097];
    for number in 0..600 {
        let ends = [linux::__NR_exit, linux::__NR_exit_group, linux::__NR_fork, linux::__NR_vfork, linux::__NR_clone];
        if ends.contains(&number) || number == linux::__NR_kill {
            continue;
        }
        for shift in 0..6 {
            let mut arguments = wild;
            arguments.rotate_left(shift);
            drop(call(&world.thread(1), number, &arguments));
        }
    }
    assert_eq!(world.now(1, 100_000, [0; 6]), Err(Errno::ENOSYS));
}
