//! Random scheduling on several processors.

use super::*;
use crate::kernel::Kernel;
use crate::machine::Frame;
use crate::memory::{FrameTable, MemorySystem};
use crate::mock::MockMachine;
use crate::thread::Wait;
use proptest::prelude::*;
use quire_abi::thread::{Registers, ThreadFlags};
use std::vec;
use std::vec::Vec;

const THREADS: usize = 8;
const CPUS: usize = 4;

/// What happens, to the thread or on the processor with this number.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The processor enters the kernel and leaves it.
    Enter(usize),
    /// Its current thread waits for something.
    Park(usize),
    /// A thread that waits is woken from this processor.
    Wake(usize, usize),
    Suspend(usize, usize),
    Resume(usize, usize),
    SetPriority(usize, u8),
    SetAffinity(usize, u64),
    GiveWay(usize),
    Rotate(usize),
    Kill(usize, usize),
    /// Time passes, and the processor notices.
    Tick(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (cpu, thread) = (0..CPUS, 0..THREADS);
    prop_oneof![
        cpu.clone().prop_map(Step::Enter),
        cpu.clone().prop_map(Step::Park),
        (cpu.clone(), thread.clone()).prop_map(|(cpu, thread)| Step::Wake(cpu, thread)),
        (cpu.clone(), thread.clone()).prop_map(|(cpu, thread)| Step::Suspend(cpu, thread)),
        (cpu.clone(), thread.clone()).prop_map(|(cpu, thread)| Step::Resume(cpu, thread)),
        (thread.clone(), 14u8..18).prop_map(|(thread, priority)| Step::SetPriority(thread, priority)),
        (thread.clone(), 1u64..16).prop_map(|(thread, processors)| Step::SetAffinity(thread, processors)),
        cpu.clone().prop_map(Step::GiveWay),
        cpu.clone().prop_map(Step::Rotate),
        (cpu.clone(), thread).prop_map(|(cpu, thread)| Step::Kill(cpu, thread)),
        (cpu, 0..2 * SLICE_NS).prop_map(|(cpu, time)| Step::Tick(cpu, time)),
    ]
}

struct World {
    kernel: Kernel,
    m: MockMachine,
    threads: Vec<Id<Thread>>,
    cpus: usize,
}

impl World {
    fn new(cpus: usize) -> Self {
        let mut m = MockMachine::default();
        let mut frames = FrameTable::new(Frame(256)).unwrap();
        frames.add(Frame(1), 255);
        let memory = MemorySystem::new(&mut m, frames).unwrap();
        let mut kernel = Kernel::new(memory, cpus).unwrap();
        let account = kernel.memory.root_account();
        let space = kernel.memory.create_space(&mut m, account).unwrap();
        let table = kernel.create_table(account).unwrap();
        let mut thread = || kernel.create_thread(&mut m, account, space, table, ThreadFlags::empty()).unwrap();
        let threads: Vec<_> = (0..THREADS).map(|_| thread()).collect();
        for thread in &threads {
            // The reference of a handle.
            kernel.retain(crate::object::ObjectRef::Thread(*thread));
            kernel.start_thread(*thread, &Registers::default()).unwrap();
        }
        Self { kernel, m, threads, cpus }
    }

    fn take(&mut self, step: Step) {
        let kernel = &mut self.kernel;
        let (state, id) = match step {
            Step::Wake(_, thread)
            | Step::Suspend(_, thread)
            | Step::Resume(_, thread)
            | Step::SetPriority(thread, _)
            | Step::SetAffinity(thread, _)
            | Step::Kill(_, thread) => (kernel.threads[self.threads[thread]].state, self.threads[thread]),
            Step::Enter(_) | Step::Park(_) | Step::GiveWay(_) | Step::Rotate(_) | Step::Tick(..) => {
                (State::New, self.threads[0])
            }
        };
        let all = kernel.scheduler.all();
        match step {
            Step::Enter(cpu) => _ = self.enter(cpu),
            Step::Park(cpu) => {
                if let Some(current) = kernel.current(cpu % self.cpus) {
                    kernel.threads[current].state = State::Waiting(Wait::Call);
                    kernel.scheduler.park(cpu % self.cpus);
                }
            }
            Step::Wake(cpu, _) => {
                if let State::Waiting(_) = state {
                    kernel.scheduler.wake(&mut kernel.threads, cpu % self.cpus, id);
                }
            }
            Step::Suspend(cpu, _) => {
                kernel.cpu = cpu % self.cpus;
                let _ = kernel.suspend(id);
            }
            Step::Resume(cpu, _) => {
                kernel.cpu = cpu % self.cpus;
                let _ = kernel.resume(id);
            }
            Step::SetPriority(_, priority) => kernel.scheduler.set_priority(&mut kernel.threads, id, priority),
            Step::SetAffinity(_, processors) if processors & all != 0 => {
                kernel.scheduler.set_affinity(&mut kernel.threads, id, processors);
            }
            Step::SetAffinity(..) => {}
            Step::GiveWay(cpu) => kernel.scheduler.give_way(cpu % self.cpus),
            Step::Rotate(cpu) => {
                kernel.scheduler.rotate(&mut self.m, &mut kernel.threads, cpu % self.cpus);
            }
            Step::Kill(cpu, _) => {
                kernel.cpu = cpu % self.cpus;
                kernel.kill_thread(&mut self.m, id);
            }
            Step::Tick(cpu, time) => {
                self.m.now_ns += time;
                kernel.on_tick(&mut self.m, cpu % self.cpus);
            }
        }
    }

    fn enter(&mut self, cpu: usize) -> Next {
        self.kernel.next_thread(&mut self.m, cpu % self.cpus)
    }

    /// Every processor that was interrupted, or must ask again, enters the kernel, until none is.
    fn settle(&mut self) {
        self.m.interrupted |= self.kernel.scheduler.all();
        for _ in 0..100 {
            let cpu = self.m.interrupted.trailing_zeros() as usize;
            if cpu >= self.cpus {
                return;
            }
            self.m.interrupted &= !(1 << cpu);
            if self.enter(cpu) == Next::Later {
                // After the others.
                self.m.interrupted |= 1 << cpu;
                (0..self.cpus).filter(|other| *other != cpu).for_each(|other| _ = self.enter(other));
            }
        }
        panic!("processors interrupt each other without end");
    }

    /// Nobody who is ready could run instead of somebody less urgent, or of nobody.
    fn check_urgency(&mut self) {
        let kernel = &self.kernel;
        for (id, thread) in kernel.threads.iter().filter(|(_, thread)| thread.state == State::Ready) {
            for cpu in (0..self.cpus).filter(|cpu| thread.may_run_on(*cpu)) {
                let current = kernel.current(cpu).map(|current| kernel.threads[current].priority);
                assert!(current >= Some(thread.priority), "{id:?} should run on {cpu} instead of {current:?}");
            }
        }
        for cpu in 0..self.cpus {
            let Some(current) = kernel.current(cpu) else { continue };
            assert!(kernel.threads[current].may_run_on(cpu), "{current:?} may not run on {cpu}");
            assert_eq!(kernel.threads[current].suspensions, 0, "{current:?} is suspended");
        }
    }
}

proptest! {
    #[test]
    fn no_thread_is_lost_or_runs_twice_and_priorities_and_affinities_hold(
        cpus in 1..=CPUS,
        steps in proptest::collection::vec((step(), any::<bool>()), 1..200),
    ) {
        let mut w = World::new(cpus);
        for (step, settles) in steps {
            w.take(step);
            w.kernel.scheduler.check_invariants(&mut w.kernel.threads);
            if settles {
                w.settle();
                w.kernel.scheduler.check_invariants(&mut w.kernel.threads);
                w.check_urgency();
            }
        }
    }

    #[test]
    fn threads_of_one_priority_share_the_processors_evenly(cpus in 1..=CPUS, count in 1..=THREADS) {
        const SLICES: u64 = 240;
        let mut w = World::new(cpus);
        for thread in w.threads.clone().into_iter().skip(count) {
            w.kernel.kill_thread(&mut w.m, thread);
        }
        w.settle();
        for _ in 0..SLICES {
            w.m.now_ns += SLICE_NS;
            for cpu in 0..cpus {
                w.kernel.on_tick(&mut w.m, cpu);
                w.settle();
            }
        }
        let fair = SLICES * SLICE_NS * cpus.min(count) as u64 / count as u64;
        for thread in &w.threads[..count] {
            let now = w.m.now_ns;
            let Thread { state, cpu, run_time_ns, .. } = &w.kernel.threads[*thread];
            let uncounted = if *state == State::Running { w.kernel.scheduler.uncounted_ns(*cpu, now) } else { 0 };
            let time = run_time_ns + uncounted;
            prop_assert!(time.abs_diff(fair) <= fair / 4, "{time} of {fair} ns");
        }
    }
}
