//! Programs that may end: another takes their place.
//!
//! What a program works on lies in objects that the supervisor keeps: such as its disk, and the end of the channel that it serves. So a
//! client's channel stays what it is: requests that the dead had received are answered with `PeerClosed`, those that it had not
//! wait for the successor. What clients gave the dead besides, they give the successor again.

use crate::loader::{Files, Program};
use crate::machine::{DRIVER_PRIORITY, prepare};
use crate::watch::{Life, Watcher};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::pin::pin;
use futures_util::future::{Either, select};
use log::{error, warn};
use quire_api::abi::system::AccountLimits;
use quire_api::{Error, rt};
use supervisor::storm::Storm;

/// Gives a program the objects that it works on.
pub(crate) type HandOver = Box<dyn Fn(&mut Program) -> Result<(), Error>>;

/// What passes from one program to its successor.
pub(crate) struct Legacy {
    /// The program, in the boot archive.
    pub(crate) path: &'static str,
    /// What it may use.
    pub(crate) limits: AccountLimits,
    /// Gives the program the objects that it works on.
    pub(crate) hand_over: HandOver,
    /// What it is told at its start.
    pub(crate) arguments: String,
    /// Whether it needs no successor when it ends.
    pub(crate) is_finished: Rc<Cell<bool>>,
}

/// How long it takes until a successor starts, in ns: at first, and at most, of a program that lives no longer than that.
const FIRST_PAUSE_NS: u64 = 1_000_000;
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

/// Starts the program, and another whenever it has ended. An error is a sentence for people.
pub(crate) fn keep_alive(watcher: &Watcher, files: Files, legacy: Legacy) -> Result<(), String> {
    let (mut program, mut life) = start(watcher, files, &legacy)?;
    let watcher = watcher.clone();
    let storm = Storm::over(program.name(), &legacy.arguments);
    watcher.executor.clone().spawn(async move {
        let mut pause_ns = FIRST_PAUSE_NS;
        loop {
            let began_ns = watcher.executor.now_ns();
            live(&watcher, &program, life, storm.as_ref()).await;
            if legacy.is_finished.get() {
                return;
            }
            warn!("{} has ended; another takes its place", program.name());
            let lived_ns = watcher.executor.now_ns().saturating_sub(began_ns);
            pause_ns = if lived_ns > pause_ns { FIRST_PAUSE_NS } else { (pause_ns * 2).min(LONGEST_PAUSE_NS) };
            // All that is the dead one's own goes first.
            drop(program);
            (program, life) = loop {
                watcher.executor.sleep_until(watcher.executor.now_ns().saturating_add(pause_ns)).await;
                match start(&watcher, files, &legacy) {
                    Ok(successor) => break successor,
                    Err(reason) => error!("{reason}"),
                }
                pause_ns = LONGEST_PAUSE_NS;
            };
        }
    });
    Ok(())
}

/// Waits for a program's end, and brings it about if there is a storm.
async fn live(watcher: &Watcher, program: &Program, life: Life, storm: Option<&Storm>) {
    let mut over = pin!(life.over());
    if let Some(storm) = storm {
        let respite = watcher.executor.sleep_ns(storm.respite_ns(watcher.executor.now_ns()));
        if let Either::Left(_) = select(over.as_mut(), respite).await {
            return;
        }
        if let Err(error) = program.thread().kill() {
            warn!("{}: can't be killed: {}", program.name(), error.describe());
        }
    }
    over.await;
}

fn start(watcher: &Watcher, files: Files, legacy: &Legacy) -> Result<(Program, Life), String> {
    let mut program = Program::load(files, legacy.path, &legacy.limits)?;
    let life = run(watcher, &mut program, legacy)
        .map_err(|error: Error| format!("{}: can't be started: {}", legacy.path, error.describe()))?;
    Ok((program, life))
}

fn run(watcher: &Watcher, program: &mut Program, legacy: &Legacy) -> Result<Life, Error> {
    (legacy.hand_over)(program)?;
    prepare(program, DRIVER_PRIORITY)?;
    watcher.start_mortal(program, rt::account()?, &legacy.arguments)
}
