//! Files whose content is made when it is read, as they are open.

use super::body::Generator;
use super::{Body, Inode};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::io::{moved_or_fault, put_text};
use crate::file::{Destination, FileOps, Positioning, Source};
use crate::process::Pid;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// The most that is taken by one write, in bytes: a page, as Linux does.
const MAX_STORED_BYTES: usize = 4096;

/// A generated file: the text is made when it is read from the start, so that one pass sees one state.
pub(super) struct GeneratedFile {
    inode: Rc<Inode>,
    /// Who has opened it.
    opener: Pid,
    text: RefCell<Option<(Vec<u8>, Charge)>>,
}

impl GeneratedFile {
    /// A file that a process has opened.
    pub(super) fn new(inode: Rc<Inode>, opener: Pid) -> Self {
        Self { inode, opener, text: RefCell::new(None) }
    }

    fn generator(&self) -> Option<&dyn Generator> {
        match self.inode.body() {
            Body::Generated(generator) => Some(generator.as_ref()),
            Body::Regular(_)
            | Body::Directory(_)
            | Body::Link(_)
            | Body::CharacterDevice(_)
            | Body::BlockDevice(_)
            | Body::Fifo(_)
            | Body::Socket
            | Body::Anonymous => None,
        }
    }
}

impl FileOps for GeneratedFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let is_made = self.text.borrow().is_some();
        if position == 0 || !is_made {
            let text = self.generator().ok_or(Errno::EINVAL)?.generate()?;
            let charge = Charge::new(Budget::Contents, text.len() as u64)?;
            self.text.replace(Some((text, charge)));
        }
        let text = self.text.borrow();
        put_text(text.as_ref().map(|(text, _)| text.as_slice()).unwrap_or_default(), position, to)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        let generator = self.generator().ok_or(Errno::EINVAL)?;
        let mut bytes = [0; MAX_STORED_BYTES];
        let wanted = from.remaining().min(MAX_STORED_BYTES);
        if wanted == 0 {
            return Ok(0);
        }
        let got = moved_or_fault(from.get(bytes.get_mut(..wanted).unwrap_or_default()))?;
        generator.store(self.opener, bytes.get(..got).unwrap_or_default())?;
        Ok(got)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Bytes
    }
}
