//! What the client asks for.

use crate::paging::{Blocks, File, Shared, Sizes, Slot};
use crate::platform::{Notes, Platform};
use crate::staging::Region;
use crate::turns::{Turns, Use};
use crate::volume::{Cut, Volume};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use driver_protocol::files::notes::bytes_for;
use driver_protocol::files::operation::operations;
use driver_protocol::files::{Applied, Filled, MAX_BUFFER_BYTES, MIN_LIST_BYTES, MountFlags, Refused, Request, entry};
use driver_protocol::{ANSWERED, Words};
use log::{info, warn};

/// How old an operation gets before it is made durable, unless the client says otherwise.
const COMMIT_SECONDS: u64 = 5;
/// The longest time that a client may say.
const MAX_COMMIT_SECONDS: u64 = 300;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// Calls that may wait to be answered, besides `Watch`.
const MAX_CALLS: u64 = 256;

/// A call that waits for its answer. Dropped, it is answered as if the server had died.
pub trait Call: 'static {
    /// The bytes that came along, at most so many.
    fn read(&self, most: usize) -> Result<Vec<u8>, Refused>;

    /// How many bytes the caller has room for.
    fn room(&self) -> usize;

    /// Gives the caller bytes, which are not more than that.
    fn write(&self, bytes: &[u8]) -> Result<(), Refused>;

    /// Answers.
    fn answer(self, label: u64, words: Words);
}

/// What comes along with a request.
pub enum Enclosed<P: Platform> {
    /// Nothing.
    Nothing,
    /// The notes.
    Notes(P::Notes),
    /// The kernel's side of a file.
    Pages(P::Pages),
}

/// How the staging memory is divided, in pages.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// For metadata.
    pub metadata_pages: u64,
    /// For contents.
    pub contents: Sizes,
}

impl Layout {
    /// All pages.
    pub const fn pages(&self) -> u64 {
        self.metadata_pages + self.contents.read_pages + self.contents.write_pages
    }
}

/// The server.
pub struct Service<P: Platform> {
    platform: Rc<P>,
    metadata: Rc<Region>,
    layout: Layout,
    /// The order of requests whose order can be seen.
    order: Rc<Turns>,
    mounted: RefCell<Option<Rc<Mounted<P>>>>,
    calls: Cell<u64>,
}

/// A file system that is in use.
struct Mounted<P: Platform> {
    volume: Rc<Volume<P>>,
    shared: Rc<Shared<P, Volume<P>>>,
    notes: Rc<P::Notes>,
    /// The files that are served, by their inodes.
    files: RefCell<BTreeMap<u64, Served<P>>>,
}

type Served<P> = Rc<File<P, Volume<P>>>;

/// An answer that is a success.
struct Good(Words);

type Answer = Result<Good, Refused>;

impl<P: Platform> Service<P>
where
    P::Notes: Clone,
{
    /// A server without a file system.
    pub fn new(platform: Rc<P>, layout: Layout) -> Rc<Self> {
        Rc::new(Self {
            platform,
            metadata: Region::new(0, layout.metadata_pages),
            layout,
            order: Rc::default(),
            mounted: RefCell::default(),
            calls: Cell::new(0),
        })
    }

    /// Begins to do what a client asks for. The order of calls counts.
    pub fn begin(self: &Rc<Self>, request: Request, enclosed: Enclosed<P>, call: impl Call) {
        if request != Request::Watch && self.calls.get() >= MAX_CALLS {
            call.answer(Refused::Busy as u64, [0; 8]);
            return;
        }
        let how = match request {
            Request::Mount { .. }
            | Request::Apply { .. }
            | Request::Serve { .. }
            | Request::Release { .. }
            | Request::Remount { .. }
            | Request::Unmount => Some(Use::Exclusive),
            Request::Load { .. }
            | Request::List { .. }
            | Request::Xattrs { .. }
            | Request::Runs { .. }
            | Request::Reserve { .. }
            | Request::Commit { .. } => Some(Use::Shared),
            Request::Watch | Request::Status => None,
        };
        let turn = how.map(|how| self.order.take(how));
        let service = self.clone();
        self.platform.spawn(async move {
            let turn = match turn {
                Some(turn) => Some(turn.await),
                None => None,
            };
            if request == Request::Watch {
                return service.watch(call).await;
            }
            service.calls.set(service.calls.get() + 1);
            // These come after what was applied before, and keep nobody waiting: what they wait for may be applied after them.
            let turn = turn.filter(|_| !matches!(request, Request::Commit { .. } | Request::Release { .. }));
            let answer = service.answer(request, enclosed, &call).await;
            drop(turn);
            service.calls.set(service.calls.get().saturating_sub(1));
            let (label, words) = match answer {
                Ok(Good(words)) => (ANSWERED, words),
                Err(refused) => (refused as u64, [0; 8]),
            };
            call.answer(label, words);
        });
    }

    fn mounted(&self) -> Result<Rc<Mounted<P>>, Refused> {
        self.mounted.borrow().clone().ok_or(Refused::NotMounted)
    }

    async fn watch(&self, call: impl Call) {
        match self.mounted() {
            Ok(mounted) => {
                let volume = &mounted.volume;
                let news = volume.news().await;
                call.answer(ANSWERED, [news.bits(), 0, 0, 0, 0, 0, 0, 0]);
            }
            Err(refused) => call.answer(refused as u64, [0; 8]),
        }
    }

    async fn answer(&self, request: Request, enclosed: Enclosed<P>, call: &impl Call) -> Answer {
        if let Request::Mount { flags, commit_seconds } = request {
            return self.mount(flags, commit_seconds, enclosed, call).await;
        }
        let mounted = self.mounted()?;
        let volume = &mounted.volume;
        match request {
            Request::Mount { .. } | Request::Watch => Err(Refused::Unknown),
            Request::Status => Ok(Good(volume.status().await?.encode())),
            Request::Load { inode } => filled(call, &volume.load(inode).await?, 0),
            Request::List { inode, cookie } => list(volume, inode, cookie, call).await,
            Request::Xattrs { inode } => {
                let bytes = volume.xattrs(inode).await?;
                let fits = bytes.len() <= call.room();
                filled(call, if fits { &bytes } else { &[] }, bytes.len() as u64)
            }
            Request::Runs { inode, offset, len_bytes } => {
                let most = call.room().min(MAX_BUFFER_BYTES) / entry::run::RUN_BYTES;
                filled(call, &volume.runs(inode, offset, len_bytes, most).await?, 0)
            }
            Request::Reserve { parent, kind, count } => {
                let count = count.min(call.room() as u64 / 8);
                filled(call, &volume.reserve(parent, kind, count).await?, 0)
            }
            Request::Apply { first, count } => mounted.apply(first, count, call).await,
            Request::Commit { sequence } => {
                volume.applied(sequence).await;
                volume.commit().await?;
                Ok(Good(volume.status().await?.encode()))
            }
            Request::Serve { inode, slot } => mounted.serve(inode, slot, enclosed).await,
            Request::Release { inode } => mounted.release(inode).await,
            Request::Remount { flags } => volume.remount(flags).await.map(|()| Good([0; 8])),
            Request::Unmount => self.unmount(&mounted).await,
        }
    }

    async fn mount(&self, flags: MountFlags, commit_seconds: u64, enclosed: Enclosed<P>, call: &impl Call) -> Answer {
        let Enclosed::Notes(notes) = enclosed else { return Err(Refused::Unknown) };
        if self.mounted.borrow().is_some() {
            return Err(Refused::Mounted);
        }
        if notes.len_bytes() < bytes_for(0) {
            return Err(Refused::BadBuffer);
        }
        let volume = Volume::mount(&self.platform, self.metadata.clone(), notes.clone(), flags).await?;
        let shared =
            Shared::new(self.platform.clone(), volume.clone(), self.layout.metadata_pages, self.layout.contents);
        let description = volume.describe().await?;
        info!("mounted; operation {} was the last that is durable", description.durable());
        let seconds = if commit_seconds == 0 { COMMIT_SECONDS } else { commit_seconds.min(MAX_COMMIT_SECONDS) };
        let (platform, committed) = (self.platform.clone(), volume.clone());
        self.platform.spawn(async move {
            committed.commit_now_and_then(&platform, seconds * NS_PER_SECOND).await;
        });
        let tidied = volume.clone();
        self.platform.spawn(async move { tidied.tidy().await });
        let mounted = Mounted { volume, shared, notes: Rc::new(notes), files: RefCell::default() };
        self.mounted.replace(Some(Rc::new(mounted)));
        filled(call, &description.encode(), 0)
    }

    async fn unmount(&self, mounted: &Mounted<P>) -> Answer {
        let files = mounted.files.take();
        for file in files.into_values() {
            file.release().await;
        }
        mounted.volume.unmount().await?;
        self.mounted.replace(None);
        Ok(Good([0; 8]))
    }
}

impl<P: Platform> Mounted<P> {
    /// Does operations, without those that have been done before.
    async fn apply(&self, first: u64, count: u64, call: &impl Call) -> Answer {
        let volume = &self.volume;
        if first > volume.applied_sequence() + 1 {
            return Err(Refused::OutOfOrder);
        }
        let bytes = call.read(MAX_BUFFER_BYTES)?;
        let mut sequence = first;
        let mut refused = None;
        for operation in operations(&bytes).take(count as usize) {
            if sequence > volume.applied_sequence() {
                refused = self.apply_one(sequence, &operation).await.err();
                if let Some(refused) = refused {
                    warn!("operation {sequence} can't be done: {refused:?}: {operation:?}");
                    break;
                }
            }
            sequence += 1;
        }
        if refused.is_none() && sequence != first + count {
            return Err(Refused::Unknown);
        }
        Ok(Good(Applied { status: volume.status().await?, refused }.encode()))
    }

    async fn apply_one(
        &self,
        sequence: u64,
        operation: &driver_protocol::files::operation::Operation<'_>,
    ) -> Result<(), Refused> {
        let file = self.files.borrow().get(&operation.inode()).cloned();
        let (Some(file), cut) = (file, Cut::of(operation)) else {
            return self.volume.apply(sequence, operation).await;
        };
        match cut {
            Cut::Nothing => return self.volume.apply(sequence, operation).await,
            Cut::Grown(size) => {
                self.volume.apply(sequence, operation).await?;
                file.grow(size);
                return Ok(());
            }
            Cut::Size(size) if size > file.size() => {
                self.volume.apply(sequence, operation).await?;
                file.set_size(size);
                return Ok(());
            }
            Cut::Size(_) | Cut::Some => {}
        }
        // Nothing may be on its way to blocks that are freed.
        let turn = file.cut().await;
        let result = self.volume.apply(sequence, operation).await;
        file.has_been_cut();
        if let (Ok(()), Cut::Size(size)) = (result, cut) {
            file.set_size(size);
        }
        drop(turn);
        result
    }

    async fn serve(&self, inode: u64, slot: u64, enclosed: Enclosed<P>) -> Answer {
        let Enclosed::Pages(pages) = enclosed else { return Err(Refused::Unknown) };
        if bytes_for(slot + 1) > self.notes.len_bytes() {
            return Err(Refused::BadBuffer);
        }
        let sizes = self.volume.sizes(inode).await?;
        if self.files.borrow().contains_key(&inode) {
            return Err(Refused::Exists);
        }
        let slot = Slot { notes: self.notes.clone(), number: slot };
        let file = File::new(&self.shared, inode, sizes, pages, slot);
        file.listen().map_err(|_| Refused::BadBuffer)?;
        self.files.borrow_mut().insert(inode, file);
        Ok(Good([0; 8]))
    }

    async fn release(&self, inode: u64) -> Answer {
        let file = self.files.borrow_mut().remove(&inode);
        if let Some(file) = file {
            file.release().await;
        }
        self.volume.settle(inode).await;
        Ok(Good([0; 8]))
    }
}

async fn list<P: Platform>(volume: &Volume<P>, inode: u64, cookie: u64, call: &impl Call) -> Answer {
    let room = call.room().min(MAX_BUFFER_BYTES);
    if room < MIN_LIST_BYTES {
        return Err(Refused::BadBuffer);
    }
    let (bytes, next) = volume.list(inode, cookie, room).await?;
    filled(call, &bytes, next)
}

/// Gives the caller bytes, and says how many.
fn filled(call: &impl Call, bytes: &[u8], next: u64) -> Answer {
    if bytes.len() > call.room() {
        return Err(Refused::BadBuffer);
    }
    call.write(bytes)?;
    Ok(Good(Filled { len_bytes: bytes.len() as u64, next }.encode()))
}

#[cfg(test)]
mod tests;
