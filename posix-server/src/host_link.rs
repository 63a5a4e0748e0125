//! The guest's end of the host link: standard input, output and error of the program that `xtask exec` runs, as files.
//!
//! The frames are those of [`posix_protocol::host_link`]. Input is granted in credits as it is read, so that the host never sends
//! more than there is room for; output waits in one buffer for both streams, in the order in which it was written.

use crate::errno::{Errno, Result};
use crate::file::io::{moved_or_fault, put_text};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::platform::Executor;
use crate::tty::serial::ByteStream;
use crate::wait::WaitQueue;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use posix_protocol::host_link::{Decoder, ExitStatus, Frame, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES};

/// How much input may be under way or unread.
const INPUT_BYTES: usize = 32 << 10;
/// Credit is granted again when so much of it has been used up.
const CREDIT_STEP_BYTES: usize = INPUT_BYTES / 4;
/// How many bytes of frames wait for the line before writers have to.
const OUTPUT_BYTES: usize = 64 << 10;
/// How many bytes go to the line at once.
const WRITE_BYTES: usize = 16 << 10;

/// Which of the program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Standard,
    /// Standard error.
    Error,
}

/// The link.
#[derive(Default)]
pub struct HostLink {
    input: RefCell<VecDeque<u8>>,
    input_ended: Cell<bool>,
    /// Bytes read since the last credit.
    uncredited: Cell<usize>,
    frames: RefCell<VecDeque<u8>>,
    is_sending: Cell<bool>,
    is_broken: Cell<bool>,
    /// Woken when programs may go on.
    changed: WaitQueue,
    /// Woken when the line may go on.
    for_line: WaitQueue,
}

impl HostLink {
    /// A link that has granted its first credit.
    pub fn new() -> Rc<Self> {
        let link = Rc::new(Self::default());
        link.queue(Frame::Credit(INPUT_BYTES as u32));
        link
    }

    /// Starts the tasks that join it to its line.
    pub fn attach(self: &Rc<Self>, executor: &Executor, line: &Rc<dyn ByteStream>) {
        executor.spawn(carry_input(self.clone(), line.clone()));
        executor.spawn(carry_output(self.clone(), line.clone()));
    }

    /// Says how the program has ended. Await [`drained`](Self::drained) before the machine ends.
    pub fn send_exit(&self, status: ExitStatus) {
        self.queue(Frame::Exit(status));
    }

    /// Sends text of the trace. The caller awaits [`room`](Self::room) now and then.
    pub fn trace(&self, text: &[u8]) {
        for piece in text.chunks(MAX_PAYLOAD_BYTES) {
            self.queue(Frame::Trace(piece));
        }
    }

    /// Whether writers need not wait.
    pub fn has_room(&self) -> bool {
        self.frames.borrow().len() < OUTPUT_BYTES || self.is_broken.get()
    }

    /// Ready when writers need not wait.
    pub async fn room(&self) {
        loop {
            let listener = self.changed.listen();
            if self.has_room() {
                return;
            }
            listener.await;
        }
    }

    /// Ready when all that was written is on its way, or the line is broken.
    pub async fn drained(&self) {
        loop {
            let listener = self.changed.listen();
            let idle = self.frames.borrow().is_empty() && !self.is_sending.get();
            if idle || self.is_broken.get() {
                return;
            }
            listener.await;
        }
    }

    fn queue(&self, frame: Frame<'_>) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        if let Ok(bytes) = frame.encode(&mut buffer) {
            self.frames.borrow_mut().extend(bytes);
            self.for_line.wake();
        }
    }

    /// Takes bytes from the line.
    fn receive(&self, decoder: &mut Decoder, bytes: &[u8]) {
        decoder.push_all(bytes, |frame| match frame {
            Ok(Frame::Input(bytes)) => {
                let mut input = self.input.borrow_mut();
                // A host that keeps to its credit never sends more.
                let room = INPUT_BYTES.saturating_sub(input.len());
                input.extend(bytes.iter().take(room));
            }
            Ok(Frame::InputEnd) => self.input_ended.set(true),
            // Frames of the other direction, and noise: nothing to do about them.
            Ok(Frame::Output(_) | Frame::Error(_) | Frame::Trace(_) | Frame::Credit(_) | Frame::Exit(_)) | Err(_) => {}
        });
        self.changed.wake();
    }

    fn take_frames(&self) -> Vec<u8> {
        let mut frames = self.frames.borrow_mut();
        let count = frames.len().min(WRITE_BYTES);
        let bytes: Vec<u8> = frames.drain(..count).collect();
        self.is_sending.set(!bytes.is_empty());
        bytes
    }

    fn break_off(&self) {
        self.is_broken.set(true);
        self.input_ended.set(true);
        self.frames.borrow_mut().clear();
        self.changed.wake();
    }

    fn read(&self, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let count = {
            let mut input = self.input.borrow_mut();
            if input.is_empty() {
                return if self.input_ended.get() { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            let count = put_text(input.make_contiguous(), 0, to)?;
            input.drain(..count);
            count
        };
        self.uncredited.set(self.uncredited.get() + count);
        if self.uncredited.get() >= CREDIT_STEP_BYTES && !self.input_ended.get() {
            self.queue(Frame::Credit(self.uncredited.replace(0) as u32));
        }
        Ok(count)
    }

    fn write(&self, output: Output, from: &mut dyn Source) -> Result<usize> {
        if self.is_broken.get() {
            return Err(Errno::EIO);
        }
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        let mut total = 0;
        while from.remaining() > 0 {
            if self.frames.borrow().len() >= OUTPUT_BYTES {
                return if total == 0 { Err(Errno::EAGAIN) } else { Ok(total) };
            }
            let wanted = from.remaining().min(MAX_PAYLOAD_BYTES);
            let got = from.get(payload.get_mut(..wanted).unwrap_or_default());
            let bytes = payload.get(..got).unwrap_or_default();
            if got > 0 {
                self.queue(match output {
                    Output::Standard => Frame::Output(bytes),
                    Output::Error => Frame::Error(bytes),
                });
            }
            total += got;
            if got < wanted {
                return moved_or_fault(total);
            }
        }
        Ok(total)
    }
}

async fn carry_input(link: Rc<HostLink>, line: Rc<dyn ByteStream>) {
    let mut decoder = Decoder::new();
    while let Ok(bytes) = line.read().await {
        link.receive(&mut decoder, &bytes);
    }
    link.break_off();
}

async fn carry_output(link: Rc<HostLink>, line: Rc<dyn ByteStream>) {
    loop {
        let listener = link.for_line.listen();
        let bytes = link.take_frames();
        link.changed.wake();
        if bytes.is_empty() {
            listener.await;
            continue;
        }
        if line.write(bytes).await.is_err() {
            link.break_off();
            return;
        }
    }
}

/// Standard input.
pub struct HostInput(pub Rc<HostLink>);

impl FileOps for HostInput {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        self.0.read(to)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, !self.0.input.borrow().is_empty());
        events.set(PollEvents::HANG_UP, self.0.input_ended.get());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.0.input.borrow().len())
    }
}

/// Standard output or error.
pub struct HostOutput(pub Rc<HostLink>, pub Output);

impl FileOps for HostOutput {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        self.0.write(self.1, from)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::WRITABLE, self.0.frames.borrow().len() < OUTPUT_BYTES);
        events.set(PollEvents::ERROR, self.0.is_broken.get());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};
    use alloc::string::String;
    use alloc::{format, vec};

    fn sent(link: &HostLink) -> Vec<String> {
        let mut frames = Vec::new();
        Decoder::new().push_all(&link.take_frames(), |frame| frames.push(format!("{frame:?}")));
        frames
    }

    fn receive(link: &HostLink, frame: Frame<'_>) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let bytes = frame.encode(&mut buffer).unwrap().to_vec();
        link.receive(&mut Decoder::new(), &bytes);
    }

    #[test]
    fn output_and_error_go_apart_and_the_exit_status_is_last() {
        let link = HostLink::new();
        HostOutput(link.clone(), Output::Standard).write(0, &mut SliceSource::new(b"out")).unwrap();
        HostOutput(link.clone(), Output::Error).write(0, &mut SliceSource::new(b"err")).unwrap();
        link.send_exit(ExitStatus::Code(3));
        let frames = sent(&link);
        assert!(frames[0].contains("Credit"));
        assert!(frames[1].contains("Output") && frames[2].contains("Error") && frames[3].contains("Exit"));
    }

    #[test]
    fn input_is_read_until_its_end_and_credited_again() {
        let link = HostLink::new();
        let file = HostInput(link.clone());
        sent(&link);
        let mut buffer = vec![0; INPUT_BYTES];
        assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Err(Errno::EAGAIN));
        for _ in 0..CREDIT_STEP_BYTES / MAX_PAYLOAD_BYTES {
            receive(&link, Frame::Input(&[7; MAX_PAYLOAD_BYTES]));
        }
        assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Ok(CREDIT_STEP_BYTES));
        assert!(sent(&link)[0].contains("Credit"));
        receive(&link, Frame::InputEnd);
        assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Ok(0));
        assert!(file.readiness().contains(PollEvents::HANG_UP));
    }

    #[test]
    fn writers_wait_when_the_line_is_slow() {
        let link = HostLink::new();
        let file = HostOutput(link.clone(), Output::Standard);
        let bytes = vec![0; 2 * OUTPUT_BYTES];
        let written = file.write(0, &mut SliceSource::new(&bytes)).unwrap();
        assert!(written < bytes.len());
        assert!(!file.readiness().contains(PollEvents::OUT));
        assert_eq!(file.write(0, &mut SliceSource::new(&bytes)), Err(Errno::EAGAIN));
    }
}
