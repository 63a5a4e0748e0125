//! Programs that may end: another takes their place.
//!
//! What a program works on lies in objects that the supervisor keeps: such as its disk, and the end of the channel that it serves. So a
//! client's channel stays what it is: requests that the dead had received are answered with `PeerClosed`, those that it had not
//! wait for the successor. What clients gave the dead besides, they give the successor again.
//!
//! A program ends
//! - **by itself**, or because it did wrong: its successor waits a while, longer each time ([`Lives`]);
//! - because it **hangs**: it is asked every second whether it runs ([`Silence`]), which its run-time answers between two events; and its
//!   clients tell if an answer makes no sense;
//! - because it is to be **replaced** by a program made of a new image ([`Programs`](crate::programs::Programs)). That one is there before
//!   the old one is ended, and takes its place at once. A new image whose program does not live long has been a mistake: the former is back.
//!
//! Where nothing helps, the program is **given up**: whatever its clients ask for fails, until somebody has it replaced.

use crate::loader::{Files, Program};
use crate::machine::{DRIVER_PRIORITY, prepare};
use crate::signal::Signal;
use crate::watch::{Life, Watcher};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::pending;
use core::pin::pin;
use driver_protocol::Refusal;
use futures_util::future::{Either, select};
use log::{error, info, warn};
use quire_api::abi::startup::Purpose;
use quire_api::abi::system::AccountLimits;
use quire_api::executor::{Buffers, Serving};
use quire_api::{ChannelEndpoint, Error, Message, Object, Request, Rights, rt};
use supervisor::lives::{GOOD_LIFE_NS, Lives, Next, PULSE_NS, Silence};
use supervisor::storm::{Fate, Storm};

/// Gives a program the objects that it works on.
pub(crate) type HandOver = Box<dyn Fn(&mut Program) -> Result<(), Error>>;
/// The ends of channels that a program serves.
pub(crate) type Ends = Box<dyn Fn() -> Vec<ChannelEndpoint>>;

/// What a program may do with the end of the channel on which it is asked whether it runs.
const PULSE_RIGHTS: Rights = Rights::RECEIVE.union(Rights::WAIT);
/// How long it takes, in ns, until one that was killed to see what happens has a successor.
const STORM_PAUSE_NS: u64 = 1_000_000;
/// And after one that a client had die, in ns: whoever awaits no successor is to find it gone.
const REQUESTED_PAUSE_NS: u64 = 20_000_000;
/// How long a program that can't be asked any more may take to end, in ns.
const CLOSED_NS: u64 = 8_000_000_000;

/// What passes from one program to its successor.
pub(crate) struct Legacy {
    /// The program, in the boot archive.
    pub(crate) path: &'static str,
    /// What it may use.
    pub(crate) limits: AccountLimits,
    /// Gives the program the objects that it works on.
    pub(crate) hand_over: HandOver,
    /// What is answered in its place when it is given up.
    pub(crate) ends: Ends,
    /// What it is told at its start.
    pub(crate) arguments: String,
    /// Whether it needs no successor when it ends.
    pub(crate) is_finished: Rc<Cell<bool>>,
    /// Whether its clients may have it die: then no number of deaths tells that it is of no use.
    pub(crate) dies_on_request: bool,
}

/// The only end that a program serves.
pub(crate) fn only_end(end: &ChannelEndpoint) -> Result<Ends, Error> {
    let end = end.duplicate(Rights::all())?;
    Ok(Box::new(move || end.duplicate(Rights::all()).into_iter().collect()))
}

/// A program that has successors.
pub(crate) struct Kept {
    watcher: Watcher,
    files: Files,
    legacy: Legacy,
    storm: Option<Storm>,
    /// Takes the present one's place at once.
    successor: RefCell<Option<Program>>,
    trial: Cell<Trial>,
    starts: Cell<u32>,
    is_given_up: Cell<bool>,
    /// Why the present one is to be ended, if a client says so.
    complaint: Cell<Option<&'static str>>,
    changed: Signal,
}

/// How a program of a new image does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// There is none.
    None,
    /// It does not serve yet.
    Ordered,
    /// It serves, but not for long.
    Serves,
    /// It has ended before it served.
    Failed,
}

/// A program that runs.
struct Present {
    program: Program,
    life: Life,
    /// Where it is asked whether it does.
    pulse: ChannelEndpoint,
}

/// Why a program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Itself,
    /// It has not answered what it was asked at this time, in ns.
    Hung {
        since_ns: u64,
    },
    /// A client has complained.
    Wrong(&'static str),
    Struck,
    Replaced,
}

/// Starts the program, and another whenever it has ended. An error is a sentence for people.
pub(crate) fn keep_alive(watcher: &Watcher, files: Files, legacy: Legacy) -> Result<Rc<Kept>, String> {
    let storm = Storm::over(name_of(legacy.path), &legacy.arguments);
    let kept = Rc::new(Kept {
        watcher: watcher.clone(),
        files,
        legacy,
        storm,
        successor: RefCell::default(),
        trial: Cell::new(Trial::None),
        starts: Cell::new(0),
        is_given_up: Cell::new(false),
        complaint: Cell::new(None),
        changed: Signal::default(),
    });
    let present = kept.start()?;
    watcher.programs.add(&kept);
    watcher.executor.spawn(kept.clone().keep(present));
    Ok(kept)
}

fn name_of(path: &'static str) -> &'static str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Kept {
    /// The program, in the boot archive.
    pub(crate) fn path(&self) -> &'static str {
        self.legacy.path
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        name_of(self.legacy.path)
    }

    /// What it may use.
    pub(crate) fn limits(&self) -> &AccountLimits {
        &self.legacy.limits
    }

    /// How many there have been, the present one included.
    pub(crate) fn starts(&self) -> u32 {
        self.starts.get()
    }

    /// Whether there is none any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.get()
    }

    /// Has a program take the present one's place at once.
    pub(crate) fn replace_by(&self, successor: Program) {
        self.trial.set(Trial::Ordered);
        self.successor.replace(Some(successor));
        self.changed.changed();
    }

    /// Whether the program that was ordered last serves; awaits that.
    pub(crate) async fn trial(&self) -> bool {
        let decided = || match self.trial.get() {
            Trial::Ordered => None,
            Trial::None | Trial::Serves => Some(true),
            Trial::Failed => Some(false),
        };
        self.changed.until(decided).await
    }

    /// Has the present one ended, as somebody who knows says why.
    pub(crate) fn complain(&self, why: &'static str) {
        self.complaint.set(Some(why));
        self.changed.changed();
    }

    async fn keep(self: Rc<Self>, mut present: Present) {
        let mut lives = Lives::default();
        loop {
            let began_ns = self.watcher.executor.now_ns();
            let end = self.live(present).await;
            if self.legacy.is_finished.get() {
                // Whoever has ordered another need not wait for it.
                drop(self.successor.take());
                self.trial.set(Trial::Failed);
                self.changed.changed();
                return self.watcher.programs.forget(&self);
            }
            let ended_ns = if let End::Hung { since_ns } = end { since_ns } else { self.watcher.executor.now_ns() };
            let lived_ns = ended_ns.saturating_sub(began_ns);
            let next = match end {
                End::Replaced => Next::After(0),
                End::Struck => Next::After(STORM_PAUSE_NS),
                End::Itself | End::Hung { .. } | End::Wrong(_) => {
                    self.judge(lived_ns);
                    if self.legacy.dies_on_request { Next::After(REQUESTED_PAUSE_NS) } else { lives.ended(lived_ns) }
                }
            };
            present = self.succeed(next, &mut lives).await;
        }
    }

    /// Goes back to the former image if the program that has ended by its own fault was one of a new image.
    fn judge(&self, lived_ns: u64) {
        let trial = self.trial.get();
        if trial == Trial::None {
            return;
        }
        if trial == Trial::Ordered || lived_ns < GOOD_LIFE_NS {
            warn!("{}: the new program did not live long; the former is back", self.name());
            self.watcher.programs.revert(self.path());
        }
        self.trial.set(if trial == Trial::Ordered { Trial::Failed } else { Trial::None });
        self.changed.changed();
    }

    /// Starts another.
    async fn succeed(&self, mut next: Next, lives: &mut Lives) -> Present {
        loop {
            match next {
                Next::After(0) => {}
                Next::After(ns) => {
                    select(pin!(self.ordered()), self.watcher.executor.sleep_ns(ns)).await;
                }
                Next::GiveUp => {
                    self.give_up().await;
                    *lives = Lives::default();
                }
            }
            match self.start() {
                Ok(present) => return present,
                Err(reason) => error!("{reason}"),
            }
            self.judge(0);
            next = lives.ended(0);
        }
    }

    /// Lives its life to the end. All that is its own is gone then.
    async fn live(&self, Present { program, life, pulse }: Present) -> End {
        let mut over = pin!(life.over());
        let end = {
            let (ordered, accused) = (pin!(self.ordered()), pin!(self.accused()));
            let (struck, hung) = (pin!(self.struck(&program)), pin!(self.hung(&pulse)));
            match select(over.as_mut(), select(select(ordered, accused), select(struck, hung))).await {
                Either::Left(_) => End::Itself,
                Either::Right((Either::Left((Either::Left(_), _)), _)) => End::Replaced,
                Either::Right((Either::Left((Either::Right((why, _)), _)), _)) => End::Wrong(why),
                Either::Right((Either::Right((Either::Left(_), _)), _)) => End::Struck,
                Either::Right((Either::Right((Either::Right((since_ns, _)), _)), _)) => End::Hung { since_ns },
            }
        };
        match end {
            End::Itself => warn!("{} has ended; another takes its place", self.name()),
            End::Struck => warn!("{} is killed; another takes its place", self.name()),
            End::Hung { .. } => {
                error!("{} does not answer any more: it is ended, and another takes its place", self.name())
            }
            End::Wrong(why) => error!("{} {why}: it is ended, and another takes its place", self.name()),
            End::Replaced => info!("{} is replaced", self.name()),
        }
        if end != End::Itself {
            if let Err(error) = program.thread().kill() {
                warn!("{}: can't be killed: {}", self.name(), error.describe());
            }
            over.await;
        }
        end
    }

    /// Waits until there is a program that is to take the present one's place.
    async fn ordered(&self) {
        self.changed.until(|| self.successor.borrow().is_some().then_some(())).await;
    }

    async fn accused(&self) -> &'static str {
        self.changed.until(|| self.complaint.take()).await
    }

    /// Waits until the storm, if there is one, has struck the program so that it has to be ended.
    async fn struck(&self, program: &Program) {
        let executor = &self.watcher.executor;
        let Some(storm) = &self.storm else { return pending().await };
        executor.sleep_ns(storm.respite_ns(executor.now_ns())).await;
        let struck = match storm.fate {
            Fate::Killed => return,
            Fate::Hangs => program.thread().suspend(),
            Fate::Spins => program.spin(),
        };
        match struck {
            Ok(()) => warn!("{} {:?}", self.name(), storm.fate),
            Err(error) => warn!("{}: the storm passes it: {}", self.name(), error.describe()),
        }
        pending().await
    }

    /// Waits until the program has not answered for too long; gives the time when it was asked.
    async fn hung(&self, pulse: &ChannelEndpoint) -> u64 {
        let executor = &self.watcher.executor;
        let mut silence = Silence::default();
        loop {
            let asked_ns = executor.now_ns();
            let mut answer = executor.call(pulse, Message::default(), Buffers::default());
            loop {
                match select(&mut answer, executor.sleep_ns(PULSE_NS)).await {
                    Either::Left((Ok(_), _)) => break,
                    // It is about to end, or has closed its end and will never answer.
                    Either::Left((Err(_), _)) => {
                        executor.sleep_ns(CLOSED_NS).await;
                        return asked_ns;
                    }
                    Either::Right(_) if silence.is_too_long() => return asked_ns,
                    Either::Right(_) => {}
                }
            }
            silence.answered();
            if self.trial.get() == Trial::Ordered {
                self.trial.set(Trial::Serves);
                self.changed.changed();
            }
            executor.sleep_ns(PULSE_NS).await;
        }
    }

    /// Answers all clients that nothing can be done for them, until a program is there that may do better.
    async fn give_up(&self) {
        error!("{} ends again and again: it is given up, and what it served fails", self.name());
        let _refusing: Vec<Serving> = (self.legacy.ends)().into_iter().filter_map(|end| self.refuse(end)).collect();
        self.is_given_up.set(true);
        self.ordered().await;
        self.is_given_up.set(false);
    }

    fn refuse(&self, end: ChannelEndpoint) -> Option<Serving> {
        let executor = self.watcher.executor.clone();
        let refuse = move |request: Option<Request>| {
            if let Some(reply) = request.and_then(|request| request.reply) {
                // Whoever asked may be gone.
                let _ = executor.answer(reply, Message::new(Refusal::DeviceFailed as u64, [0; 8]));
            }
        };
        self.watcher.executor.serve(end, refuse).ok()
    }

    fn start(&self) -> Result<Present, String> {
        let ordered = self.successor.take();
        if ordered.is_none() && self.trial.get() == Trial::Serves {
            self.trial.set(Trial::None);
        }
        let program = match ordered {
            Some(program) => program,
            None => self.watcher.programs.make(self.files, self.path(), self.limits())?,
        };
        self.starts.set(self.starts.get().saturating_add(1));
        self.complaint.set(None);
        self.run(program).map_err(|error| format!("{}: can't be started: {}", self.path(), error.describe()))
    }

    fn run(&self, mut program: Program) -> Result<Present, Error> {
        (self.legacy.hand_over)(&mut program)?;
        let (theirs, pulse) = ChannelEndpoint::pair(rt::account()?)?;
        program.give(Purpose::PULSE, &theirs, PULSE_RIGHTS)?;
        prepare(&program, DRIVER_PRIORITY)?;
        let life = self.watcher.start_mortal(&program, rt::account()?, &self.legacy.arguments)?;
        Ok(Present { program, life, pulse })
    }
}
