//! A guest whose console we type at and read from.

use super::orders::{Announced, Orders};
use super::running::{Machine, MachineEnd, POLL_INTERVAL, Ports};
use super::{Guest, Media, Service, orders, qemu};
use crate::build::Artifacts;
use crate::payload::Init;
use crate::process;
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// A session at a guest's console, for tests: type something, wait for an answer.
pub(crate) struct Console {
    machine: Machine,
    /// Up to where the console's output has been looked at.
    position: usize,
    /// What the machine boots from.
    media: Media,
}

impl Guest {
    /// Boots a guest whose first program has the console, and gives that console.
    pub(crate) fn console(&self, artifacts: &Artifacts, init: &Init) -> Result<Console> {
        self.console_at(Ports::Console, artifacts, init)
    }

    /// The same at one of the ports that it may have its console at.
    pub(crate) fn console_at(&self, ports: Ports, artifacts: &Artifacts, init: &Init) -> Result<Console> {
        let media = self.media(artifacts, init)?;
        let machine = Machine::start(self, &media, ports)?;
        Ok(Console { machine, position: 0, media })
    }

    /// Boots a guest whose console is our terminal, and waits for its end; `None` if that was the time limit.
    pub(crate) fn run(&self, artifacts: &Artifacts, init: &Init) -> Result<Option<MachineEnd>> {
        let media = self.media(artifacts, init)?;
        let mut command = qemu::command(self, &media)?;
        let _announced = self.announce(artifacts, &media)?;
        // The multiplexer gives Ctrl-A X, which ends QEMU; everything else, also ^C, goes to the guest.
        command.args(["-serial", "mon:stdio"]);
        let child = command.spawn().with_context(|| format!("can't start `{}`", process::describe(&command)))?;
        let end = wait_for(child, self.timeout)?;
        if end == Some(MachineEnd::Clean) {
            media.check()?;
        }
        Ok(end)
    }
}

impl Guest {
    /// Lets others find it, if it takes orders.
    pub(crate) fn announce(&self, artifacts: &Artifacts, media: &Media) -> Result<Option<Announced>> {
        match self.service {
            Service::None => Ok(None),
            Service::Line => Announced::new(artifacts, media.directory()).map(Some),
        }
    }
}

/// Waits for a QEMU that has our terminal. At the time limit it is asked to end, so that it restores the terminal.
fn wait_for(mut child: Child, timeout: Option<Duration>) -> Result<Option<MachineEnd>> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(MachineEnd::of(status)));
        }
        thread::sleep(POLL_INTERVAL);
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM).context("ending QEMU")?;
    }
    child.wait()?;
    Ok(None)
}

impl Console {
    /// How many lines of the console a failure shows.
    const TAIL_LINES: usize = 30;

    /// Types these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.machine.type_bytes(bytes)
    }

    /// Types a line.
    pub(crate) fn send_line(&mut self, line: &str) -> Result<()> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// Waits until `text` is shown, after what was expected before. Gives what was shown before it.
    pub(crate) fn expect(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        let deadline = self.machine.deadline().map_or(deadline, |end| end.min(deadline));
        let from = self.position;
        match self.machine.log().wait_for(text.as_bytes(), from, deadline) {
            Some(end) => {
                self.position = end;
                Ok(self.machine.log().between(from, end - text.len()))
            }
            None => {
                let end = self.machine.ended()?.map(|end| format!("; {end}")).unwrap_or_default();
                let tail = self.machine.log().tail(Self::TAIL_LINES);
                bail!("the console did not show {text:?} within {timeout:?}{end}; its last lines:\n{tail}")
            }
        }
    }

    /// Takes everything that was shown so far as looked at.
    pub(crate) fn skip(&mut self) {
        self.position = self.machine.log().len_bytes();
    }

    /// Waits until the machine has ended; its file systems must be in order if it was shut down.
    pub(crate) fn wait(&mut self) -> Result<MachineEnd> {
        let end = self.machine.wait()?;
        if end == Some(MachineEnd::Clean) {
            self.media.check()?;
        }
        let tail = || self.machine.log().tail(Self::TAIL_LINES);
        end.with_context(|| format!("the guest ran into its time limit; the last lines of its console:\n{}", tail()))
    }

    /// The service line, of a guest that has one.
    pub(crate) fn orders(&self) -> Result<Orders> {
        let socket = orders::socket(self.media.directory());
        UnixStream::connect(&socket).map(Orders::new).with_context(|| format!("{}", socket.display()))
    }

    /// Everything that the console has shown.
    pub(crate) fn text(&self) -> String {
        self.machine.log().text()
    }
}
