//! A file system on a disk, by its server.

use crate::errno::{Errno, Result};
use crate::fs::diskfs::disks::device_number;
use crate::fs::diskfs::server::{Answer, Enclosed, FileServer};
use crate::fs::diskfs::{Disk, DiskSource};
use crate::platform::LocalFuture;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use driver_protocol::files::{Refused, Request};
use driver_protocol::{Refusal, supervisor};
use quire_api::executor::Buffers;
use quire_api::{ChannelEndpoint, Error, Message, Object, Rights};

/// A channel to the server of a file system.
struct FilesChannel {
    executor: quire_api::Executor,
    channel: Rc<ChannelEndpoint>,
    /// Who is told of a server that answers nonsense, and of which disk it is.
    supervisor: Rc<ChannelEndpoint>,
    disk: supervisor::DiskName,
}

/// Has a server ended that answers nonsense: another takes its place.
async fn complain(executor: &quire_api::Executor, supervisor: &ChannelEndpoint, name: supervisor::DiskName) {
    let (label, words) = supervisor::Request::Complain { name }.encode();
    // The supervisor says so in the log.
    let _ = executor.call(supervisor, Message::new(label, words), Buffers::default()).await;
}

impl FileServer for FilesChannel {
    fn call(
        &self,
        request: Request,
        send: Vec<u8>,
        receive_bytes: usize,
        enclosed: Enclosed<'_>,
    ) -> LocalFuture<Result<Answer>> {
        let (label, words) = request.encode();
        let message = match enclose(Message::new(label, words), enclosed) {
            Ok(message) => message,
            Err(error) => return Box::pin(async move { Err(super::errno(error)) }),
        };
        // It is on its way when this returns: requests come in the order in which they were made.
        let call = self.executor.call(&self.channel, message, Buffers { send, receive: vec![0; receive_bytes] });
        let channel = self.channel.clone();
        let (executor, supervisor, disk) = (self.executor.clone(), self.supervisor.clone(), self.disk);
        Box::pin(async move {
            let answer = call.await.map_err(|_| Errno::ESRCH)?;
            if !Refused::is_answer(answer.message.label) {
                complain(&executor, &supervisor, disk).await;
                return Err(Errno::ESRCH);
            }
            // The channel must stay as long as it is used.
            drop(channel);
            Ok(Answer { label: answer.message.label, words: answer.message.words, bytes: answer.buffers.receive })
        })
    }
}

fn enclose(message: Message, enclosed: Enclosed<'_>) -> core::result::Result<Message, Error> {
    match enclosed {
        Enclosed::Nothing => Ok(message),
        Enclosed::Notes(memory) => {
            let notes = memory.object().duplicate(Rights::READ | Rights::WRITE | Rights::MAP | Rights::TRANSFER)?;
            Ok(message.with_handle(0, notes.into_handle()))
        }
        Enclosed::File(pager, memory) => {
            let memory = memory.object().duplicate(Rights::READ | Rights::TRANSFER)?;
            Ok(message.with_handle(0, pager.share()?.into_handle()).with_handle(1, memory.into_handle()))
        }
    }
}

/// The supervisor, who knows the disks.
pub struct SupervisorDisks {
    executor: quire_api::Executor,
    supervisor: Rc<ChannelEndpoint>,
}

/// The room for the list of disks, in bytes.
const LIST_BYTES: usize = 64 << 10;

impl SupervisorDisks {
    /// The disks that the supervisor at the other end of a channel knows.
    pub fn new(executor: &quire_api::Executor, supervisor: &Rc<ChannelEndpoint>) -> Self {
        Self { executor: executor.clone(), supervisor: supervisor.clone() }
    }

    /// All disks, once all that were there at the start have been looked at. A supervisor that knows of none says so.
    pub async fn list(&self) -> Vec<Disk> {
        let (label, words) = supervisor::Request::Disks.encode();
        let buffers = Buffers { send: Vec::new(), receive: vec![0; LIST_BYTES] };
        let Ok(answer) = self.executor.call(&self.supervisor, Message::new(label, words), buffers).await else {
            return Vec::new();
        };
        if Refusal::check(answer.message.label).is_err() {
            return Vec::new();
        }
        let [len_bytes, ..] = answer.message.words;
        let length = usize::try_from(len_bytes).unwrap_or(usize::MAX).min(LIST_BYTES);
        let records = answer.buffers.receive.get(..length).unwrap_or_default().chunks_exact(supervisor::Disk::BYTES);
        records.filter_map(supervisor::Disk::decode).filter_map(|disk| as_block_device(&disk)).collect()
    }
}

fn as_block_device(disk: &supervisor::Disk) -> Option<Disk> {
    let name = disk.name.as_bytes();
    Some(Disk {
        name: Box::from(name),
        number: device_number(name)?,
        sectors: disk.sectors,
        is_partition: disk.flags.contains(supervisor::DiskFlags::PART),
    })
}

impl DiskSource for SupervisorDisks {
    fn open(&self, name: &[u8], is_read_only: bool) -> LocalFuture<Result<Rc<dyn FileServer>>> {
        let Some(name) = supervisor::DiskName::new(name) else {
            return Box::pin(async { Err(Errno::ENXIO) });
        };
        let (label, words) = supervisor::Request::OpenFiles { name, read_only: is_read_only }.encode();
        let (executor, supervisor) = (self.executor.clone(), self.supervisor.clone());
        Box::pin(async move {
            let answer = executor.call(&supervisor, Message::new(label, words), Buffers::default()).await;
            let mut message = answer.map_err(|_| Errno::EIO)?.message;
            match Refusal::check(message.label) {
                Ok(()) => {}
                Err(Refusal::Busy) => return Err(Errno::EBUSY),
                Err(Refusal::Unknown) => return Err(Errno::ENXIO),
                Err(Refusal::DeviceFailed | Refusal::BadBuffer) => return Err(Errno::EIO),
            }
            let channel = message.take_handle::<ChannelEndpoint>(0).ok_or(Errno::EIO)?;
            let channel = Rc::new(channel);
            let server: Rc<dyn FileServer> = Rc::new(FilesChannel { executor, channel, supervisor, disk: name });
            Ok(server)
        })
    }
}
