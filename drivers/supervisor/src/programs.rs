//! The programs that are kept alive, and the images that some of them are made of instead of those in the boot archive: they are
//! *replaced*, while the machine runs and their clients go on.
//!
//! Who may have a program replaced holds all power over its device and its clients: the machine's owner ([`orders`](crate::orders)), and
//! whom the posix-server lets ask for it.

use crate::loader::{Files, Program};
use crate::signal::Signal;
use crate::successors::Kept;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt::Write as _;
use driver_protocol::orders::MAX_IMAGE_BYTES;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::system::AccountLimits;
use quire_api::{Executor, Memory, rt};
use supervisor::image::Image;

/// An image that took the place of one in the archive.
struct Replacement {
    memory: Memory,
    image: Image,
}

impl Replacement {
    /// Takes what is in the first `len_bytes` of a memory that nobody else can change. An error is a sentence for people.
    fn new(memory: Memory, len_bytes: u64) -> Result<Self, String> {
        let mut bytes = vec![0; usize::try_from(len_bytes.min(MAX_IMAGE_BYTES)).unwrap_or(0)];
        memory.read_exact(0, &mut bytes).map_err(|error| format!("it can't be read: {}", error.describe()))?;
        let image = Image::parse(&bytes).map_err(|error| format!("{error}"))?;
        Ok(Self { memory, image })
    }

    fn program(&self, path: &'static str, limits: &AccountLimits) -> Result<Program, String> {
        Program::of_image(&self.memory, 0, path, &self.image, limits)
            .map_err(|error| format!("{path}: can't be set up: {}", error.describe()))
    }
}

/// The programs.
#[derive(Default)]
pub(crate) struct Programs {
    kept: RefCell<Vec<Rc<Kept>>>,
    /// By their paths in the archive.
    images: RefCell<BTreeMap<&'static str, Rc<Replacement>>>,
    /// What was there before the last image of a program; `None`: that of the archive.
    former: RefCell<BTreeMap<&'static str, Option<Rc<Replacement>>>>,
    is_replacing: Cell<bool>,
    replaced: Signal,
}

/// A memory for an image of so many bytes that somebody sends. An error is a sentence for people.
pub(crate) fn room_for(len_bytes: u64) -> Result<Memory, String> {
    if len_bytes == 0 || len_bytes > MAX_IMAGE_BYTES {
        return Err(format!("an image has between 1 and {MAX_IMAGE_BYTES} bytes, not {len_bytes}"));
    }
    let len_bytes = len_bytes.next_multiple_of(PAGE_SIZE);
    rt::account()
        .and_then(|account| Memory::create(account, len_bytes))
        .map_err(|error| format!("there is no room for the image: {}", error.describe()))
}

impl Programs {
    /// A program that is kept alive.
    pub(crate) fn add(&self, kept: &Rc<Kept>) {
        self.kept.borrow_mut().push(kept.clone());
    }

    /// One that is not any more.
    pub(crate) fn forget(&self, kept: &Rc<Kept>) {
        self.kept.borrow_mut().retain(|other| !Rc::ptr_eq(other, kept));
    }

    /// Makes a program of the image that it has now. An error is a sentence for people.
    pub(crate) fn make(&self, files: Files, path: &'static str, limits: &AccountLimits) -> Result<Program, String> {
        let replacement = self.images.borrow().get(path).cloned();
        match replacement {
            Some(replacement) => replacement.program(path, limits),
            None => Program::load(files, path, limits),
        }
    }

    /// A line for each program: its name, how many there have been, and what it is made of.
    pub(crate) fn list(&self) -> String {
        let mut text = String::new();
        for kept in self.kept.borrow().iter() {
            let origin = if self.images.borrow().contains_key(kept.path()) { "replaced" } else { "archive" };
            let state = if kept.is_given_up() { "given up" } else { "runs" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<16} {:>6}  {origin:<9} {state}", kept.name(), kept.starts());
        }
        text
    }

    /// Replaces all programs of a name by such as are made of the image in the first `len_bytes` of a memory, which nobody else can
    /// change. Done when they serve; then it tells how long that took, in ns. If that can't be, the old ones go on, or are
    /// back; the error is a sentence for people.
    pub(crate) async fn replace(
        &self,
        executor: &Executor,
        name: &str,
        memory: Memory,
        len_bytes: u64,
    ) -> Result<u64, String> {
        let replacement = Replacement::new(memory, len_bytes)?;
        // One after the other.
        self.replaced.until(|| (!self.is_replacing.replace(true)).then_some(())).await;
        let result = self.replace_all(executor, name, replacement).await;
        self.is_replacing.set(false);
        self.replaced.changed();
        result
    }

    async fn replace_all(&self, executor: &Executor, name: &str, replacement: Replacement) -> Result<u64, String> {
        let kept: Vec<_> = self.kept.borrow().iter().filter(|kept| kept.name() == name).cloned().collect();
        let Some(path) = kept.first().map(|kept| kept.path()) else {
            return Err(format!("there is no program {name:?} that can be replaced; there are\n{}", self.list()));
        };
        // What can't be set up is known before anything is ended.
        let programs = kept.iter().map(|kept| replacement.program(path, kept.limits()));
        let programs = programs.collect::<Result<Vec<_>, _>>()?;
        let began_ns = executor.now_ns();
        let former = self.images.borrow_mut().insert(path, Rc::new(replacement));
        self.former.borrow_mut().insert(path, former);
        kept.iter().zip(programs).for_each(|(kept, program)| kept.replace_by(program));
        let mut all_serve = true;
        for kept in &kept {
            all_serve &= kept.trial().await;
        }
        if all_serve {
            return Ok(executor.now_ns().saturating_sub(began_ns));
        }
        Err(String::from("the new program has ended, or did not answer, before it served anybody; the former is back"))
    }

    /// Goes back to the image that a program had before its last one.
    pub(crate) fn revert(&self, path: &'static str) {
        let former = self.former.borrow_mut().remove(path);
        let mut images = self.images.borrow_mut();
        match former {
            Some(Some(former)) => drop(images.insert(path, former)),
            Some(None) => drop(images.remove(path)),
            None => {}
        }
    }
}
