//! Errors, sorted by who is to blame.

/// What a call returns in `rax`: 0, or the number of an [`Error`].
pub type Status = u64;

/// The status of success.
pub const OK: Status = 0;

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// Why a call was refused. The number is the ABI.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u64)]
        pub enum Error {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Error {
            /// All errors, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The error with this number.
            pub const fn from_status(status: Status) -> Option<Self> {
                match status {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// One sentence about it, for people.
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+),)+
                }
            }
        }
    };
}

errors! {
    // The caller's own mistakes.
    /// The call number is not in the table.
    NoSuchCall = 1,
    /// The handle names nothing (closed, never opened, or of an earlier generation).
    BadHandle = 2,
    /// The handle names an object of another kind.
    WrongKind = 3,
    /// The handle lacks a right that the call needs.
    MissingRights = 4,
    /// An argument has no meaning here.
    BadArgument = 5,
    /// An address, offset or length is not a multiple of the page size.
    Misaligned = 6,
    /// A range wraps, leaves the user half of the address space, or leaves the object.
    OutOfRange = 7,
    /// A pointer of the caller can't be read or written.
    BadAddress = 8,
    /// The object is not in a state in which the call makes sense.
    BadState = 9,
    /// The range is taken already, and replacing was not asked for.
    Overlap = 10,
    /// Nothing is there: no region, no message, no such binding.
    NotFound = 11,

    // Somebody else's doing.
    /// The other side of the channel, the holder of the reply, or the target thread is gone.
    PeerClosed = 16,
    /// An address in *another* address space is not mapped, or not with the access asked for.
    RemoteFault = 17,
    /// The window was revoked by its maker.
    Revoked = 18,
    /// The pager said that it can't supply the page, or can't write it back.
    PagerFailed = 19,

    // Exhaustion.
    /// The machine has no memory left.
    NoMemory = 24,
    /// The account that would pay, or an account above it, is at its limit.
    AccountLimit = 25,
    /// A table or ring of fixed size is full.
    Full = 26,

    // Waiting.
    /// The call would have to wait and was told not to.
    WouldBlock = 32,
    /// The deadline passed.
    TimedOut = 33,
    /// The wait was ended from outside. The kernel itself never returns it: a suspended thread goes on waiting, and a wait
    /// that is ended by writing the thread's registers never returns.
    Interrupted = 34,
    /// A page of a managed memory is not there yet. Its pager has been asked; a `Fetch` submission completes when it came.
    NotPresent = 35,
}
