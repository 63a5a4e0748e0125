//! Processes that trace others.

use super::*;
use linux_raw_sys::ptrace as request;

impl World {
    fn trace(&self, tracer: Pid, number: u32, tid: Pid, data: u64) -> Result<u64> {
        self.now(tracer, linux::__NR_ptrace, [u64::from(number), tid as u64, 0, data, 0, 0])
    }

    fn kill(&self, pid: Pid, signal: Signal) {
        assert_eq!(self.now(1, linux::__NR_kill, [pid as u64, u64::from(signal.number()), 0, 0, 0, 0]), Ok(0));
    }

    /// A child of the first process that has asked to be traced.
    fn traced(&self) -> Pid {
        let child = self.fork(1);
        assert_eq!(self.trace(child, request::PTRACE_TRACEME, 0, 0), Ok(0));
        child
    }
}

#[test]
fn a_signal_stops_a_traced_thread_and_its_tracer_decides() {
    let world = world();
    let child = world.traced();
    assert_eq!(world.trace(1, request::PTRACE_CONT, child, 0), Err(Errno::ESRCH), "it runs");
    world.kill(child, Signal::TERM);
    assert_eq!(world.wait(1, 0), Ok(child as u64));
    assert_eq!(world.word(1, SCRATCH), 0x0f7f);
    assert!(world.thread(child).is_halted());
    assert_eq!(world.trace(1, request::PTRACE_GETREGS, child, SCRATCH), Ok(0));
    assert_eq!(world.word(1, SCRATCH + 16 * 8), 0x40_0000, "where it was");
    assert_eq!(world.trace(1, request::PTRACE_CONT, child, 0), Ok(0));
    assert!(!world.thread(child).is_halted());
    world.kill(child, Signal::TERM);
    assert_eq!(world.trace(1, request::PTRACE_CONT, child, 15), Ok(0));
    assert_eq!(world.wait(1, 0), Ok(child as u64));
    assert_eq!(world.word(1, SCRATCH), 15);
    assert!(world.server.tracees.borrow().is_empty());
}

#[test]
fn the_end_of_a_tracer_is_the_end_of_the_tracing_or_of_all() {
    let world = world();
    let tracer = world.fork(1);
    let (kept, taken) = (world.fork(1), world.fork(1));
    assert_eq!(world.trace(tracer, request::PTRACE_SEIZE, kept, 0), Ok(0));
    let options = u64::from(request::PTRACE_O_EXITKILL);
    assert_eq!(world.trace(tracer, request::PTRACE_SEIZE, taken, options), Ok(0));
    world.kill(kept, Signal::HUP);
    assert!(world.thread(kept).is_halted());
    world.exit(tracer, 0);
    assert!(world.server.process(taken).is_none());
    assert!(world.server.process(kept).is_none(), "the signal was not heard of, and delivered");
    assert!(world.server.tracees.borrow().is_empty());
    let mut ended: Vec<Pid> = (0..3).map(|_| world.wait(1, 0).unwrap() as Pid).collect();
    ended.sort_unstable();
    assert_eq!(ended, [tracer, kept, taken]);
}

#[test]
fn a_tracer_waits_for_the_end_before_the_parent() {
    let world = world();
    let (tracer, child) = (world.fork(1), world.fork(1));
    assert_eq!(world.trace(tracer, request::PTRACE_SEIZE, child, 0), Ok(0));
    world.exit(child, 3);
    assert_eq!(world.wait(1, linux::WNOHANG), Ok(0));
    assert_eq!(world.wait(tracer, 0), Ok(child as u64));
    assert_eq!(world.wait(tracer, 0), Err(Errno::ECHILD));
    assert_eq!(world.wait(1, linux::WNOHANG), Ok(child as u64));
}

#[test]
fn a_chain_of_tracers_ends_without_a_deep_stack() {
    let world = world();
    let mut tracer = world.fork(1);
    let first = tracer;
    for _ in 0..15 {
        let next = world.fork(1);
        let options = u64::from(request::PTRACE_O_EXITKILL);
        assert_eq!(world.trace(tracer, request::PTRACE_SEIZE, next, options), Ok(0));
        tracer = next;
    }
    world.exit(first, 0);
    assert_eq!(world.server.processes().len(), 1);
}
