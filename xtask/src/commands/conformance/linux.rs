//! Linux as a guest: the distribution's kernel with the very files that a guest of Quire has.

use super::transcript::Transcript;
use crate::build::Artifacts;
use crate::guest::{Guest, Machine, Media, POLL_INTERVAL, Ports};
use crate::linux_kernel;
use anyhow::{Context as _, Result, bail};
use boot_archive::{Archive, Content};
use std::io::{ErrorKind, Read as _};
use std::time::{Duration, Instant};

/// The records leave by the second serial port, where no message of the kernel's gets in between.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off rdinit=/conformance-init";
const INIT_PATH: &str = "conformance-init";

/// Runs a command there as the first program and reads its output. Gives why it did not end, if it did not.
pub(super) fn run(
    artifacts: &Artifacts,
    guest: &Guest,
    archive: &[u8],
    command: &[String],
    silence: Duration,
    transcript: &mut Transcript,
) -> Result<Option<String>> {
    let kernel = linux_kernel::provide(artifacts)?;
    let files = initial_files(archive, command)?;
    let media = Media::with_kernel(kernel, &files, COMMAND_LINE.to_owned())?;
    let mut machine = Machine::start(guest, &media, Ports::ConsoleAndLink)?;
    let Some(mut link) = machine.take_link() else { bail!("the guest has no second serial port") };
    link.set_read_timeout(Some(POLL_INTERVAL))?;
    let mut piece = [0; 4096];
    let mut last = Instant::now();
    loop {
        match link.read(&mut piece) {
            Ok(0) => return Ok(Some(format!("Linux ended early:\n{}", machine.log().tail(20)))),
            Ok(count) => {
                last = Instant::now();
                transcript.push(piece.get(..count).unwrap_or_default());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("reading the second serial port"),
        }
        if transcript.is_complete() {
            return Ok(None);
        }
        if last.elapsed() > silence {
            return Ok(Some(format!("Linux fell silent:\n{}", machine.log().tail(20))));
        }
    }
}

/// A cpio archive of what lies under `root/` in a boot archive, with a first program that runs the command.
fn initial_files(archive: &[u8], command: &[String]) -> Result<Vec<u8>> {
    let archive = Archive::parse(archive).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut cpio = Cpio::default();
    for entry in archive.entries() {
        let Some(path) = entry.path().strip_prefix(b"root/") else { continue };
        match entry.content() {
            Content::Directory => cpio.add(path, DIRECTORY | entry.mode(), b""),
            Content::File { bytes, .. } => cpio.add(path, FILE | entry.mode(), bytes),
            Content::Symlink(target) => cpio.add(path, LINK | entry.mode(), target),
        }
    }
    cpio.add(b"sys", DIRECTORY | 0o555, b"");
    cpio.add(INIT_PATH.as_bytes(), FILE | 0o755, init(command).as_bytes());
    Ok(cpio.finish())
}

/// What makes a usual system, and becomes the command, which must not end: the kernel would panic, and the machine be
/// reset before its serial port has sent everything.
fn init(command: &[String]) -> String {
    let quoted: Vec<_> = command.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    format!(
        "#!/bin/sh\n\
         mount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n\
         mkdir -p /dev/pts /dev/shm /dev/mqueue\nmount -t devpts -o ptmxmode=666 pts /dev/pts\n\
         mount -t tmpfs -o mode=1777 shm /dev/shm\nmount -t mqueue mqueue /dev/mqueue\nmount -t tmpfs -o mode=1777 tmp /tmp\n\
         ln -s /proc/self/fd /dev/fd\nln -s fd/0 /dev/stdin\nln -s fd/1 /dev/stdout\nln -s fd/2 /dev/stderr\n\
         ip link set lo up\nhostname quire\nstty -F /dev/ttyS1 raw -echo\n\
         exec {} </dev/null >/dev/ttyS1 2>/dev/console\n",
        quoted.join(" ")
    )
}

/// Kinds of files in the mode field (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive in the "newc" format (cpio(5)).
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn add(&mut self, path: &[u8], mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY && mode & FILE != FILE { 2 } else { 1 };
        self.entry(self.entries, path, mode, links, content);
    }

    fn entry(&mut self, inode: u32, path: &[u8], mode: u32, links: u32, content: &[u8]) {
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name with its NUL, checksum.
        let size = content.len();
        self.bytes.extend_from_slice(format!("070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}", 0, 0).as_bytes());
        self.bytes
            .extend_from_slice(format!("{:08x}{size:08x}{:032x}{:08x}{:08x}", 0, 0, path.len() + 1, 0).as_bytes());
        self.bytes.extend_from_slice(path);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry(0, b"TRAILER!!!", 0, 1, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_cpio_archive_are_aligned() {
        let mut cpio = Cpio::default();
        cpio.add(b"a", FILE | 0o644, b"x");
        let bytes = cpio.finish();
        assert!(bytes.starts_with(b"070701"));
        // A header of 110 bytes, the name and its NUL, then the content on a multiple of four.
        assert_eq!(&bytes[110..119], [b"a\0x".as_slice(), &[0, 0, 0], b"070"].concat());
        assert_eq!(bytes.len() % 4, 0);
    }
}
