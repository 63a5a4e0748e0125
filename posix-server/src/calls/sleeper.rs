//! Calls that wait without a task of their own.
//!
//! A call that can't be done at once leaves what it needs to be tried again in a *sleeper*, which is attached to the queues of what it
//! waits for. A wake-up makes it due. Whoever is served just then tries all that are due before it looks at the next
//! request: so a write to a pipe answers the writer and the reader together.

use super::Outcome;
use super::absence::{self, Attempted};
use crate::errno::{Errno, Result};
use crate::event::alarms::{Alarm, Ring};
use crate::file::PollEvents;
use crate::platform::{LocalFuture, now_ns};
use crate::process::{Server, Thread, Whereabouts};
use crate::signal::leave::leave_wait;
use crate::wait::{Attachment, Heard, Notify, WaitQueue};
use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::pin;
use futures_util::future::{Either, select};

/// Why a call that waited has done nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InVain {
    /// A signal will have an effect.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

/// A call that can be tried again.
pub trait Attempt {
    /// Calls `watch` with every queue that is woken when it may be worth trying.
    fn queues(&self, thread: &Thread, watch: &mut dyn FnMut(&WaitQueue));

    /// Which of their wake-ups it cares for.
    fn wanted(&self) -> PollEvents {
        PollEvents::all()
    }

    /// Tries. `EAGAIN`: it goes on waiting.
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64>;

    /// Ends it, after a last attempt in vain.
    fn give_up(&mut self, thread: &Rc<Thread>, why: InVain) -> Result<u64>;
}

/// What ties a sleeper to its queues and its deadline; most have two queues.
#[derive(Default)]
struct Ties {
    first: [Option<Attachment>; 2],
    rest: Vec<Attachment>,
    alarm: Option<Alarm>,
}

impl Ties {
    fn add(&mut self, attachment: Attachment) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(attachment),
            None => self.rest.push(attachment),
        }
    }
}

struct Sleeper<A> {
    this: Weak<Self>,
    thread: Rc<Thread>,
    /// Gone when the call is over.
    call: RefCell<Option<A>>,
    wanted: PollEvents,
    deadline_ns: Option<u64>,
    is_due: Cell<bool>,
    ties: RefCell<Ties>,
    _alive: crate::census::counted::Sleeper,
}

/// Has a call wait that was tried in vain just now, until `deadline_ns` if there is one.
pub fn sleep<A: Attempt + 'static>(thread: &Rc<Thread>, mut call: A, deadline_ns: Option<u64>) -> Outcome {
    if thread.is_interrupted() {
        return Outcome::Return(call.give_up(thread, InVain::Interrupted));
    }
    let sleeper = Rc::new_cyclic(|this| Sleeper {
        _alive: Default::default(),
        this: this.clone(),
        thread: thread.clone(),
        wanted: call.wanted(),
        call: RefCell::new(None),
        deadline_ns,
        is_due: Cell::new(false),
        ties: RefCell::default(),
    });
    {
        let mut ties = sleeper.ties.borrow_mut();
        ties.add(thread.signal_arrived.attach(sleeper.clone()));
        call.queues(thread, &mut |queue| ties.add(queue.attach(sleeper.clone())));
    }
    sleeper.set_alarm();
    sleeper.call.replace(Some(call));
    Outcome::Parked
}

impl<A: Attempt + 'static> Sleeper<A> {
    fn set_alarm(&self) {
        let who: Weak<dyn Ring> = self.this.clone();
        let alarm = self.deadline_ns.map(|deadline_ns| self.thread.server().alarms.set(deadline_ns, who));
        self.ties.borrow_mut().alarm = alarm;
    }

    fn is_over(&self) -> bool {
        self.deadline_ns.is_some_and(|deadline_ns| now_ns() >= deadline_ns)
    }

    fn become_due(&self) {
        if !self.is_due.replace(true)
            && let Some(this) = self.this.upgrade()
        {
            Due::add(self.thread.server(), this);
        }
    }

    fn end(&self, call: A, result: Result<u64>) {
        self.untie();
        drop(call);
        leave_wait(&self.thread, result);
    }

    /// Tries again when the page is there that the call needs.
    fn try_after(&self, call: A, page: LocalFuture<Result<()>>) {
        let Some(this) = self.this.upgrade() else { return };
        self.thread.server().executor.spawn(async move {
            match select(page, pin!(this.thread.clone().gone())).await {
                Either::Left((Ok(()), _)) => {
                    this.call.replace(Some(call));
                    this.is_due.set(false);
                    this.become_due();
                }
                Either::Left((Err(errno), _)) => this.end(call, Err(errno)),
                Either::Right(_) => this.untie(),
            }
        });
    }

    fn end_with(&self, call: A, result: LocalFuture<Result<u64>>) {
        let Some(this) = self.this.upgrade() else { return };
        self.thread.server().executor.spawn(async move {
            match select(result, pin!(this.thread.clone().gone())).await {
                Either::Left((result, _)) => this.end(call, result),
                Either::Right(_) => this.untie(),
            }
        });
    }

    /// Leaves all queues. They hold the sleeper, which the caller must hold too.
    fn untie(&self) {
        let ties = self.ties.take();
        drop(ties);
    }
}

impl<A: Attempt + 'static> Notify for Sleeper<A> {
    fn notify(&self, events: PollEvents) -> Heard {
        if !events.intersects(self.wanted) {
            return Heard::No;
        }
        self.become_due();
        Heard::Yes
    }
}

impl<A: Attempt + 'static> Ring for Sleeper<A> {
    fn ring(&self) {
        if self.is_over() {
            self.become_due();
        } else {
            self.set_alarm();
        }
    }
}

/// A sleeper of any kind.
trait TryAgain {
    fn try_again(&self);
}

impl<A: Attempt + 'static> TryAgain for Sleeper<A> {
    fn try_again(&self) {
        let Some(mut call) = self.call.take() else { return };
        let thread = &self.thread;
        if thread.whereabouts.get() == Whereabouts::Gone {
            self.untie();
            return;
        }
        crate::budget::set_caller(thread.process.payer());
        let result = match call.attempt(thread) {
            Err(Errno::EAGAIN) if self.is_over() => call.give_up(thread, InVain::TimedOut),
            Err(Errno::EAGAIN) if thread.is_interrupted() => call.give_up(thread, InVain::Interrupted),
            Err(Errno::EAGAIN) => {
                self.call.replace(Some(call));
                self.is_due.set(false);
                return;
            }
            result => result,
        };
        match absence::judge(&thread.server().executor, result) {
            Attempted::Over(result) => self.end(call, result),
            Attempted::Again(page) => self.try_after(call, page),
            Attempted::Later(result) => self.end_with(call, result),
        }
    }
}

/// The sleepers that are to be tried again.
#[derive(Default)]
pub struct Due {
    sleepers: RefCell<VecDeque<Rc<dyn TryAgain>>>,
    /// Whether somebody will try them without being asked.
    is_attended: Cell<bool>,
}

impl Due {
    fn add(server: &Rc<Server>, sleeper: Rc<dyn TryAgain>) {
        server.due.sleepers.borrow_mut().push_back(sleeper);
        if !server.due.is_attended.replace(true) {
            let server = server.clone();
            server.executor.clone().spawn(async move { server.due.try_all() });
        }
    }

    /// Serves somebody, and then tries those who have become due by that.
    pub fn after(&self, serve: impl FnOnce()) {
        let was_attended = self.is_attended.replace(true);
        serve();
        if !was_attended {
            self.try_all();
        }
    }

    fn try_all(&self) {
        loop {
            let next = self.sleepers.borrow_mut().pop_front();
            let Some(sleeper) = next else { break };
            sleeper.try_again();
        }
        self.is_attended.set(false);
    }
}
