//! The store of pages, by its server.

use super::errno;
use crate::errno::{Errno, Result};
use crate::fs::pagerfs::{Enclosed, PageServer};
use crate::platform::LocalFuture;
use alloc::boxed::Box;
use alloc::rc::Rc;
use driver_protocol::Refusal;
use driver_protocol::pages::Request;
use quire_api::executor::Buffers;
use quire_api::{ChannelEndpoint, Error, Message, Object, Rights};

/// A channel to the server of a store of pages.
pub struct PageChannel {
    executor: quire_api::Executor,
    channel: Rc<ChannelEndpoint>,
}

impl PageChannel {
    /// A store whose server serves the other end of `channel`.
    pub fn new(executor: &quire_api::Executor, channel: ChannelEndpoint) -> Self {
        Self { executor: executor.clone(), channel: Rc::new(channel) }
    }
}

impl PageServer for PageChannel {
    fn call(&self, request: Request, enclosed: Enclosed<'_>) -> LocalFuture<Result<()>> {
        let (label, words) = request.encode();
        let message = enclose(Message::new(label, words), enclosed);
        let (executor, channel) = (self.executor.clone(), self.channel.clone());
        Box::pin(async move {
            let answer = executor.call(&channel, message.map_err(errno)?, Buffers::default()).await;
            let answer = answer.map_err(errno)?;
            Refusal::check(answer.message.label).map_err(|_| Errno::EIO)
        })
    }
}

fn enclose(message: Message, enclosed: Enclosed<'_>) -> core::result::Result<Message, Error> {
    match enclosed {
        Enclosed::Nothing => Ok(message),
        Enclosed::Settings(memory) => {
            let settings = memory.object().duplicate(Rights::READ | Rights::WRITE | Rights::TRANSFER)?;
            Ok(message.with_handle(0, settings.into_handle()))
        }
        Enclosed::File(pager, memory) => {
            let memory = memory.object().duplicate(Rights::READ | Rights::TRANSFER)?;
            Ok(message.with_handle(0, pager.share()?.into_handle()).with_handle(1, memory.into_handle()))
        }
    }
}
