//! The driver on its objects.

use alloc::rc::Rc;
use alloc::vec;
use driver_protocol::edu::{MAX_ECHO_BYTES, Request as Wish};
use driver_protocol::{ANSWERED, Refusal, Words, purpose};
use driver_runtime::DmaPool;
use edu::device::{Edu, EduError};
use log::{error, info};
use quire_api::executor::Interrupts;
use quire_api::rt::{self, Startup};
use quire_api::{
    ChannelEndpoint, DmaBuffer, DmaSpace, Error, Executor, Interrupt, Memory, Message, RegisterWindow, Request,
};

type MachineEdu = Edu<RegisterWindow, DmaBuffer, Interrupts, Executor>;

/// Serves the device until its last client is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let account = rt::account()?;
    let executor = Executor::new(account)?;
    let memory: Memory = startup.take(purpose::window(0))?;
    let registers = RegisterWindow::map(&memory, 0, memory.info()?.size)?;
    let space: Rc<DmaSpace> = Rc::new(startup.take(purpose::DMA)?);
    let interrupts = executor.interrupts(startup.take::<Interrupt>(purpose::message(0))?)?;
    let mut messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    let mut edu = match Edu::start(registers, &DmaPool::new(account, &space), interrupts, executor.clone()) {
        Ok(edu) => edu,
        Err(reason) => {
            error!("{reason}");
            return Ok(());
        }
    };
    info!("edu device {:#x}", edu.identification());
    executor.block_on(async {
        while let Some(request) = messages.receive().await {
            serve(&mut edu, &executor, request).await;
        }
    })
}

/// Does what a client asks for, and answers.
async fn serve(edu: &mut MachineEdu, executor: &Executor, request: Request) {
    let answer = match Wish::decode(request.message.label, &request.message.words) {
        Some(Wish::Identify) => Ok(edu.identification().into()),
        Some(Wish::Factorial { number }) => edu.factorial(number).await.map(u64::from).map_err(refusal),
        Some(Wish::Echo) => echo(edu, &request).await,
        None => Err(Refusal::Unknown),
    };
    let Some(reply) = request.reply else { return };
    let message = match answer {
        Ok(word) => Message::new(ANSWERED, [word, 0, 0, 0, 0, 0, 0, 0]),
        Err(refusal) => Message::new(refusal as u64, Words::default()),
    };
    // Whoever asked may be gone.
    let _ = executor.answer(reply, message);
}

/// Bytes of the caller's send buffer go to the device, and what comes back to its receive buffer.
async fn echo(edu: &mut MachineEdu, request: &Request) -> Result<u64, Refusal> {
    let reply = request.reply.as_ref().ok_or(Refusal::BadBuffer)?;
    let len_bytes = request.send_len.min(request.receive_len).min(MAX_ECHO_BYTES as u64);
    let mut bytes = vec![0; len_bytes as usize];
    let count = reply.read_buffer(0, &mut bytes).map_err(|_| Refusal::BadBuffer)?;
    bytes.truncate(count);
    edu.echo(&mut bytes).await.map_err(refusal)?;
    let count = reply.write_buffer(0, &bytes).map_err(|_| Refusal::BadBuffer)?;
    Ok(count as u64)
}

fn refusal(error: EduError) -> Refusal {
    error!("{error}");
    Refusal::DeviceFailed
}
