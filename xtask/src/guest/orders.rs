//! The service line of a guest that runs: by it programs are replaced ([`driver_protocol::orders`]).
//!
//! QEMU listens on a socket for whoever gives orders. Where that is stands in a file of the work directory, named after the process that
//! runs QEMU, as long as the guest runs.

use crate::build::Artifacts;
use anyhow::{Context as _, Result, bail};
use driver_protocol::orders::{Decoder, Frame, MAX_PART_BYTES};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the guest may take to answer before it is told again, and to do what it is told.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const DONE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often something is sent.
const ATTEMPTS: usize = 4;

/// The name of the socket in the directory of a guest's media.
const SOCKET: &str = "orders";
/// The directory, in the work directory, with a file for each guest that runs.
const GUESTS: &str = "guests";

/// QEMU's arguments for a service line: a serial port where COM3 is, with an interrupt of its own.
pub(super) fn arguments(directory: &Path) -> [String; 4] {
    let socket = format!("socket,id=orders,path={},server=on,wait=off", socket(directory).display());
    let device = "isa-serial,chardev=orders,index=2,iobase=0x3e8,irq=5".to_owned();
    ["-chardev".to_owned(), socket, "-device".to_owned(), device]
}

/// The socket of the guest whose media are in a directory.
pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}

/// A guest that runs, as others find it. Dropped, they don't any more.
pub(crate) struct Announced {
    file: PathBuf,
}

impl Announced {
    /// Announces the guest whose media are in a directory.
    pub(super) fn new(artifacts: &Artifacts, directory: &Path) -> Result<Self> {
        let guests = artifacts.work_directory()?.join(GUESTS);
        fs::create_dir_all(&guests).with_context(|| format!("can't make {}", guests.display()))?;
        let file = guests.join(std::process::id().to_string());
        fs::write(&file, socket(directory).as_os_str().as_encoded_bytes())?;
        Ok(Self { file })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // It may have been taken for one that was left behind.
        let _ = fs::remove_file(&self.file);
    }
}

/// Finds the guest that runs: the one of this process, or the only one.
pub(crate) fn find(artifacts: &Artifacts, process: Option<u32>) -> Result<UnixStream> {
    let guests = artifacts.work_directory()?.join(GUESTS);
    let mut found = Vec::new();
    for entry in fs::read_dir(&guests).into_iter().flatten() {
        let file = entry?.path();
        let name = file.file_name().and_then(|name| name.to_str()).map(str::to_owned).unwrap_or_default();
        let socket = PathBuf::from(fs::read_to_string(&file).unwrap_or_default());
        match UnixStream::connect(&socket) {
            Ok(stream) => found.push((name, stream)),
            // Its xtask was killed.
            Err(_) => fs::remove_file(&file)?,
        }
    }
    let wanted = process.map(|process| process.to_string());
    found.retain(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted == name));
    match (found.pop(), found.pop()) {
        (Some((_, stream)), None) => Ok(stream),
        (None, _) => bail!("no such guest runs here; `cargo xtask run` starts one"),
        (Some((one, _)), Some((other, _))) => {
            bail!("several guests run: say which, with --guest {one} or --guest {other}")
        }
    }
}

/// An answer of the guest.
enum Answer {
    Room(u64),
    Done(String),
    Refused(String),
}

/// The line to a guest.
pub(crate) struct Orders {
    stream: UnixStream,
    decoder: Decoder,
}

impl Orders {
    /// The line that a guest's QEMU is at the other end of.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// Has a program replaced by one made of an image; gives what the guest says to that.
    pub(crate) fn replace(&mut self, name: &str, image: &[u8]) -> Result<String> {
        let begin = Frame::Begin { len_bytes: image.len() as u64, name: name.as_bytes() };
        let mut answer = self.order(&begin, ANSWER_TIMEOUT)?;
        loop {
            match answer {
                Answer::Room(offset) => {
                    let rest = usize::try_from(offset).ok().and_then(|offset| image.get(offset..)).unwrap_or_default();
                    let bytes = rest.get(..rest.len().min(MAX_PART_BYTES)).unwrap_or_default();
                    let timeout = if bytes.len() == rest.len() { DONE_TIMEOUT } else { ANSWER_TIMEOUT };
                    answer = self.order(&Frame::Part { offset, bytes }, timeout)?;
                }
                Answer::Done(text) => return Ok(text),
                Answer::Refused(reason) => bail!("{name}: the guest refuses: {reason}"),
            }
        }
    }

    /// The programs that can be replaced, a line for each.
    pub(crate) fn list(&mut self) -> Result<String> {
        match self.order(&Frame::List, ANSWER_TIMEOUT)? {
            Answer::Done(text) => Ok(text),
            Answer::Room(_) | Answer::Refused(_) => bail!("the guest does not tell which programs there are"),
        }
    }

    fn order(&mut self, frame: &Frame<'_>, timeout: Duration) -> Result<Answer> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        for _ in 0..ATTEMPTS {
            self.stream.write_all(&bytes).context("the guest's service line")?;
            if let Some(answer) = self.answer(Instant::now() + timeout)? {
                return Ok(answer);
            }
        }
        bail!("the guest does not answer on its service line")
    }

    fn answer(&mut self, deadline: Instant) -> Result<Option<Answer>> {
        const PIECE_BYTES: usize = 4096;
        let mut piece = [0; PIECE_BYTES];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let count = match self.stream.read(&mut piece) {
                Ok(0) => bail!("the guest has ended"),
                Ok(count) => count,
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => return Ok(None),
                Err(error) => return Err(error).context("the guest's service line"),
            };
            let mut last = None;
            self.decoder.push(piece.get(..count).unwrap_or_default(), |frame| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                last = match frame {
                    Frame::Room(offset) => Some(Answer::Room(offset)),
                    Frame::Done(bytes) => Some(Answer::Done(text(bytes))),
                    Frame::Refused(bytes) => Some(Answer::Refused(text(bytes))),
                    Frame::Begin { .. } | Frame::Part { .. } | Frame::List => None,
                };
            });
            if last.is_some() {
                return Ok(last);
            }
        }
    }
}
