//! The file server, as it is reached.

use crate::errno::{Errno, Result};
use crate::platform::{LocalFuture, Memory, Pager};
use alloc::vec::Vec;
use driver_protocol::Words;
use driver_protocol::files::{Refused, Request};

/// What goes along with a request.
pub enum Enclosed<'a> {
    /// No handles.
    Nothing,
    /// The notes.
    Notes(&'a Memory),
    /// A file's pager, and its memory.
    File(&'a Pager, &'a Memory),
}

/// What a server answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// 0, or why not.
    pub label: u64,
    /// Numbers.
    pub words: Words,
    /// The room for bytes that the request gave, as it is now.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The answer, unless it is a refusal.
    pub fn check(self) -> core::result::Result<Self, Refused> {
        Refused::check(self.label).map(|()| self)
    }

    /// The first so many bytes that came; fewer if the server says more than there can be.
    pub fn filled(&self, len_bytes: u64) -> &[u8] {
        let length = usize::try_from(len_bytes).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.get(..length).unwrap_or_default()
    }
}

/// The server of one file system.
pub trait FileServer {
    /// Asks for something, with bytes and with room for some. An error says that the server is gone, and with it the answer.
    fn call(
        &self,
        request: Request,
        send: Vec<u8>,
        receive_bytes: usize,
        enclosed: Enclosed<'_>,
    ) -> LocalFuture<Result<Answer>>;
}

/// What a program gets for a refusal.
pub fn errno_of(refused: Refused) -> Errno {
    match refused {
        Refused::Busy | Refused::Mounted => Errno::EBUSY,
        Refused::NotAFileSystem | Refused::Unsupported => Errno::EINVAL,
        Refused::NoSpace | Refused::NoInodes => Errno::ENOSPC,
        Refused::ReadOnly => Errno::EROFS,
        Refused::TooManyLinks => Errno::EMLINK,
        Refused::Corrupt => Errno::EUCLEAN,
        Refused::BadChecksum => Errno::EBADMSG,
        Refused::Unknown
        | Refused::DeviceFailed
        | Refused::BadBuffer
        | Refused::NotMounted
        | Refused::OutOfOrder
        | Refused::NotFound
        | Refused::Exists
        | Refused::NotEmpty
        | Refused::WrongKind
        | Refused::TooLarge => Errno::EIO,
    }
}
