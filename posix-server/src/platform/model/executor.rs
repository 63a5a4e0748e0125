//! The model's executor: tasks and deadlines of the server's one thread.
//!
//! A task is a future without a result. It holds strong references to what it works on, so a task must end when that does:
//! blocked system calls are raced against the end of their thread.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use futures_util::stream::{FuturesUnordered, Stream};

use crate::platform::LocalFuture;

/// Notes that some task can go on.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    /// Tasks that were spawned since the last run.
    arrivals: RefCell<Vec<LocalFuture<()>>>,
    running: RefCell<FuturesUnordered<LocalFuture<()>>>,
    /// By deadline, then by number.
    sleepers: RefCell<BTreeMap<(u64, u64), Waker>>,
    next_sleeper: Cell<u64>,
}

/// The executor; a clone is the same one.
#[derive(Clone, Default)]
pub struct Executor(Rc<State>);

impl Executor {
    /// An executor without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task, which first runs in the next [`run_ready`](Self::run_ready).
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.arrivals.borrow_mut().push(Box::pin(task));
    }

    /// Wakes who waits for a deadline up to `now_ns`, then runs every task that can go on until none can.
    pub fn run_ready(&self, now_ns: u64) {
        self.wake_sleepers(now_ns);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            flag.0.store(false, Ordering::Relaxed);
            let arrivals = core::mem::take(&mut *self.0.arrivals.borrow_mut());
            let mut running = self.0.running.borrow_mut();
            running.extend(arrivals);
            // Ready(Some) is a task that ended, Ready(None) that there are none; Pending that all wait.
            while let Poll::Ready(Some(())) = Pin::new(&mut *running).poll_next(&mut context) {}
            drop(running);
            if self.0.arrivals.borrow().is_empty() && !flag.0.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// The earliest deadline that somebody waits for.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.0.sleepers.borrow().first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// A future that is ready when the clock has reached `deadline_ns` (since the machine's start).
    pub fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        Sleep { executor: self.clone(), deadline_ns, number: None }
    }

    fn wake_sleepers(&self, now_ns: u64) {
        let mut sleepers = self.0.sleepers.borrow_mut();
        while let Some(entry) = sleepers.first_entry().filter(|entry| entry.key().0 <= now_ns) {
            entry.remove().wake();
        }
    }
}

/// What [`Executor::sleep_until`] returns. Dropping it takes the deadline back.
pub struct Sleep {
    executor: Executor,
    deadline_ns: u64,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if crate::platform::now_ns() >= self.deadline_ns {
            return Poll::Ready(());
        }
        let state = self.executor.0.clone();
        let number = *self.number.get_or_insert_with(|| {
            let number = state.next_sleeper.get();
            state.next_sleeper.set(number.wrapping_add(1));
            number
        });
        state.sleepers.borrow_mut().insert((self.deadline_ns, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.executor.0.sleepers.borrow_mut().remove(&(self.deadline_ns, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform;

    #[test]
    fn tasks_sleep_until_their_deadline_in_order() {
        let executor = Executor::new();
        let log = Rc::new(RefCell::new(Vec::new()));
        for delay in [30, 10, 20] {
            let (log, executor_inside) = (log.clone(), executor.clone());
            let deadline = platform::now_ns() + delay;
            executor.spawn(async move {
                executor_inside.sleep_until(deadline).await;
                log.borrow_mut().push(delay);
            });
        }
        executor.run_ready(platform::now_ns());
        for _ in 0..3 {
            platform::advance_ns(10);
            executor.run_ready(platform::now_ns());
        }
        assert_eq!(*log.borrow(), [10, 20, 30]);
        assert_eq!(executor.next_deadline_ns(), None);
    }

    #[test]
    fn a_dropped_sleep_leaves_no_deadline() {
        let executor = Executor::new();
        let mut sleep = Box::pin(executor.sleep_until(platform::now_ns() + 5));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(executor.next_deadline_ns().is_some());
        drop(sleep);
        assert_eq!(executor.next_deadline_ns(), None);
    }

    #[test]
    fn a_task_may_spawn_another() {
        let executor = Executor::new();
        let done = Rc::new(Cell::new(false));
        let (inner_executor, inner_done) = (executor.clone(), done.clone());
        executor.spawn(async move {
            let spawner = inner_executor.clone();
            spawner.spawn(async move { inner_done.set(true) });
        });
        executor.run_ready(0);
        assert!(done.get());
    }
}
