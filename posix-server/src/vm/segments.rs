//! Shared memory of System V in address spaces.

use super::{Area, Areas, Content, Vm};
use crate::errno::{Errno, Result};
use crate::platform::PAGE_SIZE;
use crate::process::Pid;
use crate::sysv::segments::Attachment;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// What a child gets of a parent's areas: attachments of its own. `ENOMEM`.
pub(super) fn inherited(mut areas: Areas) -> Result<Areas> {
    let shown: Vec<_> = areas.iter().filter_map(|area| Some((area.start, segment(area)?))).collect();
    let mut copies: Vec<(Rc<Attachment>, Rc<Attachment>)> = Vec::new();
    for (start, (attachment, offset)) in shown {
        let known = copies.iter().find(|(old, _)| Rc::ptr_eq(old, &attachment)).map(|(_, new)| new.clone());
        let copy = match known {
            Some(copy) => copy,
            None => {
                let copy = Rc::new(attachment.copy()?);
                copies.push((attachment, copy.clone()));
                copy
            }
        };
        areas.set_content(start, Content::Segment(copy, offset));
    }
    Ok(areas)
}

/// The segment that an area shows, and from where.
fn segment(area: &Area) -> Option<(Rc<Attachment>, u64)> {
    match &area.content {
        Content::Segment(attachment, offset) => Some((attachment.clone(), *offset)),
        Content::Anonymous | Content::Heap | Content::Stack | Content::SharedAnonymous(..) | Content::File(..) => None,
    }
}

impl Vm {
    /// Whether shared memory of System V may be attached.
    pub fn has_segments(&self) -> bool {
        self.has_segments.get()
    }

    /// Says whose the attachments are that it has got with a copy.
    pub fn set_owner(&self, owner: Pid) {
        self.segments().iter().for_each(|(_, attachment)| attachment.set_owner(owner));
    }

    /// The areas that show segments, ascending.
    fn segments(&self) -> Vec<(Area, Rc<Attachment>)> {
        let areas = self.areas.borrow();
        areas.iter().filter_map(|area| Some((area.clone(), segment(area)?.0))).collect()
    }

    /// Unmaps the segment that was attached at an address, what is left of it. `EINVAL` if there is none.
    pub fn detach(&self, address: u64) -> Result<()> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let is_there = |area: &Area| area.start.checked_sub(area.content.offset()) == Some(address);
        let mut parts = self.segments();
        parts.retain(|(area, _)| is_there(area));
        let first = parts.first().map(|(_, attachment)| attachment.clone()).ok_or(Errno::EINVAL)?;
        parts.retain(|(_, attachment)| Rc::ptr_eq(attachment, &first));
        parts.iter().try_for_each(|(area, _)| self.unmap(area.start, area.length()))
    }

    /// Unmaps all segments, as the end of a process does.
    pub fn detach_all(&self) {
        for (area, _) in self.segments() {
            // It is mapped, and unmapping what is takes nothing that could be missing; if it fails, it goes with the space.
            let _ = self.unmap(area.start, area.length());
        }
    }
}
