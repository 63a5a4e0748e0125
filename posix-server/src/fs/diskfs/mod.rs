//! File systems on disks: ext2, ext3 and ext4, each served by a process of its own.
//!
//! The file server knows the disk; names and attributes live here as long as they are used (`driver_protocol::files` is what both agree
//! upon). So `open`, `stat`, `mkdir` and `rename` are done in this server's memory, and the disk follows.
//!
//! # The life of a file
//! 1. A path leads into a directory that was not used yet. The call fails, and has noted what it needs ([`Volume::want`]); a task loads
//!    the directory; the call is made again and finds all names, asleep. The one that it looks up gets its inode.
//! 2. Its first page is read, or stored: the content becomes a managed memory, and the server its pager ([`served`]). From now on kernel
//!    and file server move pages without a word from here.
//! 3. It is written to, renamed, made read-only: each change is made in memory, and recorded in the [`log`] in the same step.
//!    A task sends the log ([`session`]); `fsync` waits until it is durable.
//! 4. Nobody uses it any more. What was stored is written back; then the directory that it is in can be forgotten ([`cache`]).
//!
//! # When the server dies
//! Calls that wait for it go on waiting; stores stay in the memories, which outlive it; what was recorded and is not durable is sent to its
//! successor. What the successor needs to know from the dead one stands in the notes, a memory of ours.
//!
//! | module | what |
//! |---|---|
//! | `volume` | a mounted file system: what is known and what is wanted |
//! | `inodes` | those of its inodes that are in memory, and numbers for new ones |
//! | `directory`, `file` | what is in it |
//! | `places` | where files have blocks |
//! | `log` | operations, until they are durable |
//! | `session` | the tasks: finding the server, sending, writing back |
//! | `served` | whose pager the server is |
//! | `space` | promises of what is free |
//! | `cache` | what is forgotten when room is needed |
//! | `server` | the file server, as it is reached |
//! | `disks` | which disks there are, and which are mounted |

mod cache;
mod directory;
pub mod disks;
mod file;
mod inodes;
mod log;
mod places;
mod served;
pub mod server;
mod session;
mod space;
#[cfg(test)]
pub(crate) mod tests;
mod volume;

pub use directory::Loaded;
pub use disks::{Disk, DiskSource, Disks};
pub use file::DiskFile;
pub use volume::Volume;

use super::filesystem::{FileSystemType, Instances, Made, MountRequest, Storage};
use crate::errno::{Errno, Result};
use driver_protocol::files::MountFlags;

const EXT_MAGIC: u64 = 0xef53;

/// The file systems of disks.
pub static EXT4: FileSystemType = FileSystemType {
    name: "ext4",
    magic: EXT_MAGIC,
    storage: Storage::Disk,
    instances: Instances::Each(|request| mount(request, &EXT4)),
};
/// The same, as it was before.
pub static EXT3: FileSystemType = FileSystemType {
    name: "ext3",
    magic: EXT_MAGIC,
    storage: Storage::Disk,
    instances: Instances::Each(|request| mount(request, &EXT3)),
};
/// The same, without a journal.
pub static EXT2: FileSystemType = FileSystemType {
    name: "ext2",
    magic: EXT_MAGIC,
    storage: Storage::Disk,
    instances: Instances::Each(|request| mount(request, &EXT2)),
};

/// Options that say nothing that is not so anyway, or nothing that matters here.
const USUAL_OPTIONS: [&[u8]; 16] = [
    b"",
    b"defaults",
    b"errors=remount-ro",
    b"errors=continue",
    b"data=ordered",
    b"barrier=1",
    b"barrier",
    b"delalloc",
    b"auto_da_alloc",
    b"user_xattr",
    b"acl",
    b"noacl",
    b"nodiscard",
    b"discard",
    b"commit=5",
    b"norecovery",
];

/// `EINVAL` unless all options are known.
pub fn check_options(options: &[u8]) -> Result<()> {
    let are_known = options.split(|byte| *byte == b',').all(|option| USUAL_OPTIONS.contains(&option));
    if are_known { Ok(()) } else { Err(Errno::EINVAL) }
}

/// How its server is to mount it.
fn mount_flags(request: &MountRequest<'_>) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::READ_ONLY, request.is_read_only);
    let on_errors = request.options.split(|byte| *byte == b',').rfind(|option| option.starts_with(b"errors="));
    flags.set(MountFlags::END_AT_ERRORS, on_errors == Some(b"errors=remount-ro"));
    flags.set(MountFlags::CONTINUE_AT_ERRORS, on_errors == Some(b"errors=continue"));
    flags
}

/// Mounts a disk, or gives what is mounted of it already. `ENOTBLK`, `ENXIO`, `EINVAL`, `EIO`.
fn mount(request: &MountRequest<'_>, kind: &'static FileSystemType) -> Result<Made> {
    check_options(request.options)?;
    let device = request.device.ok_or(Errno::ENOTBLK)?;
    let disks = request.server.disks.get().ok_or(Errno::ENXIO)?;
    disks.mount(device, kind, mount_flags(request))
}
