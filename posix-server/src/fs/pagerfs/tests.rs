//! The store and a simulated server, which hears or does not, dies and has a successor.

extern crate std;

use super::*;
use crate::fs::paged::PageSource;
use crate::platform::{self, Account, Executor, LocalFuture, PAGE_SIZE};
use crate::wait::WaitQueue;
use core::cell::{Cell, RefCell};
use driver_protocol::pages::{Request, Setting};
use std::vec::Vec;

#[derive(Default)]
pub(crate) struct SimulatedServer {
    heard: RefCell<Vec<Request>>,
    /// How many have lived before.
    deaths: Rc<Cell<u64>>,
    died: WaitQueue,
    /// It takes requests and does not answer.
    is_deaf: Cell<bool>,
}

impl SimulatedServer {
    fn die(&self) {
        self.deaths.set(self.deaths.get() + 1);
        self.died.wake();
    }

    fn news(&self) -> Vec<Request> {
        self.heard.take()
    }
}

impl PageServer for SimulatedServer {
    fn call(&self, request: Request, _enclosed: Enclosed<'_>) -> LocalFuture<Result<()>> {
        let waits = self.is_deaf.get() || request == Request::Attach;
        if !self.is_deaf.get() {
            self.heard.borrow_mut().push(request);
        }
        let (deaths, died, before) = (self.deaths.clone(), self.died.clone(), self.deaths.get());
        Box::pin(async move {
            while waits && deaths.get() == before {
                let listener = died.listen();
                listener.await;
            }
            if waits { Err(Errno::ESRCH) } else { Ok(()) }
        })
    }
}

/// A store, its server, and what runs both.
pub(crate) struct Simulation {
    pub(crate) executor: Executor,
    pub(crate) server: Rc<SimulatedServer>,
    pub(crate) store: Rc<Store>,
}

impl Simulation {
    pub(crate) fn new(executor: &Executor) -> Self {
        let server = Rc::new(SimulatedServer::default());
        let store = Store::new(executor, server.clone(), Account).unwrap();
        let simulation = Self { executor: executor.clone(), server, store };
        simulation.run();
        simulation
    }

    fn run(&self) {
        self.executor.run_ready(platform::now_ns());
    }

    fn pass(&self, ns: u64) {
        platform::advance_ns(ns);
        self.run();
    }

    /// The server dies, and another, which hears, takes its place.
    fn replace_server(&self) {
        self.server.is_deaf.set(false);
        self.server.die();
        self.run();
        self.pass(10_000_000);
    }

    /// A file with a page.
    fn file(&self) -> PagedFile {
        let file = PagedFile::new(&self.store).unwrap();
        file.make_memory(PAGE_SIZE).unwrap();
        self.run();
        file
    }
}

fn simulation() -> Simulation {
    let simulation = Simulation::new(&Executor::new());
    assert_eq!(simulation.server.news(), [Request::Attach]);
    simulation
}

#[test]
fn a_file_is_served_when_it_is_first_used() {
    let simulation = simulation();
    let file = PagedFile::new(&simulation.store).unwrap();
    simulation.run();
    assert_eq!(simulation.server.news(), []);
    file.make_memory(PAGE_SIZE).unwrap();
    simulation.run();
    assert_eq!(simulation.server.news(), [Request::Serve { number: 1 }]);
}

#[test]
fn a_successor_hears_of_what_was_cut_before_it_serves() {
    let simulation = simulation();
    let (one, _two) = (simulation.file(), simulation.file());
    simulation.server.is_deaf.set(true);
    simulation.server.news();
    one.cut(10);
    simulation.run();
    one.cut(3 * PAGE_SIZE);
    simulation.replace_server();
    let expected = [
        Request::Attach,
        Request::Truncate { number: 1, len_bytes: PAGE_SIZE },
        Request::Serve { number: 1 },
        Request::Serve { number: 2 },
    ];
    assert_eq!(simulation.server.news(), expected);
}

#[test]
fn a_server_that_dies_idle_is_noticed() {
    let simulation = simulation();
    let _file = simulation.file();
    simulation.server.news();
    simulation.replace_server();
    assert_eq!(simulation.server.news(), [Request::Attach, Request::Serve { number: 1 }]);
}

#[test]
fn orders_do_not_pile_up() {
    let simulation = simulation();
    let file = simulation.file();
    simulation.server.is_deaf.set(true);
    for size in (1..1000).rev() {
        file.cut(size * PAGE_SIZE);
    }
    simulation.run();
    (1000..2000).for_each(|size| file.cut(size * PAGE_SIZE));
    simulation.server.news();
    simulation.replace_server();
    let cuts = simulation.server.news().into_iter().filter(|request| matches!(request, Request::Truncate { .. }));
    assert_eq!(cuts.collect::<Vec<_>>(), [Request::Truncate { number: 1, len_bytes: PAGE_SIZE }]);
}

#[test]
fn whoever_waits_for_the_server_gives_up_at_its_deadline() {
    let simulation = simulation();
    let file = simulation.file();
    simulation.server.is_deaf.set(true);
    file.cut(0);
    let result = Rc::new(Cell::new(None));
    let (store, cell) = (simulation.store.clone(), result.clone());
    simulation.executor.spawn(async move { cell.set(Some(store.settled().await)) });
    simulation.run();
    assert_eq!(result.get(), None);
    simulation.pass(simulation.store.deadline_ns());
    assert_eq!(result.get(), Some(Err(Errno::EIO)));
}

#[test]
fn a_number_is_free_when_the_server_has_heard_that_the_file_is_gone() {
    let simulation = simulation();
    let file = simulation.file();
    simulation.server.is_deaf.set(true);
    drop(file);
    simulation.run();
    let second = simulation.file();
    simulation.server.news();
    simulation.replace_server();
    let expected = [Request::Attach, Request::Remove { number: 1 }, Request::Serve { number: 2 }];
    assert_eq!(simulation.server.news(), expected);
    drop(second);
    simulation.run();
    simulation.server.news();
    let _third = simulation.file();
    assert_eq!(simulation.server.news(), [Request::Serve { number: 1 }]);
}

#[test]
fn settings_are_kept_and_the_server_looks() {
    let simulation = simulation();
    simulation.store.set(Setting::DelayMs, 7);
    assert_eq!(simulation.store.setting(Setting::DelayMs), 7);
    simulation.run();
    assert_eq!(simulation.server.news(), [Request::Look]);
}

#[test]
fn the_root_lists_its_control_directory_first_and_all_names_once() {
    let simulation = simulation();
    let (_, root) = over(&simulation.store);
    let directory = root.inode().directory().unwrap();
    for name in [&b"a"[..], b"b"] {
        let inode = Inode::new(root.inode().filesystem(), 0o600, 0, 0, Body::Socket).unwrap();
        directory.names().unwrap().insert(Dentry::new(&root, name, inode));
    }
    let mut names = Vec::new();
    let mut from = FIRST_ENTRY;
    loop {
        let before = names.len();
        directory
            .list(from, &mut |entry| {
                names.push(entry.name.to_vec());
                from = entry.next;
                Listing::Stop
            })
            .unwrap();
        if names.len() == before || names.len() > 9 {
            break;
        }
    }
    assert_eq!(names, [&b".control"[..], b"a", b"b"]);
}
