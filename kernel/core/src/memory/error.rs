//! Why something about memory failed, sorted by who is to blame.

use alloc::collections::TryReserveError;

use super::object::Memory;
use crate::account::{CreateAccountError, LimitReached};
use crate::pool::{Id, PoolExhausted};
use quire_abi::error::Error;

/// Something needed was not to be had. Nobody's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The machine has no frame, or the kernel no heap, left.
    NoMemory,
    /// The account that would pay, or one above it, is at its limit.
    AccountLimit,
}

impl From<LimitReached> for Exhausted {
    fn from(_: LimitReached) -> Self {
        Self::AccountLimit
    }
}

impl From<CreateAccountError> for Exhausted {
    fn from(error: CreateAccountError) -> Self {
        match error {
            CreateAccountError::NoMemory => Self::NoMemory,
            CreateAccountError::LimitReached | CreateAccountError::TooDeep => Self::AccountLimit,
        }
    }
}

impl From<PoolExhausted> for Exhausted {
    fn from(_: PoolExhausted) -> Self {
        Self::NoMemory
    }
}

impl From<TryReserveError> for Exhausted {
    fn from(_: TryReserveError) -> Self {
        Self::NoMemory
    }
}

/// A page of a managed memory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The managed memory; never a window on it.
    pub memory: Id<Memory>,
    /// The page's number there.
    pub page: u64,
}

/// Why a page could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// No region holds the address.
    NotMapped,
    /// The region does not allow the access.
    AccessDenied,
    /// The region is longer than the memory behind it, and the address lies beyond the memory's end.
    BeyondEnd,
    /// The memory behind the region is a window that was revoked.
    Revoked,
    /// A pager has to be asked for the page.
    NotPresent(Absent),
    /// A pager would have to be asked for the page, and there is none.
    NoPager,
    /// The machine has no memory left.
    NoMemory,
    /// The account that would pay is at its limit.
    AccountLimit,
}

impl From<Exhausted> for FaultError {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::NoMemory => Self::NoMemory,
            Exhausted::AccountLimit => Self::AccountLimit,
        }
    }
}

/// Why an operation on memories or spaces was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// An address, offset or length is not a multiple of the page size.
    Misaligned,
    /// A range is empty, wraps, or leaves its object or the user half of the address space.
    OutOfRange,
    /// The arguments contradict each other.
    BadArgument,
    /// The object is of a kind, or in a state, that does not allow this.
    BadState,
    /// The range is taken already.
    Overlap,
    /// The space has as many regions as it may.
    TooManyRegions,
    /// A page is mapped for devices as often as it may.
    TooManyPins,
    /// An address could not be resolved.
    Fault(FaultError),
}

impl MemoryError {
    /// Nothing is mapped there.
    pub(super) const NOT_MAPPED: Self = Self::Fault(FaultError::NotMapped);
}

impl From<FaultError> for MemoryError {
    fn from(error: FaultError) -> Self {
        Self::Fault(error)
    }
}

impl From<Exhausted> for MemoryError {
    fn from(exhausted: Exhausted) -> Self {
        Self::Fault(exhausted.into())
    }
}

impl From<Exhausted> for Error {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::NoMemory => Self::NoMemory,
            Exhausted::AccountLimit => Self::AccountLimit,
        }
    }
}

/// As the caller of an operation on its *own* memory sees it; for an address in another space, the caller of this
/// conversion says [`Error::RemoteFault`] instead of [`Error::BadAddress`].
impl From<FaultError> for Error {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::NotMapped | FaultError::AccessDenied | FaultError::BeyondEnd => Self::BadAddress,
            FaultError::Revoked => Self::Revoked,
            FaultError::NotPresent(_) => Self::NotPresent,
            FaultError::NoPager => Self::PeerClosed,
            FaultError::NoMemory => Self::NoMemory,
            FaultError::AccountLimit => Self::AccountLimit,
        }
    }
}

impl From<MemoryError> for Error {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Misaligned => Self::Misaligned,
            MemoryError::OutOfRange => Self::OutOfRange,
            MemoryError::BadArgument => Self::BadArgument,
            MemoryError::BadState => Self::BadState,
            MemoryError::Overlap => Self::Overlap,
            MemoryError::TooManyRegions | MemoryError::TooManyPins => Self::Full,
            MemoryError::Fault(error) => error.into(),
        }
    }
}
