//! Tasks and their wakers. A waker is a flag and an index, so that it is `Send` although tasks are not.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use spin::Mutex;

/// A future that runs for its effects.
pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The index of the future that `block_on` runs.
pub(super) const MAIN: u32 = u32::MAX;

/// Indices of tasks that were woken.
#[derive(Debug, Default)]
pub(super) struct ReadyList(Mutex<Vec<u32>>);

impl ReadyList {
    /// Moves all indices to `into`, whose storage is used for the next ones.
    pub(super) fn swap(&self, into: &mut Vec<u32>) {
        core::mem::swap(&mut *self.0.lock(), into);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// What a waker points to.
#[derive(Debug)]
pub(super) struct WakeFlag {
    index: u32,
    queued: AtomicBool,
    ready: Arc<ReadyList>,
}

impl WakeFlag {
    pub(super) fn new(index: u32, ready: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { index, queued: AtomicBool::new(false), ready: Arc::clone(ready) })
    }

    /// From now on a wake counts again. To be called before the task is polled.
    pub(super) fn clear(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.0.lock().push(self.index);
        }
    }
}

/// A place for a task. The waker stays when the task ends and serves the next one: a late wake of the old task is a
/// needless poll of the new one, no more.
struct Entry {
    task: Option<Task>,
    flag: Arc<WakeFlag>,
    waker: Waker,
    /// Whether a task lives here, be it in `task` or, being polled, elsewhere.
    occupied: bool,
}

/// All tasks of an executor.
#[derive(Default)]
pub(super) struct Tasks {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Tasks {
    /// Adds a task and wakes it for the first time.
    pub(super) fn add(&mut self, task: Task, ready: &Arc<ReadyList>) {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = self.entries.len() as u32;
                let flag = WakeFlag::new(index, ready);
                let waker = Waker::from(Arc::clone(&flag));
                self.entries.push(Entry { task: None, flag, waker, occupied: false });
                index
            }
        };
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.task = Some(task);
            entry.occupied = true;
            entry.waker.wake_by_ref();
        }
    }

    /// Takes a woken task out to be polled.
    pub(super) fn take(&mut self, index: u32) -> Option<(Task, Waker)> {
        let entry = self.entries.get_mut(index as usize)?;
        entry.flag.clear();
        Some((entry.task.take()?, entry.waker.clone()))
    }

    /// Puts a task back that is not done.
    pub(super) fn put_back(&mut self, index: u32, task: Task) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.task = Some(task);
        }
    }

    /// The task at `index`, which was taken, is done.
    pub(super) fn finish(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize)
            && entry.occupied
        {
            entry.occupied = false;
            self.free.push(index);
        }
    }

    /// How many tasks there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Takes all tasks that are not being polled, to be dropped.
    pub(super) fn drain(&mut self) -> Vec<Task> {
        self.entries.iter_mut().filter_map(|entry| entry.task.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::task::{Context, Poll};

    fn poll_all(tasks: &mut Tasks, ready: &ReadyList) -> usize {
        let mut batch = Vec::new();
        ready.swap(&mut batch);
        for index in &batch {
            let Some((mut task, waker)) = tasks.take(*index) else { continue };
            match task.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(()) => tasks.finish(*index),
                Poll::Pending => tasks.put_back(*index, task),
            }
        }
        batch.len()
    }

    #[test]
    fn a_task_is_polled_once_per_wake_however_often_it_is_woken() {
        let ready = Arc::new(ReadyList::default());
        let mut tasks = Tasks::default();
        let mut polls = 0;
        let (sender, receiver) = (Arc::new(Mutex::new(None::<Waker>)), Arc::new(Mutex::new(None::<Waker>)));
        let slot = Arc::clone(&sender);
        tasks.add(
            Box::pin(core::future::poll_fn(move |context| {
                *slot.lock() = Some(context.waker().clone());
                polls += 1;
                if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
            })),
            &ready,
        );
        drop(receiver);
        assert_eq!(poll_all(&mut tasks, &ready), 1);
        assert_eq!(poll_all(&mut tasks, &ready), 0);
        let waker = sender.lock().clone().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(poll_all(&mut tasks, &ready), 1);
        assert_eq!(tasks.len(), 0);
        waker.wake();
        assert_eq!(poll_all(&mut tasks, &ready), 1, "a late wake finds no task and does no harm");
    }

    #[test]
    fn places_are_used_again() {
        let ready = Arc::new(ReadyList::default());
        let mut tasks = Tasks::default();
        for _ in 0..3 {
            tasks.add(Box::pin(async {}), &ready);
            assert_eq!(tasks.len(), 1);
            poll_all(&mut tasks, &ready);
            assert_eq!(tasks.len(), 0);
        }
        assert_eq!(tasks.entries.len(), 1);
    }
}
