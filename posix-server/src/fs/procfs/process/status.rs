//! The state of a process in numbers: `stat`, `status`, `sched`, `syscall`.

use super::KIB;
use super::sizes::Sizes;
use super::subject::{EXIT_SIGNAL, Subject, low_signals};
use crate::cred::Credentials;
use crate::errno::Result;
use crate::fs::procfs::system::NS_PER_TICK;
use crate::fs::procfs::{add, processors};
use crate::platform::PAGE_SIZE;
use crate::process::tree::{ExitStatus, Tree};
use crate::process::{Pid, Process, Thread};
use crate::signal::{Disposition, SIGNAL_MAX, Signal};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// Parent, group and session of a process.
fn kin(subject: &Subject) -> (Pid, Pid, Pid) {
    let kin = |tree: &Tree, pid| (tree.parent(pid), tree.group(pid).unwrap_or(0), tree.session(pid).unwrap_or(0));
    subject.server.tree.look(kin, subject.pid)
}

/// Signals of a process as sets: pending for the thread, for the process, blocked, ignored, caught.
#[derive(Default)]
struct Signals {
    pending: u64,
    shared_pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Signals {
    fn of(subject: &Subject) -> Self {
        let Some(process) = subject.process() else { return Self::default() };
        let mut signals = Self::default();
        let state = process.signals.borrow();
        signals.shared_pending = state.pending.set().0;
        for number in 1..=u64::from(SIGNAL_MAX) {
            let Ok(signal) = Signal::from_number(number) else { continue };
            match state.action(signal).disposition() {
                Disposition::Ignore => signals.ignored |= 1 << (number - 1),
                Disposition::Handler(_) => signals.caught |= 1 << (number - 1),
                Disposition::Default => {}
            }
        }
        if let Some(thread) = subject.thread() {
            signals.pending = thread.signals.borrow().pending.set().0;
            signals.blocked = thread.mask().0;
        }
        signals
    }
}

/// Number of the terminal, and its foreground group.
fn terminal(subject: &Subject, session: Pid) -> (u64, Pid) {
    let terminal = subject.process().and_then(|process| process.server.controlling_terminal(session));
    terminal.map_or((0, -1), |terminal| (terminal.device().encoded(), terminal.foreground()))
}

/// The nice value, and the priority that follows from it.
fn priority(thread: Option<&Rc<Thread>>) -> (i32, i32, u8, u32) {
    let schedule = thread.map(|thread| thread.schedule.get()).unwrap_or_default();
    let real_time = schedule.policy.priority();
    let priority = if real_time > 0 { -1 - i32::from(real_time) } else { 20 + i32::from(schedule.nice) };
    (priority, i32::from(schedule.nice), real_time, schedule.policy.number())
}

fn exit_code(subject: &Subject) -> i32 {
    subject.server.tree.look(Tree::remains, subject.pid).map_or(0, |remains| ExitStatus::to_wait_status(remains.status))
}

/// `stat`: the numbers in the order of `proc(5)`.
pub(super) fn numbers(subject: &Subject) -> Result<Vec<u8>> {
    let (parent, group, session) = kin(subject);
    let (terminal, foreground) = terminal(subject, session);
    let (usage, signals) = (subject.usage(), Signals::of(subject));
    let children = subject.process().map(|process| process.children_usage.get()).unwrap_or_default();
    let sizes = subject.process().map(|process| Sizes::of(process)).unwrap_or_default();
    let (priority, nice, real_time, policy) = priority(subject.thread().as_ref());
    let limit = subject.process().map_or(0, |process| process.limit(linux_raw_sys::general::RLIMIT_RSS));
    let strings = subject.process().map(|process| process.program.borrow().strings).unwrap_or_default();
    let mut text = String::new();
    add!(text, "{} ({}) ", subject.tid, String::from_utf8_lossy(&subject.name()));
    add!(text, "{} {parent} {group} {session} {terminal} {foreground} ", char::from(subject.state()));
    // Flags, and faults: minor, major, of the process and of its children.
    add!(text, "0 0 0 0 0 {} {} ", usage.user_ns / NS_PER_TICK, usage.system_ns / NS_PER_TICK);
    add!(text, "{} {} ", children.user_ns / NS_PER_TICK, children.system_ns / NS_PER_TICK);
    add!(text, "{priority} {nice} {} 0 {} ", subject.threads(), subject.start_ns() / NS_PER_TICK);
    add!(text, "{} {} {limit} ", sizes.all, sizes.resident / PAGE_SIZE);
    // Addresses of code, stack and registers, which nobody needs to know.
    add!(text, "0 0 0 0 0 {} {} ", low_signals(signals.pending), low_signals(signals.blocked));
    add!(text, "{} {} ", low_signals(signals.ignored), low_signals(signals.caught));
    let processor = subject.thread().map_or(0, |thread| thread.machine.processor());
    // Where it waits, swapped pages; then signal, processor, priority, policy, delays, guests, addresses of data and heap.
    add!(text, "0 0 0 {EXIT_SIGNAL} {processor} {real_time} {policy} 0 0 0 0 0 0 ");
    for address in strings {
        add!(text, "{address} ");
    }
    add!(text, "{}\n", exit_code(subject));
    Ok(text.into_bytes())
}

fn state_name(state: u8) -> &'static str {
    match state {
        b'R' => "R (running)",
        b'T' => "T (stopped)",
        b't' => "t (tracing stop)",
        b'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    }
}

fn add_credentials(text: &mut String, subject: &Subject) {
    let credentials = subject.process().map(|process| process.credentials());
    let credentials = credentials.unwrap_or_else(|| Rc::new(Credentials::user(subject.grave.uid, subject.grave.gid)));
    add!(*text, "Uid:\t{}\t{}\t", credentials.uid, credentials.euid);
    add!(*text, "{}\t{}\n", credentials.suid, credentials.fsuid);
    add!(*text, "Gid:\t{}\t{}\t", credentials.gid, credentials.egid);
    let slots =
        subject.process().map_or(0, |process| process.files.borrow().slots().descriptors().last().unwrap_or(0) + 1);
    /// Linux makes tables of descriptors in such steps.
    const STEP: i32 = 64;
    let slots = if slots == 0 { 0 } else { (slots + STEP - 1) / STEP * STEP };
    add!(*text, "{}\t{}\nFDSize:\t{slots}\nGroups:\t", credentials.sgid, credentials.fsgid);
    for group in credentials.groups.iter() {
        add!(*text, "{group} ");
    }
    text.push('\n');
}

fn add_sizes(text: &mut String, process: &Process) {
    let sizes = Sizes::of(process);
    let lines = [
        ("VmPeak", sizes.all),
        ("VmSize", sizes.all),
        ("VmLck", sizes.locked),
        ("VmPin", 0),
        ("VmHWM", sizes.peak_resident),
        ("VmRSS", sizes.resident),
        ("RssAnon", sizes.resident),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", sizes.data),
        ("VmStk", sizes.stack),
        ("VmExe", sizes.program),
        ("VmLib", sizes.libraries),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in lines {
        add!(*text, "{name}:\t{:8} kB\n", bytes / KIB);
    }
    text.push_str("CoreDumping:\t0\nTHP_enabled:\t0\n");
}

fn add_signals(text: &mut String, subject: &Subject) {
    let signals = Signals::of(subject);
    let limit = subject.process().map_or(0, |process| process.limit(linux_raw_sys::general::RLIMIT_SIGPENDING));
    let queued = (signals.pending | signals.shared_pending).count_ones();
    add!(*text, "SigQ:\t{queued}/{limit}\n");
    let sets = [
        ("SigPnd", signals.pending),
        ("ShdPnd", signals.shared_pending),
        ("SigBlk", signals.blocked),
        ("SigIgn", signals.ignored),
        ("SigCgt", signals.caught),
    ];
    for (name, set) in sets {
        add!(*text, "{name}:\t{set:016x}\n");
    }
}

/// All capabilities that there are, up to `cap_last_cap`.
const ALL_CAPABILITIES: u64 = (1 << (crate::fs::procfs::sysctl::LAST_CAPABILITY + 1)) - 1;

fn add_capabilities(text: &mut String, subject: &Subject) {
    let is_privileged = subject.process().is_some_and(|process| process.credentials().is_privileged());
    let own = if is_privileged { ALL_CAPABILITIES } else { 0 };
    let sets = [("CapInh", 0), ("CapPrm", own), ("CapEff", own), ("CapBnd", ALL_CAPABILITIES), ("CapAmb", 0)];
    for (name, set) in sets {
        add!(*text, "{name}:\t{set:016x}\n");
    }
}

fn add_restrictions(text: &mut String, subject: &Subject) {
    let no_gain = subject.process().is_some_and(|process| process.attributes.get().no_new_privileges);
    let mode = subject.thread().map(|thread| thread.seccomp.borrow().clone()).unwrap_or_default();
    add!(*text, "NoNewPrivs:\t{}\nSeccomp:\t{}\n", u8::from(no_gain), mode.number());
    add!(*text, "Seccomp_filters:\t{}\n", mode.filters());
}

/// `status`.
pub(super) fn status(subject: &Subject) -> Result<Vec<u8>> {
    let (parent, group, session) = kin(subject);
    let umask = subject.process().map(|process| process.fs.borrow().umask).unwrap_or_default();
    let mut text = String::new();
    add!(text, "Name:\t{}\n", String::from_utf8_lossy(&subject.name()));
    if subject.process().is_some() {
        add!(text, "Umask:\t{umask:04o}\n");
    }
    add!(text, "State:\t{}\nTgid:\t{}\nNgid:\t0\n", state_name(subject.state()), subject.pid);
    add!(text, "Pid:\t{}\nPPid:\t{parent}\nTracerPid:\t{}\n", subject.tid, subject.tracer());
    add_credentials(&mut text, subject);
    add!(text, "NStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{group}\nNSsid:\t{session}\n", subject.pid, subject.tid);
    if let Some(process) = subject.process() {
        add_sizes(&mut text, process);
    }
    add!(text, "Threads:\t{}\n", subject.threads().max(1));
    add_signals(&mut text, subject);
    add_capabilities(&mut text, subject);
    let processors = subject.thread().map_or(1, |thread| thread.schedule.get().processors);
    let list = processors::list(processors);
    add_restrictions(&mut text, subject);
    add!(text, "Cpus_allowed:\t{processors:x}\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\nMems_allowed_list:\t0\n");
    add!(text, "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t0\n", subject.usage().waits);
    Ok(text.into_bytes())
}

/// `schedstat`: time run and time waited for a processor, in ns, and how often it ran.
pub(super) fn run_times(subject: &Subject) -> Result<Vec<u8>> {
    let usage = subject.usage();
    Ok(format!("{} 0 {}\n", usage.total_ns(), usage.waits + 1).into_bytes())
}

/// `sched`.
pub(super) fn schedule(subject: &Subject) -> Result<Vec<u8>> {
    let usage = subject.usage();
    let (priority, _, _, policy) = priority(subject.thread().as_ref());
    /// Milliseconds with six digits after the point.
    const NS_PER_MS: u64 = 1_000_000;
    let (whole, rest) = (usage.total_ns() / NS_PER_MS, usage.total_ns() % NS_PER_MS);
    let mut text = String::new();
    let name = subject.name();
    add!(text, "{} ({}, #threads: {})\n", String::from_utf8_lossy(&name), subject.tid, subject.threads());
    add!(text, "{:-<67}\n", "");
    add!(text, "{:<45}:{:>14}.{rest:06}\n", "se.sum_exec_runtime", whole);
    let lines = [
        ("nr_switches", i128::from(usage.waits)),
        ("nr_voluntary_switches", i128::from(usage.waits)),
        ("nr_involuntary_switches", 0),
        ("policy", i128::from(policy)),
        ("prio", i128::from(priority) + 100),
    ];
    for (name, value) in lines {
        add!(text, "{name:<45}:{value:>21}\n");
    }
    Ok(text.into_bytes())
}

/// `timerslack_ns`.
pub(super) fn timer_slack(subject: &Subject) -> Result<Vec<u8>> {
    let slack = subject.thread().map_or(0, |thread| thread.schedule.get().timer_slack_ns);
    Ok(format!("{slack}\n").into_bytes())
}

/// `syscall`: the call that a thread is in, its arguments, stack pointer and return address; or that it runs.
pub(super) fn system_call(subject: &Subject) -> Result<Vec<u8>> {
    let Some(thread) = subject.thread().filter(|thread| thread.is_waiting.get()) else {
        return Ok(b"running\n".to_vec());
    };
    let context = thread.context();
    let arguments = [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9];
    let mut text = format!("{}", thread.call_number.get());
    for argument in arguments {
        add!(text, " {argument:#x}");
    }
    add!(text, " {:#x} {:#x}\n", context.rsp, context.rip);
    Ok(text.into_bytes())
}
