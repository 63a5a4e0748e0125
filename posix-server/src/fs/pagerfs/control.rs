//! `/pager/.control`: a file for each setting of the store. A number, or a word; what is only counted can't be set.

use super::Store;
use crate::errno::{Errno, Result};
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Generator, Listing};
use crate::fs::procfs::sysctl::parse_number;
use crate::fs::{Body, Dentry, FileSystem, Inode};
use crate::platform::Successor;
use crate::process::Pid;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use driver_protocol::pages::{Death, Setting};

const NS_PER_MS: u64 = 1_000_000;
/// The words for whether a successor is awaited.
const AWAIT: &[u8] = b"await";
const FAIL: &[u8] = b"fail";
/// The word for no death.
const NEVER: &str = "never";

/// What a file is about.
#[derive(Clone, Copy)]
enum Subject {
    /// A setting of the server's.
    Setting(Setting),
    /// The deadline of files that are first used from now on, in ms.
    Deadline,
    /// What becomes of those who use such a file while there is no server.
    Policy,
}

/// The directory, whose names don't change.
pub(super) fn directory(filesystem: &Rc<FileSystem>, store: &Rc<Store>) -> Rc<Inode> {
    let settings = Setting::ALL.iter().map(|(name, setting)| (*name, Subject::Setting(*setting)));
    let others = [("deadline_ms", Subject::Deadline), ("policy", Subject::Policy)];
    let files = settings.chain(others).map(|(name, subject)| {
        let permissions = match subject {
            Subject::Setting(setting) if setting.is_counted() => 0o444,
            Subject::Setting(_) | Subject::Deadline | Subject::Policy => 0o644,
        };
        let body = Body::Generated(Box::new(ControlFile { store: store.clone(), subject }));
        (name, inode(filesystem, permissions, body))
    });
    let body = Body::Directory(Box::new(ControlDirectory { files: files.collect(), store: store.clone() }));
    inode(filesystem, 0o555, body)
}

fn inode(filesystem: &Rc<FileSystem>, permissions: u32, body: Body) -> Rc<Inode> {
    let number = filesystem.take_inode_number().unwrap_or_default();
    Inode::with_number(filesystem, number, permissions, 0, 0, body)
}

struct ControlDirectory {
    files: Vec<(&'static str, Rc<Inode>)>,
    store: Rc<Store>,
}

impl Directory for ControlDirectory {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        let found = self.files.iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, inode)| Dentry::new(this, name, inode.clone())).ok_or(Errno::ENOENT)
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        let first = usize::try_from(from.saturating_sub(FIRST_ENTRY)).unwrap_or(usize::MAX);
        for (index, (name, inode)) in self.files.iter().enumerate().skip(first) {
            let next = FIRST_ENTRY + index as u64 + 1;
            let entry =
                Entry { name: name.as_bytes(), inode: inode.number(), file_type: inode.body().file_type(), next };
            if each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }

    fn page_store(&self) -> Option<&Rc<Store>> {
        Some(&self.store)
    }
}

struct ControlFile {
    store: Rc<Store>,
    subject: Subject,
}

impl Generator for ControlFile {
    fn generate(&self) -> Result<Vec<u8>> {
        let text = match self.subject {
            Subject::Setting(Setting::Die) => {
                let death = self.store.setting(Setting::Die);
                let name = Death::ALL.iter().find(|(_, known)| *known as u64 == death);
                format!("{}\n", name.map_or(NEVER, |(name, _)| name))
            }
            Subject::Setting(setting) => format!("{}\n", self.store.setting(setting)),
            Subject::Deadline => format!("{}\n", self.store.deadline_ns() / NS_PER_MS),
            Subject::Policy => match self.store.successor() {
                Successor::Awaited => format!("{}\n", AWAIT.escape_ascii()),
                Successor::Unexpected => format!("{}\n", FAIL.escape_ascii()),
            },
        };
        Ok(text.into_bytes())
    }

    fn store(&self, _writer: Pid, bytes: &[u8]) -> Result<()> {
        match self.subject {
            Subject::Setting(Setting::Die) => self.store.set(Setting::Die, death_named(bytes.trim_ascii())?),
            Subject::Setting(setting) if setting.is_counted() => return Err(Errno::EINVAL),
            Subject::Setting(setting) => self.store.set(setting, number(bytes)?),
            Subject::Deadline => {
                let deadline_ns = number(bytes)?.checked_mul(NS_PER_MS).filter(|ns| *ns > 0).ok_or(Errno::EINVAL)?;
                self.store.set_deadline_ns(deadline_ns);
            }
            Subject::Policy => self.store.set_successor(match bytes.trim_ascii() {
                AWAIT => Successor::Awaited,
                FAIL => Successor::Unexpected,
                _ => return Err(Errno::EINVAL),
            }),
        }
        Ok(())
    }
}

fn number(bytes: &[u8]) -> Result<u64> {
    parse_number(bytes).and_then(|number| u64::try_from(number).ok()).ok_or(Errno::EINVAL)
}

/// The number of a death, 0 for none.
fn death_named(name: &[u8]) -> Result<u64> {
    if name == NEVER.as_bytes() {
        return Ok(0);
    }
    let found = Death::ALL.iter().find(|(known, _)| known.as_bytes() == name);
    found.map(|(_, death)| *death as u64).ok_or(Errno::EINVAL)
}
