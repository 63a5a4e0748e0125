//! The settings in `/proc/sys` (`proc(5)`, `sysctl(8)`): what they are, and what the superuser has made of them.
//!
//! Most are kept and shown, so that who sets them finds them set; those that do something say so where they are used.

use crate::errno::{Errno, Result};
use crate::fs::protection::Level;
use crate::process::Server;
use crate::random;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::cell::RefCell;

/// The last capability that there is (`CAP_CHECKPOINT_RESTORE`).
pub const LAST_CAPABILITY: u32 = 40;

/// What a setting is.
pub enum Setting {
    /// It can't be changed.
    Fixed(&'static str),
    /// It can't be changed, and is made when it is read.
    Shown(fn(&Server) -> Vec<u8>),
    /// A number that can be changed, in a range, and what it is at first.
    Number {
        /// Under which it is kept.
        name: &'static str,
        /// At first.
        default: i64,
        /// The least.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Several numbers in a line, or a string: kept as it is written, up to so many bytes.
    Line {
        /// Under which it is kept.
        name: &'static str,
        /// At first.
        default: &'static str,
        /// The longest, in bytes.
        max_bytes: usize,
    },
    /// A setting that is kept elsewhere.
    Elsewhere(fn(&Server) -> Vec<u8>, fn(&Server, &[u8]) -> Result<()>),
    /// How far a protection goes, and how far it may.
    Protection(&'static Level, u8),
    /// It does something when it is written.
    Trigger(fn(&Server)),
}

/// What was set.
#[derive(Debug, Default)]
pub struct Values(RefCell<BTreeMap<&'static str, Vec<u8>>>);

impl Values {
    /// A number that was set, or what it is at first.
    pub fn number(&self, name: &str, default: i64) -> i64 {
        self.0.borrow().get(name).and_then(|text| parse_number(text)).unwrap_or(default)
    }

    /// One that may be larger, of a setting that is a line.
    pub fn large_number(&self, name: &str, default: u64) -> u64 {
        let values = self.0.borrow();
        let text = values.get(name).and_then(|text| core::str::from_utf8(text).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(default)
    }
}

/// Sixteen random bytes.
pub fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    bytes
}

/// A decimal number with white space around it.
pub fn parse_number(bytes: &[u8]) -> Option<i64> {
    core::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = text.to_vec();
    line.push(b'\n');
    line
}

/// What was written, up to the first newline.
fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default()
}

impl Setting {
    /// The permissions of its file.
    pub(super) fn permissions(&self) -> u32 {
        match self {
            Self::Fixed(_) | Self::Shown(_) => 0o444,
            Self::Number { .. } | Self::Line { .. } | Self::Elsewhere(..) => 0o644,
            Self::Protection(..) => 0o644,
            Self::Trigger(_) => 0o200,
        }
    }

    /// What its file shows.
    pub(super) fn show(&self, server: &Server) -> Vec<u8> {
        let kept = |name: &str| server.settings.0.borrow().get(name).cloned();
        match self {
            Self::Fixed(text) => line(text.as_bytes()),
            Self::Shown(show) | Self::Elsewhere(show, _) => line(&show(server)),
            Self::Number { name, default, .. } => {
                line(&kept(name).unwrap_or_else(|| format!("{default}").into_bytes()))
            }
            Self::Line { name, default, .. } => line(&kept(name).unwrap_or_else(|| default.as_bytes().to_vec())),
            Self::Protection(level, _) => line(format!("{}", level.get()).as_bytes()),
            Self::Trigger(_) => Vec::new(),
        }
    }

    /// Takes what is written to its file. `EINVAL`.
    pub(super) fn store(&self, server: &Server, bytes: &[u8]) -> Result<()> {
        let keep = |name: &'static str, value: Vec<u8>| {
            server.settings.0.borrow_mut().insert(name, value);
            Ok(())
        };
        match self {
            Self::Fixed(_) | Self::Shown(_) => Err(Errno::EPERM),
            Self::Elsewhere(_, store) => store(server, first_line(bytes)),
            Self::Number { name, min, max, .. } => {
                let value = parse_number(bytes).filter(|value| (min..=max).contains(&value)).ok_or(Errno::EINVAL)?;
                keep(name, format!("{value}").into_bytes())
            }
            Self::Line { name, max_bytes, .. } => {
                let text = first_line(bytes);
                keep(name, text.get(..text.len().min(*max_bytes)).unwrap_or_default().to_vec())
            }
            Self::Protection(level, most) => {
                let value = parse_number(bytes).and_then(|value| u8::try_from(value).ok());
                level.set(value.filter(|value| value <= most).ok_or(Errno::EINVAL)?);
                Ok(())
            }
            Self::Trigger(act) => parse_number(bytes).map(|_| act(server)).ok_or(Errno::EINVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_white_space_around_them() {
        assert_eq!(parse_number(b" 17\n"), Some(17));
        assert_eq!(parse_number(b"-3"), Some(-3));
        for text in [&b""[..], b"x", b"1 2", b"0x10", b"\xff"] {
            assert_eq!(parse_number(text), None);
        }
    }

    #[test]
    fn one_line_is_taken() {
        assert_eq!(first_line(b"core.%p\nmore"), b"core.%p");
        assert_eq!(first_line(b""), b"");
    }
}
