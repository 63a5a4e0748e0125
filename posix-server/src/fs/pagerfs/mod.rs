//! The file system whose files' contents a pager has: a server that may be slow, fail, hang, die and be replaced.
//!
//! Names and attributes live here, as tmpfs has them. The content of a file is a managed memory, made at its first use, which is
//! read, written and mapped like any other; only that a page of it may not be there. The server's [`Store`] gives the memory's pager to
//! the server, and keeps it too: so the pages, and the stores in them that are not written back yet, outlive the server, and its
//! successor is given the pagers again.
//!
//! | module | what |
//! |---|---|
//! | `store` | files' memories, and what the server is told: in order, again to each successor, until it has heard |
//! | `control` | `/pager/.control`: what goes wrong, and what was counted |

pub mod control;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use store::{Enclosed, PageServer, PagedFile, Store};

use super::body::{Directory, Entry, FIRST_ENTRY, Listing};
use super::content::Content;
use super::filesystem::{Instances, Made, Storage};
use super::tmpfs::{Names, check_name};
use super::{Body, Dentry, FileSystem, FileSystemType, Inode};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::process::Server;
use alloc::boxed::Box;
use alloc::rc::Rc;

/// The file system of paged files: one for all.
pub static PAGERFS: FileSystemType = FileSystemType {
    name: "pagerfs",
    magic: 0x5051_4653,
    storage: Storage::Memory,
    instances: Instances::One(|request| new(request.server)),
};

/// The name of the directory with the store's settings, in the root.
const CONTROL: &[u8] = b".control";

/// A new file system over the server's store. `ENODEV` if there is none.
pub fn new(server: &Server) -> Result<Made> {
    let store = server.page_store.get().ok_or(Errno::ENODEV)?;
    Ok(over(store))
}

/// A new file system over a store.
fn over(store: &Rc<Store>) -> Made {
    let filesystem = FileSystem::with_payer(&PAGERFS, Some(store.payer().clone()));
    let control = control::directory(&filesystem, store);
    let body =
        Body::Directory(Box::new(PagedDirectory { names: Names::new(), store: store.clone(), control: Some(control) }));
    let number = filesystem.take_inode_number().unwrap_or_default();
    let root = Inode::with_number(&filesystem, number, 0o1777, 0, 0, body);
    (filesystem, Dentry::root(root))
}

/// A directory of paged files.
struct PagedDirectory {
    names: Names,
    store: Rc<Store>,
    /// The root has one more name, which nobody can change.
    control: Option<Rc<Inode>>,
}

impl Directory for PagedDirectory {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        if let Some(control) = self.control.as_ref().filter(|_| name == CONTROL) {
            return Ok(Dentry::new(this, name, control.clone()));
        }
        self.names.get(name).ok_or(Errno::ENOENT)
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        let Some(control) = &self.control else {
            self.names.list(from, each);
            return Ok(());
        };
        // The positions of the others are one further on.
        if from <= FIRST_ENTRY {
            let inode = control.number();
            let entry = Entry { name: CONTROL, inode, file_type: control.body().file_type(), next: FIRST_ENTRY + 1 };
            if each(entry) == Listing::Stop {
                return Ok(());
            }
        }
        let from = from.saturating_sub(1).max(FIRST_ENTRY);
        self.names.list(from, &mut |entry| each(Entry { next: entry.next.saturating_add(1), ..entry }));
        Ok(())
    }

    fn new_file(&self, _maker: &Credentials) -> Result<Body> {
        Ok(Body::Regular(Content::paged(Box::new(PagedFile::new(&self.store)?), 0)))
    }

    fn new_directory(&self) -> Body {
        Body::Directory(Box::new(Self { names: Names::new(), store: self.store.clone(), control: None }))
    }

    fn page_store(&self) -> Option<&Rc<Store>> {
        Some(&self.store)
    }

    fn names(&self) -> Option<&Names> {
        Some(&self.names)
    }
}
