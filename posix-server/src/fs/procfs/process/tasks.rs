//! `/proc/PID/task`: a directory for each thread, which shows the process.

use super::subject::Subject;
use super::{Level, Whose, directory_of, parse_number};
use crate::errno::{Errno, Result};
use crate::fs::Dentry;
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Listing};
use crate::fs::procfs::{add, check_name};
use crate::process::Pid;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// `/proc/PID/task`.
pub(super) struct Tasks(pub Whose);

impl Tasks {
    /// The threads, ascending; of a process that has ended, the first.
    fn tids(&self) -> Result<Vec<Pid>> {
        let subject = self.0.subject()?;
        let threads = subject.process().map(|process| process.threads()).unwrap_or_default();
        let mut tids: Vec<Pid> = threads.iter().map(|thread| thread.tid).collect();
        if subject.process().is_none() {
            tids.push(self.0.pid);
        }
        tids.sort_unstable();
        Ok(tids)
    }
}

impl Directory for Tasks {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        let tid = parse_number(name).ok_or(Errno::ENOENT)?;
        if !self.tids()?.contains(&tid) {
            return Err(Errno::ENOENT);
        }
        let inode = directory_of(Whose { level: Level::Thread(tid), ..self.0.clone() })?;
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        for tid in self.tids()? {
            let position = FIRST_ENTRY + tid as u64;
            let name = format!("{tid}");
            let inode = Level::Thread(tid).first_inode(self.0.pid);
            let entry = Entry { name: name.as_bytes(), inode, file_type: linux::S_IFDIR, next: position + 1 };
            if position >= from && each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

/// `children`: the processes that a thread has made.
pub(super) fn children(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = String::new();
    let children =
        subject.server.tree.look(|tree, (pid, tid)| tree.children_of_thread(pid, tid), (subject.pid, subject.tid));
    for child in children {
        add!(text, "{child} ");
    }
    Ok(text.into_bytes())
}
