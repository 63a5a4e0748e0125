//! Watching the programs that were started: their ends, their faults, what they ask for.

use crate::filesystems::FileSystems;
use crate::loader::Program;
use crate::programs::Programs;
use alloc::rc::Rc;
use driver_protocol::supervisor::Request as Wish;
use driver_protocol::{Refusal, Words};
use futures_util::future::{AbortHandle, abortable};
use log::{error, info};
use quire_api::abi::message::WORDS;
use quire_api::abi::system::Shutdown;
use quire_api::abi::thread::ExceptionVerdict;
use quire_api::executor::{Messages, ThreadEnd};
use quire_api::thread::Exception;
use quire_api::{Account, ChannelEndpoint, Error, Executor, Hardware, Message, Object, Request, Rights};

/// What all watchers share.
#[derive(Clone)]
pub(crate) struct Watcher {
    pub(crate) executor: Executor,
    pub(crate) hardware: Rc<Hardware>,
    pub(crate) programs: Rc<Programs>,
}

/// The life of a program that was started.
pub(crate) struct Life {
    ended: ThreadEnd,
    faults: AbortHandle,
}

impl Life {
    /// Waits for its end, after which nobody watches for its faults any more.
    pub(crate) async fn over(self) {
        self.ended.await;
        self.faults.abort();
    }
}

impl Watcher {
    /// Ends the machine.
    pub(crate) fn shut_down(&self, how: Shutdown) {
        if let Err(error) = self.hardware.shutdown(how) {
            error!("the machine can't be ended: {}", error.describe());
        }
    }

    /// Starts a program and watches it: when it ends, the machine does.
    pub(crate) fn start(&self, program: Program, account: &Account, arguments: &str) -> Result<(), Error> {
        let life = self.start_mortal(&program, account, arguments)?;
        let watcher = self.clone();
        self.executor.spawn(async move {
            life.over().await;
            error!("{} has ended; without it the system can't go on", program.name());
            watcher.shut_down(Shutdown::Failure);
        });
        Ok(())
    }

    /// Starts a program that may end.
    pub(crate) fn start_mortal(&self, program: &Program, account: &Account, arguments: &str) -> Result<Life, Error> {
        let faults = self.watch_faults(program, account)?;
        let ended = self.executor.thread_end(program.thread())?;
        program.start(arguments)?;
        Ok(Life { ended, faults })
    }

    /// Says what a program did wrong before it is killed for it.
    fn watch_faults(&self, program: &Program, account: &Account) -> Result<AbortHandle, Error> {
        let (ours, theirs) = ChannelEndpoint::pair(account)?;
        program.thread().set_exceptions(Some(&theirs))?;
        let mut faults = self.executor.bind(ours)?;
        let (executor, name) = (self.executor.clone(), program.name());
        let thread = program.thread().duplicate(Rights::all())?;
        let (watch, handle) = abortable(async move {
            // The other end lives as long as this task, whatever the kernel's own reference does.
            let _theirs = theirs;
            while let Some(Request { message, reply, send_len: _, receive_len: _ }) = faults.receive().await {
                match Exception::from_message(&message) {
                    Some(exception) => {
                        let stack = thread.registers().map_or(0, |registers| registers.rsp);
                        error!("{name}: {exception}, stack {stack:#x}");
                    }
                    None => error!("{name}: an unknown exception"),
                }
                if let Some(reply) = reply {
                    let verdict = Message::new(ExceptionVerdict::Kill as u64, [0; WORDS]);
                    let _ = executor.answer(reply, verdict);
                }
            }
        });
        // Nobody asks whether it was ended.
        self.executor.spawn(async move {
            let _ = watch.await;
        });
        Ok(handle)
    }

    /// Makes the channel on which a program asks the supervisor for things, and serves it. Returns the program's end.
    pub(crate) fn serve(
        &self,
        account: &Account,
        name: &'static str,
        filesystems: Option<Rc<FileSystems>>,
    ) -> Result<ChannelEndpoint, Error> {
        let (ours, theirs) = ChannelEndpoint::pair(account)?;
        let wishes = self.executor.bind(ours)?;
        self.executor.spawn(self.clone().serve_wishes(wishes, name, filesystems));
        Ok(theirs)
    }

    async fn serve_wishes(self, mut wishes: Messages, name: &'static str, filesystems: Option<Rc<FileSystems>>) {
        while let Some(request) = wishes.receive().await {
            let wish = Wish::decode(request.message.label, &request.message.words);
            let refusal = match (wish, &filesystems) {
                (Some(Wish::ShutDown(how)), _) => {
                    info!("{name} ends the machine: {how:?}");
                    self.shut_down(how);
                    Refusal::DeviceFailed
                }
                (Some(Wish::Disks), Some(filesystems)) => {
                    filesystems.begin_list(request);
                    continue;
                }
                (Some(Wish::OpenFiles { name, read_only }), Some(filesystems)) => {
                    filesystems.begin_open(name, read_only, request);
                    continue;
                }
                (Some(Wish::Complain { name }), Some(filesystems)) => {
                    filesystems.complain(name);
                    Refusal::DeviceFailed
                }
                (Some(Wish::Disks | Wish::OpenFiles { .. } | Wish::Complain { .. } | Wish::Finished) | None, _) => {
                    Refusal::Unknown
                }
            };
            if let Some(reply) = request.reply {
                let words: Words = [0; WORDS];
                let _ = self.executor.answer(reply, Message::new(refusal as u64, words));
            }
        }
    }
}
