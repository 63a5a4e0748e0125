//! File servers: one for each file system that is mounted, started when somebody asks for it.

use crate::disks::Disks;
use crate::loader::{Files, Program};
use crate::machine::{CLIENT_RIGHTS, SERVE_RIGHTS};
use crate::successors::{self, Kept, Legacy};
use crate::watch::Watcher;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use driver_protocol::supervisor::{Disk, DiskName, Request as Wish};
use driver_protocol::{ANSWERED, Refusal, purpose};
use log::error;
use quire_api::abi::startup::Purpose;
use quire_api::abi::system::AccountLimits;
use quire_api::executor::Messages;
use quire_api::{ChannelEndpoint, Error, Message, Object, Request, rt};
use supervisor::plan::FILES;

/// What a file server may use: 32 MiB.
const LIMITS: AccountLimits = AccountLimits { frames: 8192, kernel_bytes: 8 << 20 };

/// The file servers.
pub(crate) struct FileSystems {
    watcher: Watcher,
    files: Files,
    disks: Rc<Disks>,
    arguments: String,
    /// The servers, by their disks.
    servers: RefCell<BTreeMap<DiskName, Weak<Kept>>>,
}

impl FileSystems {
    /// No file servers yet.
    pub(crate) fn new(watcher: &Watcher, files: Files, disks: &Rc<Disks>, arguments: &str) -> Rc<Self> {
        let (watcher, disks, arguments) = (watcher.clone(), disks.clone(), String::from(arguments));
        Rc::new(Self { watcher, files, disks, arguments, servers: RefCell::default() })
    }

    /// Tells which disks there are, when that is known.
    pub(crate) fn begin_list(self: &Rc<Self>, request: Request) {
        let Some(reply) = request.reply else { return };
        let (filesystems, room) = (self.clone(), request.receive_len as usize);
        self.watcher.executor.spawn(async move {
            filesystems.disks.ready().await;
            let all: Vec<u8> = filesystems.disks.list().iter().flat_map(Disk::encode).collect();
            let len = all.len().min(room / Disk::BYTES * Disk::BYTES);
            let written = reply.write_buffer(0, all.get(..len).unwrap_or_default());
            let words = [written.unwrap_or(0) as u64, all.len() as u64, 0, 0, 0, 0, 0, 0];
            // Whoever asked may be gone.
            let _ = filesystems.watcher.executor.answer(reply, Message::new(ANSWERED, words));
        });
    }

    /// Starts a file server for a disk.
    pub(crate) fn begin_open(self: &Rc<Self>, name: DiskName, read_only: bool, request: Request) {
        let Some(reply) = request.reply else { return };
        let filesystems = self.clone();
        self.watcher.executor.spawn(async move {
            filesystems.disks.ready().await;
            let message = match filesystems.open(name, read_only).await {
                Ok(channel) => Message::new(ANSWERED, [0; 8]).with_handle(0, channel.into_handle()),
                Err(refusal) => Message::new(refusal as u64, [0; 8]),
            };
            let _ = filesystems.watcher.executor.answer(reply, message);
        });
    }

    async fn open(self: &Rc<Self>, name: DiskName, read_only: bool) -> Result<ChannelEndpoint, Refusal> {
        let disk = self.disks.open(name, !read_only).await?;
        self.start(name, disk).map_err(|reason| {
            error!("{reason}");
            self.disks.close(name);
            Refusal::DeviceFailed
        })
    }

    /// Starts the server of the file system that a channel reaches. An error is a sentence for people.
    fn start(self: &Rc<Self>, name: DiskName, disk: ChannelEndpoint) -> Result<ChannelEndpoint, String> {
        let failed = |error: Error| alloc::format!("{FILES}: {}", error.describe());
        let (server_end, client_end) = rt::account().and_then(ChannelEndpoint::pair).map_err(failed)?;
        let is_finished: Rc<Cell<bool>> = Rc::default();
        let (filesystems, flag) = (self.clone(), is_finished.clone());
        let ends = successors::only_end(&server_end).map_err(failed)?;
        let hand_over = Box::new(move |program: &mut Program| {
            program.give(purpose::SERVE, &server_end, SERVE_RIGHTS)?;
            program.give(purpose::BLOCK, &disk, CLIENT_RIGHTS)?;
            let supervisor = filesystems.await_end(name, &flag)?;
            program.give(Purpose::SUPERVISOR, &supervisor, CLIENT_RIGHTS)
        });
        let arguments = self.arguments.clone();
        let legacy =
            Legacy { path: FILES, limits: LIMITS, hand_over, ends, arguments, is_finished, dies_on_request: false };
        let kept = successors::keep_alive(&self.watcher, self.files, legacy)?;
        self.servers.borrow_mut().insert(name, Rc::downgrade(&kept));
        Ok(client_end)
    }

    /// Somebody says that the server of the file system on a disk answers nonsense.
    pub(crate) fn complain(&self, name: DiskName) {
        let server = self.servers.borrow().get(&name).and_then(Weak::upgrade);
        if let Some(server) = server {
            server.complain("has answered what makes no sense");
        }
    }

    /// Hears from a file server when it has done its work; returns its end of the channel.
    fn await_end(self: &Rc<Self>, name: DiskName, is_finished: &Rc<Cell<bool>>) -> Result<ChannelEndpoint, Error> {
        let (ours, theirs) = ChannelEndpoint::pair(rt::account()?)?;
        let wishes = self.watcher.executor.bind(ours)?;
        let (filesystems, is_finished) = (self.clone(), is_finished.clone());
        self.watcher.executor.spawn(async move { filesystems.hear(wishes, name, &is_finished).await });
        Ok(theirs)
    }

    async fn hear(&self, mut wishes: Messages, name: DiskName, is_finished: &Cell<bool>) {
        while let Some(request) = wishes.receive().await {
            let label = match Wish::decode(request.message.label, &request.message.words) {
                Some(Wish::Finished) => {
                    is_finished.set(true);
                    self.disks.close(name);
                    ANSWERED
                }
                Some(Wish::Complain { .. }) => {
                    self.disks.complain(name);
                    ANSWERED
                }
                Some(Wish::ShutDown(_) | Wish::Disks | Wish::OpenFiles { .. }) | None => Refusal::Unknown as u64,
            };
            if let Some(reply) = request.reply {
                let _ = self.watcher.executor.answer(reply, Message::new(label, [0; 8]));
            }
        }
    }
}
