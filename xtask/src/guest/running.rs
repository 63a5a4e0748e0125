//! A guest that runs: its process, its serial ports, its log.

use super::Guest;
use super::qemu::{self, Media};
use crate::process;
use anyhow::{Context as _, Result, bail};
use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// QEMU's status after a clean end: the guest wrote 0x10 to its exit port.
const STATUS_CLEAN: i32 = 0x10 << 1 | 1;
/// QEMU's status after a failure of the system: the guest wrote 0x11 to its exit port.
const STATUS_FAILURE: i32 = 0x11 << 1 | 1;
/// How often waiting loops look around.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Which serial ports of the guest we hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// The console (first port).
    Console,
    /// The console, and the host link (second port).
    ConsoleAndLink,
    /// A virtio console, which is the console; there is no serial port.
    VirtioConsole,
}

/// How a virtual machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MachineEnd {
    /// The system ended itself in good order.
    Clean,
    /// The system gave up: the kernel panicked, or something ended without which it can't go on. The log tells.
    Failure,
    /// The machine reset itself: a triple fault, or the firmware gave up.
    Reset,
    /// QEMU ended with another status, or by a signal.
    Other(ExitStatus),
}

/// A virtual machine that runs. Dropping it ends it.
pub(crate) struct Machine {
    child: Child,
    started: Instant,
    /// When it must have ended.
    deadline: Option<Instant>,
    console: UnixStream,
    log: Arc<Log>,
    link: Option<UnixStream>,
}

impl MachineEnd {
    /// What QEMU's status means.
    pub(super) fn of(status: ExitStatus) -> Self {
        match status.code() {
            Some(STATUS_CLEAN) => Self::Clean,
            Some(STATUS_FAILURE) => Self::Failure,
            Some(0) => Self::Reset,
            Some(_) | None => Self::Other(status),
        }
    }
}

impl fmt::Display for MachineEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("the system ended in good order"),
            Self::Failure => f.write_str("the system gave up"),
            Self::Reset => f.write_str("the machine reset itself (a triple fault, or the firmware gave up)"),
            Self::Other(status) => write!(f, "QEMU ended with {status}"),
        }
    }
}

impl Machine {
    /// Starts a guest; the media must live as long as it runs.
    pub(crate) fn start(guest: &Guest, media: &Media, ports: Ports) -> Result<Self> {
        let mut command = qemu::command(guest, media)?;
        let console = Port::new("console", media.directory())?;
        match ports {
            Ports::Console | Ports::ConsoleAndLink => command.args(console.arguments()),
            Ports::VirtioConsole => command.args(console.virtio_arguments()),
        };
        let link = match ports {
            Ports::Console | Ports::VirtioConsole => None,
            Ports::ConsoleAndLink => Some(Port::new("link", media.directory())?),
        };
        command.args(link.iter().flat_map(Port::arguments));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let description = process::describe(&command);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("can't start `{description}`"))?;
        let deadline = guest.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let streams = console.accept(&mut child).and_then(|console| {
            let link = link.map(|link| link.accept(&mut child)).transpose()?;
            Ok((console.try_clone()?, console, link))
        });
        match streams {
            Ok((reader, console, link)) => {
                let log = Log::follow(reader);
                Ok(Self { child, started, deadline, console, log, link })
            }
            Err(error) => {
                let message = end_and_explain(child);
                Err(error.context(format!("`{description}` says: {message}")))
            }
        }
    }

    /// The stream of the host link, once.
    pub(crate) fn take_link(&mut self) -> Option<UnixStream> {
        self.link.take()
    }

    /// Writes to the console, as if typed.
    pub(crate) fn type_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.console.write_all(bytes).context("can't write to the console of the guest")
    }

    /// What the console has shown.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// When QEMU was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// When the time limit is reached, if there is one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the time limit is reached.
    pub(crate) fn is_overdue(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// How the machine ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<MachineEnd>> {
        Ok(self.child.try_wait().context("can't wait for QEMU")?.map(MachineEnd::of))
    }

    /// Waits until it has ended or the time limit is reached.
    pub(crate) fn wait(&mut self) -> Result<Option<MachineEnd>> {
        self.wait_until(self.deadline)
    }

    /// Waits until it has ended or this moment is reached.
    pub(crate) fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<MachineEnd>> {
        loop {
            if let Some(end) = self.ended()? {
                self.log.wait_for_end();
                return Ok(Some(end));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a QEMU that did not get far, and gives what it said.
fn end_and_explain(mut child: Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = errors.read_to_string(&mut text);
    }
    let _ = child.wait();
    text.trim().to_owned()
}

/// A serial port of the guest: a socket that QEMU connects to.
struct Port {
    name: &'static str,
    path: PathBuf,
    listener: UnixListener,
}

impl Port {
    fn new(name: &'static str, directory: &Path) -> Result<Self> {
        let path = directory.join(name);
        let listener =
            UnixListener::bind(&path).with_context(|| format!("can't make the socket {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self { name, path, listener })
    }

    /// QEMU's arguments. The order of the ports on its command line is that of the guest's serial ports.
    fn arguments(&self) -> [String; 4] {
        let Self { name, path, listener: _ } = self;
        let device = format!("socket,id={name},path={}", path.display());
        ["-chardev".to_owned(), device, "-serial".to_owned(), format!("chardev:{name}")]
    }

    /// The same for a virtio console.
    fn virtio_arguments(&self) -> Vec<String> {
        let [option, device, ..] = self.arguments();
        let console = format!("virtconsole,chardev={}", self.name);
        [option.as_str(), &device, "-device", "virtio-serial-pci,disable-legacy=on", "-device", &console]
            .map(str::to_owned)
            .to_vec()
    }

    fn accept(&self, child: &mut Child) -> Result<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).with_context(|| format!("the guest's {}", self.name)),
            }
            if let Some(status) = child.try_wait()? {
                bail!("QEMU ended at once ({status})");
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// What a guest has written to its console; filled by a thread.
pub(crate) struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    bytes: Vec<u8>,
    at_end: bool,
}

impl Log {
    /// More than this is not kept; a guest that writes so much has gone mad.
    const CAPACITY_BYTES: usize = 16 << 20;
    /// How long to wait for the last bytes of a machine that has ended.
    const END_TIMEOUT: Duration = Duration::from_secs(2);

    fn follow(mut stream: UnixStream) -> Arc<Self> {
        let log = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let filled = Arc::clone(&log);
        thread::spawn(move || {
            const PIECE_BYTES: usize = 4096;
            let mut piece = [0; PIECE_BYTES];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                filled.append(piece.get(..count).unwrap_or_default());
            }
            filled.lock().at_end = true;
            filled.changed.notify_all();
        });
        log
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let room = Self::CAPACITY_BYTES.saturating_sub(state.bytes.len());
        state.bytes.extend(bytes.iter().take(room));
        drop(state);
        self.changed.notify_all();
    }

    /// How many bytes there are so far.
    pub(crate) fn len_bytes(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Everything so far, without carriage returns.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).replace('\r', "")
    }

    /// The last lines.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<_> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    /// Looks for `text` from the byte `from` on, until `deadline` or the end of the log. Gives the position after it.
    pub(crate) fn wait_for(&self, text: &[u8], from: usize, deadline: Instant) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let new = state.bytes.get(from..).unwrap_or_default();
            if let Some(position) = new.windows(text.len().max(1)).position(|window| window == text) {
                return Some(from + position + text.len());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.at_end || left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A part of the log, without carriage returns.
    pub(crate) fn between(&self, from: usize, to: usize) -> String {
        String::from_utf8_lossy(self.lock().bytes.get(from..to).unwrap_or_default()).replace('\r', "")
    }

    fn wait_for_end(&self) {
        let deadline = Instant::now() + Self::END_TIMEOUT;
        let mut state = self.lock();
        while !state.at_end && Instant::now() < deadline {
            state = self.changed.wait_timeout(state, POLL_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
