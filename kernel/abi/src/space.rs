//! Records for memory objects and address spaces.

use crate::handle::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The size of a page in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// The first address that can be mapped.
pub const USER_START: u64 = 0x1000;
/// The first address beyond those that can be mapped. The last page of the lower half stays free, so that `syscall` in the
/// last mapped bytes can't leave a non-canonical return address (Intel SDM vol. 2B, SYSRET).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// How many operations one commit takes at most.
pub const MAX_COMMIT_OPS: usize = 64;
/// How many bytes one transfer (`copy`, `space_read`, …) moves at most; the returned count tells to go on.
pub const MAX_TRANSFER: u64 = 1 << 20;

bitflags::bitflags! {
    /// How a region can be used.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Protection: u32 {
        /// Loads.
        const READ = 1;
        /// Stores (implies loads on x86).
        const WRITE = 2;
        /// Instruction fetches (imply loads on x86).
        const EXECUTE = 4;
    }
}

bitflags::bitflags! {
    /// Details of [`SpaceOpKind::Map`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MapFlags: u32 {
        /// Stores go to a private copy (copy-on-write) instead of to the memory.
        const PRIVATE = 1 << 0;
        /// What is mapped in the range already is unmapped; without it, the range must be free.
        const REPLACE = 1 << 1;
        /// A clone of the space does not get this region.
        const NO_INHERIT = 1 << 2;
        /// `SpaceOp::address` is a hint: the kernel looks for a free range, at the hint if it is free, otherwise the
        /// highest that fits below it. The address chosen is returned (single-operation commits only).
        const FIND = 1 << 3;
    }
}

/// What a [`SpaceOp`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SpaceOpKind {
    /// Map `length` bytes at `address`: of `object` (a memory) from `offset`, or zero pages if it is [`Handle::NONE`]
    /// (which must be private). Needs `MAP` on the memory, plus `READ`, `WRITE` (if shared) and `EXECUTE` for the
    /// protections that the region may ever have: those of the handle's rights.
    Map = 1,
    /// Unmap all that is in the range, even if that is nothing.
    Unmap = 2,
    /// Change the protection of the range, which must be mapped without holes.
    Protect = 3,
    /// Forget the private pages in the range: private regions read as their source again.
    Discard = 4,
    /// Move the regions and private pages of [`address`, +`length`) to `offset`, which must be free.
    Move = 5,
    /// Make this space a copy of the space `object` (needs `READ` there): shared regions are shared, private ones
    /// copied on write, those mapped `NO_INHERIT` left out. This space must have no regions yet.
    Clone = 6,
}

impl SpaceOpKind {
    /// The kind with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Map,
            2 => Self::Unmap,
            3 => Self::Protect,
            4 => Self::Discard,
            5 => Self::Move,
            6 => Self::Clone,
            _ => return None,
        })
    }
}

/// One operation of a commit; 48 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SpaceOp {
    /// A [`SpaceOpKind`].
    pub kind: u32,
    /// Bits of [`Protection`].
    pub protection: u32,
    /// Bits of [`MapFlags`].
    pub flags: u32,
    /// The memory or space it concerns.
    pub object: Handle,
    /// Where, in the space; page-aligned.
    pub address: u64,
    /// How many bytes; page-aligned, not 0.
    pub length: u64,
    /// Where in the object, or the target of a move; page-aligned.
    pub offset: u64,
    /// Always 0.
    pub reserved: u64,
}

impl SpaceOp {
    const PROTECTION_SHIFT: u32 = 8;
    const FLAGS_SHIFT: u32 = 16;

    /// Kind, protection and flags as `space_change` takes them; `None` if they don't fit, and so mean nothing.
    #[inline]
    pub const fn packed(&self) -> Option<u64> {
        let Self { kind, protection, flags, .. } = *self;
        if kind >= 1 << 8 || protection >= 1 << 8 || flags >= 1 << 16 {
            return None;
        }
        Some((kind | protection << Self::PROTECTION_SHIFT | flags << Self::FLAGS_SHIFT) as u64)
    }

    /// The operation with these packed parts and nothing else; `None` if bits are set that mean nothing.
    #[inline]
    pub const fn unpacked(packed: u64) -> Option<Self> {
        if packed > u32::MAX as u64 {
            return None;
        }
        let packed = packed as u32;
        Some(Self {
            kind: packed & 0xff,
            protection: packed >> Self::PROTECTION_SHIFT & 0xff,
            flags: packed >> Self::FLAGS_SHIFT,
            object: Handle::NONE,
            address: 0,
            length: 0,
            offset: 0,
            reserved: 0,
        })
    }
}

/// What `space_query` tells of one region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionInfo {
    /// First address.
    pub address: u64,
    /// Length in bytes.
    pub length: u64,
    /// Where in the memory it starts, in bytes; 0 for zero pages.
    pub offset: u64,
    /// Bits of [`Protection`].
    pub protection: u32,
    /// Bits of [`MapFlags`] (`PRIVATE` and `NO_INHERIT`).
    pub flags: u32,
    /// Pages of the range that are private frames of this space.
    pub private_pages: u64,
}

/// What `space_info` tells of a whole space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SpaceInfo {
    /// Regions.
    pub regions: u64,
    /// Pages that are private frames of the space, those that a clone has too included, whoever pays for them.
    pub private_pages: u64,
}

bitflags::bitflags! {
    /// How a memory is made.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MemoryFlags: u32 {
        /// All frames at once and adjacent, for devices.
        const CONTIGUOUS = 1 << 0;
        /// Of physical memory: device registers, not cached.
        const UNCACHED = 1 << 1;
    }
}

/// What `memory_info` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryInfo {
    /// Size in bytes.
    pub size: u64,
    /// Pages that the memory has frames of its own for.
    pub resident_pages: u64,
    /// Physical address of the first frame of a contiguous or physical memory, else `u64::MAX`; told only to holders
    /// of `MANAGE`.
    pub physical_address: u64,
    /// Bits of [`PagerFlags`](crate::pager::PagerFlags); 0 of a memory that is not managed.
    pub pager: u32,
    /// Always 0.
    pub reserved: u32,
    /// How long whoever needs a page of a managed memory waits for it at most, in ns.
    pub deadline_ns: u64,
    /// Pages of a managed memory that were stored to and that its pager does not have yet.
    pub unwritten_pages: u64,
}
