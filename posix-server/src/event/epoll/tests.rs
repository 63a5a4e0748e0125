//! The ready list against a model, and what is left when things go.

extern crate std;
use super::*;
use crate::event::counter::{EventCounter, Taking};
use crate::file::io::{SliceDestination, SliceSource};
use crate::fs::Inode;
use crate::process::tests::{World, world};
use linux_raw_sys::general as linux;
use proptest::prelude::*;
use std::vec;

fn open(ops: Rc<dyn FileOps>) -> Rc<OpenFile> {
    OpenFile::new(ops, Inode::anonymous_for_tests(), None, linux::O_RDWR).unwrap()
}

fn counter() -> Rc<OpenFile> {
    open(Rc::new(EventCounter::new(0, Taking::All)))
}

fn bump(file: &OpenFile) {
    file.ops().write(0, &mut SliceSource::new(&1u64.to_le_bytes())).unwrap();
}

fn drain(file: &OpenFile) {
    let _ = file.ops().read(0, &mut SliceDestination::new(&mut [0; 8]));
}

fn event(events: u32, data: u64) -> Event {
    Event { events, data }
}

struct Bench {
    thread: Rc<Thread>,
    _world: World,
}

impl Bench {
    fn new() -> Self {
        let world = world();
        Self { thread: world.thread(1), _world: world }
    }

    /// The numbers of what is ready.
    fn wait(&self, epoll: &Rc<Epoll>, max: usize) -> Vec<u64> {
        let mut ready = Vec::new();
        let taken = epoll.report(&self.thread, max, |events| {
            ready.extend(events.iter().map(|event| event.data));
            events.len()
        });
        assert_eq!(taken, Ok(ready.len()));
        ready
    }
}

#[test]
fn what_cannot_be_written_stays_in_its_place() {
    let bench = Bench::new();
    let (epoll, files) = (Epoll::new(), [(); 3].map(|()| counter()));
    for (number, file) in files.iter().enumerate() {
        epoll.add(&bench.thread, number as i32, file, event(linux::EPOLLIN | linux::EPOLLET, number as u64)).unwrap();
        bump(file);
    }
    assert_eq!(epoll.report(&bench.thread, 3, |_| 0), Err(Errno::EFAULT));
    assert_eq!(epoll.report(&bench.thread, 3, |_| 1), Ok(1));
    assert_eq!(bench.wait(&epoll, 3), [1, 2]);
    assert_eq!(bench.wait(&epoll, 3), []);
}

#[test]
fn nothing_is_left_of_what_is_closed() {
    let bench = Bench::new();
    let (epoll, file) = (Epoll::new(), counter());
    let queue = file.ops().wait_queue().unwrap().clone();
    epoll.add(&bench.thread, 3, &file, event(linux::EPOLLIN, 1)).unwrap();
    bump(&file);
    assert_eq!((queue.waiters(), epoll.watched().len()), (1, 1));
    drop(file);
    assert_eq!((queue.waiters(), epoll.watched().len(), bench.wait(&epoll, 9)), (0, 0, vec![]));
    let file = counter();
    epoll.add(&bench.thread, 3, &file, event(linux::EPOLLIN, 1)).unwrap();
    drop(epoll);
    assert_eq!(file.ops().wait_queue().unwrap().waiters(), 0);
    assert_eq!(Rc::weak_count(&file), 0);
}

#[test]
fn instances_nest_but_not_deep_and_never_in_a_circle() {
    let bench = Bench::new();
    let instances: Vec<_> = (0..7).map(|_| Epoll::new()).collect();
    let files: Vec<_> = instances.iter().map(|epoll| open(Rc::new(EpollFile(epoll.clone())))).collect();
    let link = |outer: usize, inner: usize| {
        instances[outer].add(&bench.thread, inner as i32, &files[inner], event(linux::EPOLLIN, inner as u64))
    };
    for (outer, inner) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
        assert_eq!(link(outer, inner), Ok(()));
        assert_eq!(link(inner, outer), Err(Errno::ELOOP));
    }
    assert_eq!((link(4, 5), link(5, 0)), (Err(Errno::ELOOP), Err(Errno::ELOOP)), "too deep");
    let file = counter();
    instances[4].add(&bench.thread, 50, &file, event(linux::EPOLLIN, 50)).unwrap();
    bump(&file);
    assert_eq!((bench.wait(&instances[0], 9), bench.wait(&instances[4], 9)), (vec![1], vec![50]));
    drain(&file);
    assert_eq!(bench.wait(&instances[0], 9), []);
    instances[1].delete(2, &files[2]).unwrap();
    assert_eq!((link(5, 0), link(4, 1)), (Ok(()), Ok(())), "the chain is shorter now");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Bump(usize),
    Drain(usize),
    Modify(usize, u32),
    Wait(usize),
}

const FILES: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        Just(linux::EPOLLIN),
        Just(linux::EPOLLIN | linux::EPOLLET),
        Just(linux::EPOLLIN | linux::EPOLLONESHOT),
        Just(0),
    ];
    prop_oneof![
        3 => (0..FILES).prop_map(Step::Bump),
        2 => (0..FILES).prop_map(Step::Drain),
        1 => (0..FILES, flags).prop_map(|(file, flags)| Step::Modify(file, flags)),
        3 => (1..=FILES).prop_map(Step::Wait),
    ]
}

/// What an instance ought to know of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    count: u64,
    flags: u32,
    /// Something happened since it was last reported or looked at in vain.
    is_news: bool,
}

impl Model {
    fn is_ready(self) -> bool {
        let wants = self.flags & linux::EPOLLIN != 0 && self.count > 0;
        let is_level = self.flags & linux::EPOLLET == 0;
        wants && (is_level || self.is_news)
    }

    fn report(&mut self) {
        self.is_news = false;
        if self.flags & linux::EPOLLONESHOT != 0 {
            self.flags = linux::EPOLLONESHOT;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_ready_list_behaves_like_a_look_at_everything(steps in proptest::collection::vec(step(), 1..60)) {
        let bench = Bench::new();
        let epoll = Epoll::new();
        let files: Vec<_> = (0..FILES).map(|_| counter()).collect();
        let mut models = [Model { flags: linux::EPOLLIN, ..Model::default() }; FILES];
        for (number, file) in files.iter().enumerate() {
            epoll.add(&bench.thread, number as i32, file, event(linux::EPOLLIN, number as u64)).unwrap();
        }
        for step in steps {
            match step {
                Step::Bump(file) => {
                    bump(&files[file]);
                    models[file].count += 1;
                    models[file].is_news |= models[file].flags & linux::EPOLLIN != 0;
                }
                Step::Drain(file) => {
                    drain(&files[file]);
                    models[file].count = 0;
                }
                Step::Modify(file, flags) => {
                    epoll.modify(&bench.thread, file as i32, &files[file], event(flags, file as u64)).unwrap();
                    models[file].flags = flags;
                    models[file].is_news |= models[file].count > 0;
                }
                Step::Wait(max) => {
                    let expected: Vec<u64> = (0..FILES).filter(|file| models[*file].is_ready()).map(|file| file as u64).collect();
                    let found = bench.wait(&epoll, max);
                    prop_assert_eq!(found.len(), expected.len().min(max));
                    prop_assert!(found.iter().all(|file| expected.contains(file)), "{:?} of {:?}", found, expected);
                    for file in found {
                        models[file as usize].report();
                    }
                }
            }
        }
    }
}
