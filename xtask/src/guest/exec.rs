//! Running one program in a guest, over the host link.

use super::running::{Machine, MachineEnd, POLL_INTERVAL, Ports};
use super::{Guest, Root};
use crate::build::Artifacts;
use crate::options::Addition;
use crate::payload::Init;
use crate::root_files::WORK_DIRECTORY;
use anyhow::{Context as _, Result, bail};
use boot_archive::init::{Stdio, Tracing};
use posix_protocol::host_link::{Decoder, ExitStatus, Frame, LinkError, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES};
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Where the files of the boot archive are if the root file system is on somebody else's disk.
const ARCHIVE_DIRECTORY: &str = "/run";
/// How long a guest may take to end after its program has.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How many lines of the kernel log explain the death of a guest.
const TAIL_LINES: usize = 30;

/// What to run in the guest.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The program's absolute path in the guest, and its arguments.
    pub(crate) command: Vec<String>,
    /// The file of the host that is to lie there, if it is not one of the guest's own.
    pub(crate) host_file: Option<PathBuf>,
    /// Variables besides the usual ones, as `NAME=value`.
    pub(crate) environment: Vec<String>,
    /// Whether its system calls are to be traced.
    pub(crate) trace: Tracing,
}

/// What the program reads from its standard input.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What comes in at our own standard input.
    Inherited,
}

/// Which of its streams the program wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
    /// Not the program: the trace of its system calls.
    Trace,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The program ended.
    Program(ExitStatus),
    /// The guest ran into its time limit.
    TimedOut,
    /// The guest ended before the program did.
    Died(MachineEnd),
}

/// Everything about a program that ran.
#[derive(Clone, Debug)]
pub(crate) struct ExecOutcome {
    pub(crate) ending: Ending,
    /// What the program wrote to its standard output.
    pub(crate) output: Vec<u8>,
    /// What the program wrote to its standard error.
    pub(crate) errors: Vec<u8>,
    /// The trace of its system calls, if there was to be one.
    pub(crate) trace: Vec<u8>,
    /// The kernel log.
    pub(crate) log: String,
}

/// How a run ended, and the guest's log.
pub(crate) struct Finished {
    /// When QEMU was started.
    pub(crate) started: Instant,
    pub(crate) ending: Ending,
    pub(crate) log: String,
    /// The last lines of the log.
    pub(crate) tail: String,
}

impl Program {
    /// A program of the guest, by its absolute path.
    pub(crate) fn of_guest(command: &[&str]) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { command, host_file: None, environment: Vec::new(), trace: Tracing::Off }
    }

    /// A program of the host: it gets the path `/host/NAME` in the guest.
    pub(crate) fn of_host(file: &Path, arguments: &[String]) -> Result<Self> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no name that is UTF-8", file.display()))?;
        let mut command = vec![format!("/host/{name}")];
        command.extend_from_slice(arguments);
        Ok(Self { command, host_file: Some(file.to_owned()), environment: Vec::new(), trace: Tracing::Off })
    }

    /// What starts it.
    pub(crate) fn init(&self) -> Init {
        Init {
            stdio: Stdio::HostLink,
            trace: self.trace,
            directory: WORK_DIRECTORY.to_owned(),
            command: self.command.clone(),
            environment: self.environment.clone(),
        }
    }

    /// What starts it, in a guest with this root file system.
    fn init_on(&self, root: &Root) -> Init {
        let mut init = self.init();
        match root {
            Root::Archive | Root::Image(_) | Root::LastingImage(..) => {}
            Root::Disk(_) => {
                init.directory = "/".to_owned();
                if let (Some(path), true) = (init.command.first_mut(), self.host_file.is_some()) {
                    path.insert_str(0, ARCHIVE_DIRECTORY);
                }
            }
        }
        init
    }

    /// The guest with the program's file in it.
    fn provide(&self, guest: &Guest) -> Guest {
        let mut guest = guest.clone();
        if let (Some(host), Some(path)) = (&self.host_file, self.command.first()) {
            guest.additions.push(Addition { host: host.clone(), guest: path.clone() });
        }
        guest
    }
}

impl Guest {
    /// Boots this guest, runs a program in it, gives what it writes to `sink`, and tells how it ended.
    ///
    /// # Errors
    ///
    /// What went wrong on the host; whatever happens in the guest is an [`Ending`].
    pub(crate) fn exec(
        &self,
        artifacts: &Artifacts,
        program: &Program,
        input: Input,
        sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<Finished> {
        let guest = program.provide(self);
        let media = guest.media(artifacts, &program.init_on(&self.root))?;
        let _announced = guest.announce(artifacts, &media)?;
        let mut machine = Machine::start(&guest, &media, Ports::ConsoleAndLink)?;
        let ending = converse(&mut machine, input, guest.silence, sink)?;
        if matches!(ending, Ending::Program(_)) && machine.ended()? == Some(MachineEnd::Clean) {
            media.check()?;
        }
        let log = machine.log();
        Ok(Finished { started: machine.started(), ending, log: log.text(), tail: log.tail(TAIL_LINES) })
    }

    /// Like [`Guest::exec`], but keeps everything.
    pub(crate) fn exec_captured(&self, artifacts: &Artifacts, program: &Program, input: &[u8]) -> Result<ExecOutcome> {
        let (mut output, mut errors, mut trace) = (Vec::new(), Vec::new(), Vec::new());
        let mut sink = |stream, bytes: &[u8]| {
            match stream {
                Stream::Output => output.extend_from_slice(bytes),
                Stream::Error => errors.extend_from_slice(bytes),
                Stream::Trace => trace.extend_from_slice(bytes),
            }
            Ok(())
        };
        let finished = self.exec(artifacts, program, Input::Bytes(input.to_owned()), &mut sink)?;
        Ok(ExecOutcome { ending: finished.ending, output, errors, trace, log: finished.log })
    }
}

/// What the thread that reads the link tells.
enum Event {
    Wrote(Stream, Vec<u8>),
    Credit(u32),
    Exit(ExitStatus),
    Damaged(LinkError),
}

fn converse(
    machine: &mut Machine,
    input: Input,
    silence: Option<Duration>,
    sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
) -> Result<Ending> {
    let Some(link) = machine.take_link() else { bail!("the guest has no host link") };
    let credits = send_input(link.try_clone()?, input);
    let events = read_frames(link);
    // The firmware writes to every serial port that it finds; what comes before the first frame is not ours.
    let mut has_begun = false;
    let mut last_heard = Instant::now();
    loop {
        match events.recv_timeout(POLL_INTERVAL) {
            Ok(Event::Wrote(stream, bytes)) => {
                last_heard = Instant::now();
                sink(stream, &bytes)?;
            }
            Ok(Event::Exit(status)) => {
                machine.wait_until(Some(Instant::now() + END_TIMEOUT))?;
                return Ok(Ending::Program(status));
            }
            // When the sender of input is gone, nobody needs the credit.
            Ok(Event::Credit(bytes)) => {
                has_begun = true;
                let _ = credits.send(bytes);
            }
            Ok(Event::Damaged(error)) if has_begun => eprintln!("xtask: the host link brought {error}"),
            Ok(Event::Damaged(_)) => {}
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return after_link(machine),
        }
        if machine.is_overdue() || silence.is_some_and(|most| last_heard.elapsed() > most) {
            return Ok(Ending::TimedOut);
        }
    }
}

/// The link was closed without a status: the machine has ended or is about to.
fn after_link(machine: &mut Machine) -> Result<Ending> {
    Ok(machine.wait_until(Some(Instant::now() + END_TIMEOUT))?.map_or(Ending::TimedOut, Ending::Died))
}

fn read_frames(mut link: UnixStream) -> Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut decoder = Decoder::new();
        let mut piece = [0; MAX_FRAME_BYTES];
        while let Ok(count @ 1..) = link.read(&mut piece) {
            decoder.push_all(piece.get(..count).unwrap_or_default(), |frame| {
                if let Some(event) = event_of(frame) {
                    // Nobody listens any more: the conversation is over.
                    let _ = sender.send(event);
                }
            });
        }
    });
    receiver
}

fn event_of(frame: Result<Frame<'_>, LinkError>) -> Option<Event> {
    match frame {
        Ok(Frame::Output(bytes)) => Some(Event::Wrote(Stream::Output, bytes.to_vec())),
        Ok(Frame::Error(bytes)) => Some(Event::Wrote(Stream::Error, bytes.to_vec())),
        Ok(Frame::Trace(bytes)) => Some(Event::Wrote(Stream::Trace, bytes.to_vec())),
        Ok(Frame::Credit(bytes)) => Some(Event::Credit(bytes)),
        Ok(Frame::Exit(status)) => Some(Event::Exit(status)),
        // These go the other way.
        Ok(Frame::Input(_) | Frame::InputEnd) => None,
        Err(error) => Some(Event::Damaged(error)),
    }
}

/// Starts a thread that sends the input as far as the guest grants it; grants go to the sender that this gives.
fn send_input(link: UnixStream, input: Input) -> Sender<u32> {
    let (sender, credits) = mpsc::channel();
    thread::spawn(move || {
        // An error here means that the guest is gone, which the reading side notices.
        let _ = match input {
            Input::Bytes(bytes) => feed(link, &mut bytes.as_slice(), &credits),
            Input::Inherited => feed(link, &mut io::stdin().lock(), &credits),
        };
    });
    sender
}

fn feed(mut link: UnixStream, input: &mut dyn Read, credits: &Receiver<u32>) -> Result<()> {
    let mut credit: u64 = 0;
    let mut piece = [0; MAX_PAYLOAD_BYTES];
    let mut buffer = [0; MAX_FRAME_BYTES];
    loop {
        while credit == 0 {
            credit += u64::from(credits.recv()?);
        }
        credit += credits.try_iter().map(u64::from).sum::<u64>();
        let most = usize::try_from(credit).unwrap_or(MAX_PAYLOAD_BYTES).min(MAX_PAYLOAD_BYTES);
        let count = input.read(piece.get_mut(..most).unwrap_or_default())?;
        if count == 0 {
            let frame = Frame::InputEnd.encode(&mut buffer).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            return link.write_all(frame).context("sending the end of the input");
        }
        let bytes = piece.get(..count).unwrap_or_default();
        let frame = Frame::Input(bytes).encode(&mut buffer).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        link.write_all(frame).context("sending input")?;
        credit = credit.saturating_sub(count as u64);
    }
}
