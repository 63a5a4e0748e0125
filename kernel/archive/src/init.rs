//! The file [`PATH`]: what the posix-server runs first.
//!
//! A header with the counts, then strings that each end with a NUL: the working directory, the arguments, the environment.

use crate::format::MAX_PATH_BYTES;
use core::fmt;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the record lies in the archive.
pub const PATH: &[u8] = b"boot/init";
/// The most arguments, and the most variables in the environment.
pub const MAX_STRINGS: u32 = 1 << 16;

/// The variable in the record's environment that tells the size of the console's window, as `24x80`: lines and columns. The
/// program does not see it.
pub const CONSOLE_SIZE: &str = "CONSOLE_SIZE";

const MAGIC: [u8; 8] = *b"QUIREINI";
const STDIO_CONSOLE: u32 = 1;
const STDIO_HOST_LINK: u32 = 2;

/// What the first program's descriptors 0, 1 and 2 are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// The console terminal, which is also the program's controlling terminal.
    Console,
    /// Three pipes to the host, over the host link; the system ends with the program and hands its exit status on.
    HostLink,
}

/// Whether the host is told of every system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// It is not.
    #[default]
    Off,
    /// It is, over the host link.
    On,
}

/// What to run first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init<'a> {
    /// What its descriptors 0, 1 and 2 are.
    pub stdio: Stdio,
    /// Whether system calls are traced; without a host link they are not.
    pub trace: Tracing,
    /// The directory it starts in: absolute.
    pub directory: &'a [u8],
    arguments: &'a [u8],
    environment: &'a [u8],
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// Too few bytes, or the first ones are wrong.
    NotAnInit,
    /// The number for the standard streams is unknown.
    Stdio(u32),
    /// The number for tracing is unknown.
    Tracing(u32),
    /// More arguments or variables than [`MAX_STRINGS`], or no argument at all.
    Count,
    /// A string is missing, or there is something after the last one.
    Strings,
    /// The directory is not absolute or too long.
    Directory,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct InitRecord {
    magic: [u8; 8],
    stdio: U32,
    argument_count: U32,
    environment_count: U32,
    tracing: U32,
}

impl<'a> Init<'a> {
    /// Decodes the content of the file [`PATH`].
    ///
    /// # Errors
    ///
    /// What is wrong with it. After `Ok`, nothing here fails any more.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, InitError> {
        let (record, strings) = InitRecord::ref_from_prefix(bytes).map_err(|_| InitError::NotAnInit)?;
        if record.magic != MAGIC {
            return Err(InitError::NotAnInit);
        }
        let stdio = match record.stdio.get() {
            STDIO_CONSOLE => Stdio::Console,
            STDIO_HOST_LINK => Stdio::HostLink,
            unknown => return Err(InitError::Stdio(unknown)),
        };
        let trace = match record.tracing.get() {
            0 => Tracing::Off,
            1 => Tracing::On,
            unknown => return Err(InitError::Tracing(unknown)),
        };
        let (arguments, environment) = (record.argument_count.get(), record.environment_count.get());
        if arguments == 0 || arguments > MAX_STRINGS || environment > MAX_STRINGS {
            return Err(InitError::Count);
        }
        let (directory, strings) = split_strings(strings, 1).ok_or(InitError::Strings)?;
        let (arguments, strings) = split_strings(strings, arguments).ok_or(InitError::Strings)?;
        let (environment, rest) = split_strings(strings, environment).ok_or(InitError::Strings)?;
        if !rest.is_empty() {
            return Err(InitError::Strings);
        }
        let directory = directory.strip_suffix(&[0]).unwrap_or(directory);
        if directory.first() != Some(&b'/') || directory.len() > MAX_PATH_BYTES {
            return Err(InitError::Directory);
        }
        Ok(Self { stdio, trace, directory, arguments, environment })
    }

    /// The program to run: its absolute path, the first of the arguments.
    #[must_use]
    pub fn program(&self) -> &'a [u8] {
        self.arguments().next().unwrap_or(&[])
    }

    /// The arguments, beginning with the program itself; without the NULs at their ends.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        strings_in(self.arguments)
    }

    /// The environment, as `NAME=value`.
    pub fn environment(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        strings_in(self.environment).filter(|variable| console_size_in(variable).is_none())
    }

    /// Lines and columns of the console's window, if the record tells them.
    #[must_use]
    pub fn console_size(&self) -> Option<(u16, u16)> {
        let size = strings_in(self.environment).find_map(console_size_in)?;
        let (lines, columns) = core::str::from_utf8(size).ok()?.split_once('x')?;
        Some((lines.parse().ok()?, columns.parse().ok()?))
    }
}

/// The bytes of a record, for the file [`PATH`].
///
/// # Errors
///
/// What [`Init::decode`] would refuse; a NUL within a string is [`InitError::Strings`].
#[cfg(any(test, feature = "build"))]
pub fn encode(
    stdio: Stdio,
    trace: Tracing,
    directory: &[u8],
    arguments: &[alloc::vec::Vec<u8>],
    environment: &[alloc::vec::Vec<u8>],
) -> Result<alloc::vec::Vec<u8>, InitError> {
    let count = |strings: &[_]| u32::try_from(strings.len()).map(U32::new).map_err(|_| InitError::Count);
    let record = InitRecord {
        magic: MAGIC,
        stdio: U32::new(match stdio {
            Stdio::Console => STDIO_CONSOLE,
            Stdio::HostLink => STDIO_HOST_LINK,
        }),
        argument_count: count(arguments)?,
        environment_count: count(environment)?,
        tracing: U32::new(match trace {
            Tracing::Off => 0,
            Tracing::On => 1,
        }),
    };
    let mut bytes = alloc::vec::Vec::from(record.as_bytes());
    let directory = core::iter::once(directory);
    let strings = arguments.iter().chain(environment).map(alloc::vec::Vec::as_slice);
    for string in directory.chain(strings) {
        if string.contains(&0) {
            return Err(InitError::Strings);
        }
        bytes.extend_from_slice(string);
        bytes.push(0);
    }
    Init::decode(&bytes)?;
    Ok(bytes)
}

/// The value, if this is the variable with the size of the console's window.
fn console_size_in(variable: &[u8]) -> Option<&[u8]> {
    variable.strip_prefix(CONSOLE_SIZE.as_bytes())?.strip_prefix(b"=")
}

/// Splits off `count` strings that each end with a NUL.
fn split_strings(bytes: &[u8], count: u32) -> Option<(&[u8], &[u8])> {
    let mut length: usize = 0;
    for _ in 0..count {
        let rest = bytes.get(length..)?;
        length = length.checked_add(rest.iter().position(|byte| *byte == 0)?)?.checked_add(1)?;
    }
    bytes.split_at_checked(length)
}

fn strings_in(bytes: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    bytes.split_inclusive(|byte| *byte == 0).map(|string| string.strip_suffix(&[0]).unwrap_or(string))
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnInit => f.write_str("boot/init is not an init record"),
            Self::Stdio(number) => write!(f, "boot/init names unknown standard streams ({number})"),
            Self::Tracing(number) => write!(f, "boot/init has an unknown number for tracing ({number})"),
            Self::Count => f.write_str("boot/init has an impossible number of arguments or variables"),
            Self::Strings => f.write_str("boot/init has other strings than it counts"),
            Self::Directory => f.write_str("boot/init names a directory that is not absolute or too long"),
        }
    }
}

impl core::error::Error for InitError {}
