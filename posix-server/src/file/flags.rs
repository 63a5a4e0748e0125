//! What an open file may be used for, is ready for, and keeps of the flags of `open`.

use bitflags::bitflags;
use linux_raw_sys::general as linux;

bitflags! {
    /// What a file is ready for, with the numbers of `poll`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PollEvents: u32 {
        /// Reading would not wait.
        const IN = linux::POLLIN;
        /// Something exceptional can be read.
        const PRIORITY = linux::POLLPRI;
        /// Writing would not wait.
        const OUT = linux::POLLOUT;
        /// An error; always reported.
        const ERROR = linux::POLLERR;
        /// The other end has gone; always reported.
        const HANG_UP = linux::POLLHUP;
        /// The descriptor is not open; always reported.
        const INVALID = linux::POLLNVAL;
        /// As `IN`, for ordinary data.
        const READ_NORMAL = linux::POLLRDNORM;
        /// As `PRIORITY`, for data of a band.
        const READ_BAND = linux::POLLRDBAND;
        /// As `OUT`, for ordinary data.
        const WRITE_NORMAL = linux::POLLWRNORM;
        /// As `OUT`, for data of a band.
        const WRITE_BAND = linux::POLLWRBAND;
        /// The other end will write no more.
        const READ_HANG_UP = linux::POLLRDHUP;
    }
}

impl PollEvents {
    /// Reading would not wait.
    pub const READABLE: Self = Self::IN.union(Self::READ_NORMAL);
    /// Writing would not wait.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRITE_NORMAL);
    /// What `poll` reports unasked.
    pub const ALWAYS: Self = Self::ERROR.union(Self::HANG_UP).union(Self::INVALID);
}

bitflags! {
    /// The flags of an open file that `fcntl(F_SETFL)` can change.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StatusFlags: u32 {
        /// Writes go to the end.
        const APPEND = linux::O_APPEND;
        /// Nothing waits.
        const NONBLOCK = linux::O_NONBLOCK;
        /// Signals on readiness; kept, without effect.
        const ASYNC = linux::FASYNC;
        /// Past the cache; kept, without effect.
        const DIRECT = linux::O_DIRECT;
        /// No access times.
        const NO_ACCESS_TIME = linux::O_NOATIME;
    }
}

/// What an open file may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    ReadWrite,
    /// The fourth value, for `ioctl` only: permissions to read and write are needed, but neither can be done.
    Neither,
    /// `O_PATH`: a name, not a file.
    Path,
}

impl AccessMode {
    /// The mode that `open` flags name.
    pub fn from_flags(flags: u32) -> Self {
        if flags & linux::O_PATH != 0 {
            return Self::Path;
        }
        match flags & linux::O_ACCMODE {
            linux::O_RDONLY => Self::Read,
            linux::O_WRONLY => Self::Write,
            linux::O_RDWR => Self::ReadWrite,
            _ => Self::Neither,
        }
    }

    /// The bits of it that `F_GETFL` shows.
    pub fn flags(self) -> u32 {
        match self {
            Self::Read => linux::O_RDONLY,
            Self::Write => linux::O_WRONLY,
            Self::ReadWrite => linux::O_RDWR,
            Self::Neither => linux::O_ACCMODE,
            Self::Path => linux::O_PATH,
        }
    }

    /// Whether it allows reading.
    pub fn can_read(self) -> bool {
        match self {
            Self::Read | Self::ReadWrite => true,
            Self::Write | Self::Neither | Self::Path => false,
        }
    }

    /// Whether permission to write is needed.
    pub fn wants_write(self) -> bool {
        self.can_write() || self == Self::Neither
    }

    /// Whether it allows writing.
    pub fn can_write(self) -> bool {
        match self {
            Self::Write | Self::ReadWrite => true,
            Self::Read | Self::Neither | Self::Path => false,
        }
    }
}

/// What the position of a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positioning {
    /// A byte's place, which reads and writes advance.
    Bytes,
    /// A place in a directory.
    Entries,
    /// Always 0, and seeking is harmless.
    Ignored,
    /// There is none, but seeking is harmless: it gives 0.
    Nowhere,
    /// There is none: seeking is `ESPIPE`.
    Stream,
}

impl Positioning {
    /// Whether reads and writes at a position of their own are `ESPIPE`.
    pub fn is_stream(self) -> bool {
        match self {
            Self::Nowhere | Self::Stream => true,
            Self::Bytes | Self::Entries | Self::Ignored => false,
        }
    }
}
