//! How much the serial driver carries: what every byte of the host link goes through.

use crate::harness::Failure;
use driver_protocol::console::{
    ANYWHERE, MAX_READ_BYTES, MAX_WRITE_BYTES, ReadAnswer, ReadWords, Request, write_words,
};
use driver_protocol::{Refusal, purpose};
use log::{error, info};
use quire_api::abi::startup::Purpose;
use quire_api::rt::Startup;
use quire_api::time::clock_ns;
use quire_api::{ChannelEndpoint, Error, Message, Object};

/// How much is written.
const TOTAL_BYTES: usize = 1 << 20;

/// Measures the lines that are there; `true` if they work.
pub(crate) fn run(startup: &Startup) -> bool {
    // The console is written only if there is nothing else: its output is what people look at.
    let line = [purpose::HOST_LINK, purpose::CONSOLE].into_iter().find_map(|purpose| take(startup, purpose));
    let Some(line) = line else {
        error!("there is no serial line");
        return false;
    };
    let result = measure(&line);
    // It stays open until the machine ends: without a client, the driver would end first.
    line.into_handle().into_raw();
    match result {
        Ok(()) => true,
        Err(Failure(reason)) => {
            error!("serial line: {reason}");
            false
        }
    }
}

fn take(startup: &Startup, purpose: Purpose) -> Option<ChannelEndpoint> {
    startup.take(purpose).ok()
}

fn measure(line: &ChannelEndpoint) -> Result<(), Failure> {
    let bytes: alloc::vec::Vec<u8> = (0..MAX_WRITE_BYTES).map(|index| b"0123456789abcdef\n"[index % 17]).collect();
    let start_ns = clock_ns();
    let mut written = 0;
    while written < TOTAL_BYTES {
        let request = Message::new(Request::Write.label(), write_words(ANYWHERE));
        let answer = line.call_with_buffers(request, &bytes, &mut [])?;
        Refusal::check(answer.label).map_err(|refusal| Failure(alloc::format!("{refusal:?}")))?;
        written += answer.words[0] as usize;
    }
    let took_ns = clock_ns().saturating_sub(start_ns).max(1);
    info!("wrote {written} bytes in {} us: {} KB/s", took_ns / 1_000, written as u64 * 1_000_000 / took_ns);
    // What the other side sends until it sends a newline, and how long that took.
    info!("reading until an empty line");
    let start_ns = clock_ns();
    let mut read = 0;
    let mut buffer = [0; MAX_READ_BYTES];
    loop {
        let request = Message::new(Request::Read.label(), ReadWords::ANYWHERE.encode());
        let answer = line.call_with_buffers(request, &[], &mut buffer)?;
        Refusal::check(answer.label).map_err(|refusal| Failure(alloc::format!("{refusal:?}")))?;
        let ReadAnswer { len_bytes, lost_bytes, position: _, window: _ } = ReadAnswer::decode(&answer.words);
        if lost_bytes > 0 {
            error!("{lost_bytes} bytes lost");
        }
        let bytes = buffer.get(..len_bytes as usize).ok_or(Error::OutOfRange)?;
        read += bytes.len();
        if bytes.contains(&b'\n') {
            break;
        }
    }
    let took_ns = clock_ns().saturating_sub(start_ns).max(1);
    info!("read {read} bytes in {} us: {} KB/s", took_ns / 1_000, read as u64 * 1_000_000 / took_ns);
    Ok(())
}
