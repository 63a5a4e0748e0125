//! A driver of QEMU's `edu` device, as far as it has got: the guest's side of `docs/writing-a-driver.md`. With `repeat_seconds=N` it is asked
//! again and again for so long, so that one sees what becomes of it as it is replaced.

use crate::harness::{Failure, TestResult, holds, same};
use alloc::format;
use driver_protocol::edu::{MAX_ECHO_BYTES, Request};
use driver_protocol::{Refusal, purpose};
use log::{error, info};
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Executor, Message, Object};

/// How long the driver is left alone between two times that it is asked.
const PAUSE_SECONDS: u64 = 2;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Checks the driver; `true` if it does right what it does.
pub(crate) fn check(startup: &'static Startup) -> bool {
    let result = startup.take(purpose::DRIVER).map_err(Failure::from).and_then(|driver: ChannelEndpoint| {
        let result = check_all(&driver).and_then(|()| repeat(startup, &driver));
        // It stays open until the machine ends: without a client, the driver would end first.
        driver.into_handle().into_raw();
        result
    });
    if let Err(Failure(reason)) = &result {
        error!("driver: {reason}");
    }
    let (passed, failed) = if result.is_ok() { (1, 0) } else { (0, 1) };
    info!("{passed} passed, {failed} failed");
    result.is_ok()
}

/// Asks again, as long as the command line says. That a driver is replaced meanwhile is no failure, nor what a new one does wrong.
fn repeat(startup: &'static Startup, driver: &ChannelEndpoint) -> TestResult {
    let seconds: u64 = startup.argument("repeat_seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let executor = Executor::new(rt::account()?)?;
    for _ in 0..seconds / PAUSE_SECONDS {
        executor.block_on(executor.sleep_ns(PAUSE_SECONDS * NS_PER_SECOND))?;
        if let Err(Failure(reason)) = check_all(driver) {
            info!("not now: {reason}");
        }
    }
    Ok(())
}

fn check_all(driver: &ChannelEndpoint) -> TestResult {
    let identification = ask(driver, Request::Identify, &[], &mut [])?.ok_or_else(|| unknown("Identify"))?;
    same(identification & 0xff, 0xed)?;
    info!("test driver::identify ... ok");
    let mut is_known = true;
    for (number, factorial) in [(0, 1), (1, 1), (5, 120), (12, 479_001_600), (13, 1_932_053_504)] {
        match ask(driver, Request::Factorial { number }, &[], &mut [])? {
            Some(found) => same(found, factorial)?,
            None => is_known = false,
        }
    }
    info!("test driver::factorial ... {}", if is_known { "ok" } else { "not there yet" });
    is_known = true;
    for len_bytes in [1, 100, MAX_ECHO_BYTES] {
        let sent: alloc::vec::Vec<u8> = (0..len_bytes).map(|index| (index * 31) as u8 | 1).collect();
        let mut received = alloc::vec![0; len_bytes];
        match ask(driver, Request::Echo, &sent, &mut received)? {
            Some(count) => {
                same(count, len_bytes as u64)?;
                holds(received == sent, "what was sent came back")?;
            }
            None => is_known = false,
        }
    }
    info!("test driver::echo ... {}", if is_known { "ok" } else { "not there yet" });
    Ok(())
}

/// The first word of the answer; `None` if the driver can't do that.
fn ask(driver: &ChannelEndpoint, request: Request, send: &[u8], receive: &mut [u8]) -> Result<Option<u64>, Failure> {
    let (label, words) = request.encode();
    let answer = driver.call_with_buffers(Message::new(label, words), send, receive)?;
    match Refusal::check(answer.label) {
        Ok(()) => Ok(Some(answer.words[0])),
        Err(Refusal::Unknown) => Ok(None),
        Err(refusal) => Err(Failure(format!("{request:?}: {refusal:?}"))),
    }
}

fn unknown(request: &str) -> Failure {
    Failure(format!("the driver does not know {request}"))
}
