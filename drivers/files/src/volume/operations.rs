//! The client's operations, as the library does them.

use super::attributes::time;
use super::growth::Growth;
use super::metadata::Metadata;
use crate::platform::Platform;
use driver_protocol::files::operation::{Operation, Rename, Set, Values};
use ext4::{Attributes, Error, Ext4, New, Result, Time};

/// What an operation does to the blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// It sets the size: all beyond goes.
    Size(u64),
    /// It makes the file at least so long.
    Grown(u64),
    /// Something else.
    Some,
}

impl Cut {
    /// What this operation does to them.
    pub fn of(operation: &Operation<'_>) -> Self {
        match operation {
            Operation::SetAttributes { set, values, .. } if set.contains(Set::SIZE) => Self::Size(values.size),
            Operation::SetAttributes { set, values, .. } if set.contains(Set::GROWN) => Self::Grown(values.size),
            Operation::Punch { .. } | Operation::Allocate { .. } | Operation::Forget { .. } => Self::Some,
            Operation::Create { .. }
            | Operation::Link { .. }
            | Operation::Unlink { .. }
            | Operation::RemoveDirectory { .. }
            | Operation::Rename { .. }
            | Operation::SetAttributes { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. } => Self::Nothing,
        }
    }
}

fn number(inode: u64) -> Result<u32> {
    u32::try_from(inode).map_err(|_| Error::NotFound)
}

/// Does an operation.
pub(super) async fn apply<P: Platform>(
    system: &Ext4<Metadata<P>>,
    growth: &Growth,
    operation: &Operation<'_>,
    now: Time,
) -> Result<()> {
    match *operation {
        Operation::Create { parent, inode, name, mode, uid, gid, time: when, device, target } => {
            let new = New {
                parent: if parent == 0 { None } else { Some(number(parent)?) },
                name,
                inode: number(inode)?,
                mode: mode as u16,
                uid,
                gid,
                device: ((device >> 32) as u32, device as u32),
                target,
                now: time(when),
            };
            system.create(new).await
        }
        Operation::Link { parent, inode, name, time: when } => {
            system.link(number(inode)?, number(parent)?, name, time(when)).await
        }
        Operation::Unlink { parent, name, time: when, inode: _ } => {
            system.unlink(number(parent)?, name, time(when)).await.map(|_| ())
        }
        Operation::RemoveDirectory { parent, name, time: when, inode: _ } => {
            system.rmdir(number(parent)?, name, time(when)).await.map(|_| ())
        }
        Operation::Rename { old_parent, old_name, new_parent, new_name, how, time: when, inode: _, other: _ } => {
            let kind = match how {
                Rename::Replace => ext4::Rename::Replace,
                Rename::Exchange => ext4::Rename::Exchange,
            };
            let (from, to) = (number(old_parent)?, number(new_parent)?);
            system.rename((from, old_name), (to, new_name), kind, time(when)).await.map(|_| ())
        }
        Operation::SetAttributes { inode, set, values } => {
            set_attributes(system, growth, number(inode)?, set, &values, now).await
        }
        Operation::SetXattr { inode, name, value, time: when } => {
            system.set_xattr(number(inode)?, name, value, time(when)).await
        }
        Operation::RemoveXattr { inode, name, time: when } => {
            system.remove_xattr(number(inode)?, name, time(when)).await
        }
        Operation::Allocate { inode, offset, len_bytes } => allocate(system, number(inode)?, offset, len_bytes).await,
        Operation::Punch { inode, offset, len_bytes } => punch(system, number(inode)?, offset, len_bytes).await,
        Operation::Forget { inode } => {
            system.forget(number(inode)?, now).await?;
            growth.forget(inode);
            Ok(())
        }
    }
}

/// Sets the size first, as that sets times, too.
async fn set_attributes<P: Platform>(
    system: &Ext4<Metadata<P>>,
    growth: &Growth,
    inode: u32,
    set: Set,
    values: &Values,
    now: Time,
) -> Result<()> {
    if set.contains(Set::SIZE) {
        let when = if set.contains(Set::CHANGED) { time(values.changed) } else { now };
        let length = growth.length(u64::from(inode), system.inode(inode).await?.size);
        if values.size > length {
            let (size, now) = (Some(values.size), Some(when));
            let longer = Attributes { size, modified: now, changed: now, ..Attributes::default() };
            system.set_attributes(inode, longer).await?;
        } else {
            system.truncate(inode, values.size, when).await?;
        }
        growth.forget(u64::from(inode));
    } else if set.contains(Set::GROWN) {
        growth.grown(u64::from(inode), values.size, system.inode(inode).await?.size);
    }
    if (set - Set::SIZE - Set::GROWN).is_empty() {
        return Ok(());
    }
    let chosen = |bit: Set, value: u32| set.contains(bit).then_some(value);
    let moment = |bit: Set, value: i64| set.contains(bit).then(|| time(value));
    let attributes = Attributes {
        mode: chosen(Set::MODE, values.mode).map(|mode| mode as u16),
        uid: chosen(Set::UID, values.uid),
        gid: chosen(Set::GID, values.gid),
        size: None,
        flags: chosen(Set::FLAGS, values.flags.bits()),
        accessed: moment(Set::ACCESSED, values.accessed),
        modified: moment(Set::MODIFIED, values.modified),
        changed: moment(Set::CHANGED, values.changed),
    };
    system.set_attributes(inode, attributes).await
}

/// Allots the blocks of which a range has a part.
async fn allocate<P: Platform>(system: &Ext4<Metadata<P>>, inode: u32, offset: u64, len_bytes: u64) -> Result<()> {
    let block_bytes = u64::from(system.facts().block_bytes);
    let end = offset.checked_add(len_bytes).ok_or(Error::FileTooBig)?.div_ceil(block_bytes);
    let first = offset / block_bytes;
    if first < end { system.fallocate(inode, first, end - first).await } else { Ok(()) }
}

/// Frees the blocks that lie in a range whole.
async fn punch<P: Platform>(system: &Ext4<Metadata<P>>, inode: u32, offset: u64, len_bytes: u64) -> Result<()> {
    let block_bytes = u64::from(system.facts().block_bytes);
    let (first, end) = (offset.div_ceil(block_bytes), offset.saturating_add(len_bytes) / block_bytes);
    if first < end { system.punch(inode, first, end - first).await } else { Ok(()) }
}
