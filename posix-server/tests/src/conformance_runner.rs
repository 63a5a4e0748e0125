//! `conformance-runner [--jobs N] [--linger] PLAN SCRATCH`
//!
//! Runs the tasks of the file PLAN, up to N at a time, and prints a line when one starts and a record when it is over. Each
//! task is the leader of a process group in an empty directory below SCRATCH, with stdin on `/dev/null`, stdout and stderr
//! in one file, a fixed environment and a time limit. When the last of those that run together is over, every process that
//! they left behind is killed. With `--linger` it does not end, for where that would end the system before all is written.
//!
//! It is meant to be the first process of its system.

#![forbid(unsafe_code)]

use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record, end_line};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, umask, wait};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: conformance-runner [--jobs N] [--linger] PLAN SCRATCH";
const USAGE_STATUS: u8 = 2;
/// How long to sleep between two looks at the tasks: more and more while nothing happens.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// A task that writes more than this is killed: it runs wild.
const MOST_OUTPUT_BYTES: u64 = 32 << 20;
/// How long a killed task may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long it stays if it is to stay.
const LINGERING: Duration = Duration::from_secs(120);
const REMINDER_EVERY: Duration = Duration::from_secs(1);
/// What new files of the tasks lack: writing by group and others.
const COMMON_UMASK: Mode = Mode::WGRP.union(Mode::WOTH);

/// What to do when all tasks are over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    Exit,
    Linger,
}

/// The command line.
struct Request {
    jobs: usize,
    at_end: AtEnd,
    plan: PathBuf,
    scratch: PathBuf,
}

fn main() -> ExitCode {
    let Some(Request { jobs, at_end, plan, scratch }) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(USAGE_STATUS);
    };
    match run(jobs, &plan, scratch) {
        Ok(count) => {
            say(&end_line(count));
            if at_end == AtEnd::Linger {
                linger(count);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("conformance-runner: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says again and again that it is over: a serial port may lose a line when a task plays with terminals.
fn linger(count: usize) {
    let end = Instant::now() + LINGERING;
    while Instant::now() < end {
        thread::sleep(REMINDER_EVERY);
        say(&end_line(count));
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Request> {
    let (mut jobs, mut at_end, mut places) = (1, AtEnd::Exit, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--jobs" => jobs = arguments.next()?.parse().ok()?,
            "--linger" => at_end = AtEnd::Linger,
            _ => places.push(PathBuf::from(argument)),
        }
    }
    let [plan, scratch] = places.try_into().ok()?;
    Some(Request { jobs, at_end, plan, scratch })
}

fn run(jobs: usize, plan: &Path, scratch: PathBuf) -> io::Result<usize> {
    umask(COMMON_UMASK);
    fs::create_dir_all(&scratch)?;
    let tasks: Vec<Task> = fs::read_to_string(plan)?.lines().filter_map(Task::from_line).collect();
    let mut pool = Pool { scratch, running: Vec::new(), number: 0 };
    let mut waiting = tasks.iter();
    let mut pause = FIRST_PAUSE;
    loop {
        while pool.running.len() < jobs.max(1)
            && let Some(task) = waiting.next()
        {
            pool.start(task);
        }
        if pool.running.is_empty() && waiting.len() == 0 {
            return Ok(tasks.len());
        }
        pause = if pool.look()? { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        thread::sleep(pause);
    }
}

/// The tasks that run.
struct Pool<'a> {
    scratch: PathBuf,
    running: Vec<Running<'a>>,
    /// Of the next task.
    number: usize,
}

struct Running<'a> {
    task: &'a Task,
    pid: Pid,
    place: Place,
    deadline: Instant,
    /// Since when it should be gone.
    killed: Option<Instant>,
}

impl<'a> Pool<'a> {
    fn start(&mut self, task: &'a Task) {
        say(&task.start_line());
        let place = Place::new(&self.scratch, self.number);
        self.number += 1;
        match place.prepare().and_then(|output| start(task, &place.directory, output)) {
            Ok(pid) => {
                let deadline = Instant::now() + Duration::from_secs(task.limit_s);
                self.running.push(Running { task, pid, place, deadline, killed: None });
            }
            Err(error) => {
                let output = place.finish(task.output_bytes);
                report(task, Outcome::NotRun(error.to_string()), output);
            }
        }
    }

    /// Looks after all that run. Whether one is over.
    fn look(&mut self) -> io::Result<bool> {
        let mut any = false;
        // The first process of its system inherits all orphans, so it waits for whoever has ended.
        while let Some((pid, status)) = ended()? {
            if let Some(index) = self.running.iter().position(|running| running.pid == pid) {
                let running = self.running.swap_remove(index);
                running.finish(status.into());
                any = true;
            }
        }
        let now = Instant::now();
        let (gone, mut running): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|running| running.is_hopeless(now));
        any |= !gone.is_empty();
        gone.into_iter().for_each(|running| running.finish(Outcome::TimedOut));
        running.iter_mut().for_each(|running| running.kill_if_due(now));
        self.running = running;
        if any && self.running.is_empty() {
            kill_everybody();
        }
        Ok(any)
    }
}

impl Running<'_> {
    fn kill_if_due(&mut self, now: Instant) {
        if self.killed.is_none() && (now >= self.deadline || self.place.output_length() > MOST_OUTPUT_BYTES) {
            self.killed = Some(now);
            self.kill();
        }
    }

    /// Whether it is still there long after it was killed.
    fn is_hopeless(&self, now: Instant) -> bool {
        self.killed.is_some_and(|since| now.duration_since(since) > KILL_PATIENCE)
    }

    /// Kills it and its group. That they are gone, which is the rule, is an error of `kill` and none of ours.
    fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = kill_process(self.pid, Signal::KILL);
    }

    fn finish(self, outcome: Outcome) {
        self.kill();
        let output = self.place.finish(self.task.output_bytes);
        let outcome = if self.killed.is_some() { Outcome::TimedOut } else { outcome };
        report(self.task, outcome, output);
    }
}

/// A child that has ended, if there is one.
fn ended() -> io::Result<Option<(Pid, ExitStatus)>> {
    match wait(WaitOptions::NOHANG) {
        Ok(ended) => Ok(ended.map(|(pid, status)| (pid, ExitStatus::from_raw(status.as_raw())))),
        // There are no children at all.
        Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(io::Error::from_raw_os_error(errno.raw_os_error())),
    }
}

/// Kills all that is left of tasks that are over, wherever it has put itself.
fn kill_everybody() {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in numbers.filter_map(Pid::from_raw).filter(|pid| *pid != getpid() && *pid != Pid::INIT) {
        // It may be gone, or belong to the kernel.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn start(task: &Task, directory: &Path, output: File) -> io::Result<Pid> {
    let (program, arguments) = task.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .envs([("HOME", "/root"), ("LC_ALL", "C"), ("TMPDIR", "/tmp"), ("USER", "root"), ("TZ", "UTC")])
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The directory in which a task runs, and the file that takes its output.
struct Place {
    directory: PathBuf,
    output: PathBuf,
}

impl Place {
    fn new(scratch: &Path, number: usize) -> Self {
        Self { directory: scratch.join(number.to_string()), output: scratch.join(format!("{number}.out")) }
    }

    /// Makes both, and gives the open file.
    fn prepare(&self) -> io::Result<File> {
        fs::create_dir(&self.directory)?;
        File::options().create_new(true).append(true).open(&self.output)
    }

    fn output_length(&self) -> u64 {
        fs::metadata(&self.output).map(|metadata| metadata.len()).unwrap_or(0)
    }

    /// The last bytes that the task wrote. Removes both.
    fn finish(&self, bytes: usize) -> Vec<u8> {
        let output = tail(&self.output, bytes).unwrap_or_default();
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(&self.output);
        output
    }
}

fn tail(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes as u64)))?;
    let mut output = Vec::new();
    file.take(bytes as u64).read_to_end(&mut output)?;
    Ok(output)
}

fn report(task: &Task, outcome: Outcome, output: Vec<u8>) {
    say(&Record { program: String::new(), case: task.name.clone(), outcome, output }.to_line());
}

/// Prints a line at once, so that a system that dies shows after which task it did.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // With its output gone the runner has nobody to tell; the reader notices the missing end.
    let _ = stdout.write_all(format!("{line}\n").as_bytes());
    let _ = stdout.flush();
}
