//! The options of `mount` that are the file system's business: `size=1m,mode=755`. Pure.

use crate::errno::{Errno, Result};
use crate::platform::{self, PAGE_SIZE};
use alloc::string::String;
use core::fmt::Write as _;

/// The options of tmpfs (`tmpfs(5)`); what is not given is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// The most that contents may take, in bytes; 0 for no limit.
    pub size: Option<u64>,
    /// How many files there may be; 0 for no limit.
    pub inodes: Option<u64>,
    /// The root's permissions.
    pub mode: Option<u32>,
    /// The root's owner.
    pub uid: Option<u32>,
    /// The root's group.
    pub gid: Option<u32>,
}

/// The machine's memory in bytes.
fn machine_bytes() -> u64 {
    platform::frames().0.saturating_mul(PAGE_SIZE)
}

impl TmpfsOptions {
    /// What a list of options says, for a new file system. `EINVAL` for what is unknown or no number.
    pub fn parse(list: &[u8]) -> Result<Self> {
        Self::default().changed_by(list)
    }

    /// These options, with those of the list in their place (`MS_REMOUNT`). `EINVAL`.
    pub fn changed_by(&self, list: &[u8]) -> Result<Self> {
        let mut options = self.clone();
        for option in list.split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
            options.set(option)?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &[u8]) -> Result<()> {
        let mut parts = option.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        match (name, value) {
            (b"size", Some(value)) => self.size = Some(size(value)?),
            (b"nr_blocks", Some(value)) => {
                self.size = Some(scaled(value)?.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?);
            }
            (b"nr_inodes", Some(value)) => self.inodes = Some(scaled(value)?),
            (b"mode", Some(value)) => self.mode = Some(number(value, 8)? as u32 & 0o7777),
            (b"uid", Some(value)) => self.uid = Some(id(value)?),
            (b"gid", Some(value)) => self.gid = Some(id(value)?),
            // Numbers of inodes are 64 bits wide in any case, and pages are never swapped or huge.
            (b"inode64" | b"noswap", None) => {}
            (b"huge", Some(b"never")) | (b"mpol", Some(b"default")) => {}
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// The limit in pages: half of the machine's memory unless it was given.
    pub fn pages(&self) -> u64 {
        match self.size {
            None => machine_bytes() / PAGE_SIZE / 2,
            Some(0) => machine_bytes() / PAGE_SIZE,
            Some(bytes) => bytes.div_ceil(PAGE_SIZE),
        }
    }

    /// The list as `/proc/mounts` shows it, each option with a comma in front.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        let mut add = |arguments: core::fmt::Arguments<'_>| {
            // Writing to a string never fails.
            let _ = text.write_fmt(arguments);
        };
        if let Some(size) = self.size {
            add(format_args!(",size={}k", size.div_ceil(PAGE_SIZE) * (PAGE_SIZE >> 10)));
        }
        if let Some(inodes) = self.inodes {
            add(format_args!(",nr_inodes={inodes}"));
        }
        if let Some(mode) = self.mode.filter(|mode| *mode != 0o1777) {
            add(format_args!(",mode={mode:03o}"));
        }
        if let Some(uid) = self.uid.filter(|uid| *uid != 0) {
            add(format_args!(",uid={uid}"));
        }
        if let Some(gid) = self.gid.filter(|gid| *gid != 0) {
            add(format_args!(",gid={gid}"));
        }
        add(format_args!(",inode64"));
        text
    }
}

fn number(text: &[u8], radix: u32) -> Result<u64> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    u64::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

fn id(text: &[u8]) -> Result<u32> {
    u32::try_from(number(text, 10)?).ok().filter(|id| *id != u32::MAX).ok_or(Errno::EINVAL)
}

/// A number that may end with `k`, `m`, `g` or `t` (`memparse`).
fn scaled(text: &[u8]) -> Result<u64> {
    let (digits, shift) = match text.split_last() {
        Some((b'k' | b'K', digits)) => (digits, 10),
        Some((b'm' | b'M', digits)) => (digits, 20),
        Some((b'g' | b'G', digits)) => (digits, 30),
        Some((b't' | b'T', digits)) => (digits, 40),
        Some(_) | None => (text, 0),
    };
    number(digits, 10)?.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

/// A size in bytes, or in per cent of the machine's memory.
fn size(text: &[u8]) -> Result<u64> {
    match text.split_last() {
        Some((b'%', digits)) => Ok(machine_bytes() / 100 * number(digits, 10)?.min(100_000)),
        Some(_) | None => scaled(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_shown() {
        let options = TmpfsOptions::parse(b"size=1m,nr_inodes=2k,mode=700,uid=5,gid=6").unwrap();
        assert_eq!((options.size, options.inodes, options.pages()), (Some(1 << 20), Some(2048), 256));
        assert_eq!(options.shown(), ",size=1024k,nr_inodes=2048,mode=700,uid=5,gid=6,inode64");
        assert_eq!(TmpfsOptions::parse(b"").unwrap().shown(), ",inode64");
        let grown = options.changed_by(b"size=5000").unwrap();
        assert_eq!((grown.pages(), grown.inodes), (2, Some(2048)));
    }

    #[test]
    fn what_is_unknown_or_no_number_is_refused() {
        for list in [
            &b"nonsense"[..],
            b"size",
            b"size=",
            b"size=x",
            b"mode=9",
            b"uid=-1",
            b"uid=4294967295",
            b"size=99999999999t",
        ] {
            assert_eq!(TmpfsOptions::parse(list), Err(Errno::EINVAL));
        }
    }
}
