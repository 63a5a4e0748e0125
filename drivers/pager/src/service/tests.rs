//! The service over simulated files: a disk and a kernel's side that note what was done.

extern crate std;

use super::*;
use alloc::rc::Rc;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Attended(Attendance),
    Supplied(u64, u64),
    Read(u64, u64),
    Stored(u64, u64),
    Written(u64, u64),
    Failed(u64, u64),
}

#[derive(Clone, Default)]
struct SimulatedFile {
    done: Rc<RefCell<Vec<Done>>>,
    is_full: Rc<Cell<bool>>,
}

impl SimulatedFile {
    fn note(&self, done: Done) {
        self.done.borrow_mut().push(done);
    }

    /// What was done since the last time.
    fn news(&self) -> Vec<Done> {
        self.done.take()
    }
}

impl File for SimulatedFile {
    fn attend(&mut self, attendance: Attendance) {
        self.note(Done::Attended(attendance));
    }

    fn fill(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        self.note(Done::Supplied(offset, len_bytes));
        Ok(())
    }

    fn read(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        self.note(Done::Read(offset, len_bytes));
        Ok(())
    }

    fn store(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        if self.is_full.get() {
            return Err(Failed);
        }
        self.note(Done::Stored(offset, len_bytes));
        Ok(())
    }

    fn written(&self, offset: u64, len_bytes: u64) {
        self.note(Done::Written(offset, len_bytes));
    }

    fn fail(&self, offset: u64, len_bytes: u64) {
        self.note(Done::Failed(offset, len_bytes));
    }
}

#[derive(Clone, Default)]
struct SimulatedSettings(Rc<RefCell<BTreeMap<u64, u64>>>);

impl Settings for SimulatedSettings {
    fn get(&self, setting: Setting) -> u64 {
        self.0.borrow().get(&setting.offset_bytes()).copied().unwrap_or(0)
    }

    fn set(&self, setting: Setting, value: u64) {
        self.0.borrow_mut().insert(setting.offset_bytes(), value);
    }
}

type Simulated = Service<SimulatedFile, SimulatedSettings>;

/// A service that serves file 1.
fn service() -> (Simulated, SimulatedFile, SimulatedSettings) {
    let settings = SimulatedSettings::default();
    let file = SimulatedFile::default();
    (successor(&file, &settings), file, settings)
}

/// What takes its place when it has died.
fn successor(file: &SimulatedFile, settings: &SimulatedSettings) -> Simulated {
    let mut service = Service::new(7);
    service.attach(settings.clone());
    service.serve(1, file.clone());
    file.news();
    service
}

const FILL: Job = Job { number: 1, kind: Kind::Fill { ahead_bytes: 0 }, offset: 8192, len_bytes: 16384 };
const WRITEBACK: Job = Job { kind: Kind::Writeback, ..FILL };

#[test]
fn what_is_asked_for_is_done_and_counted() {
    let (mut service, file, settings) = service();
    service.request(0, FILL);
    service.request(0, WRITEBACK);
    assert_eq!(service.work(0), Next::AtEvent);
    assert_eq!(file.news(), [Done::Supplied(8192, 16384), Done::Stored(8192, 16384), Done::Written(8192, 16384)]);
    assert_eq!((settings.get(Setting::Fills), settings.get(Setting::WrittenBytes)), (1, 16384));
}

#[test]
fn what_is_likely_to_be_needed_is_supplied_too() {
    let (mut service, file, _) = service();
    service.request(0, Job { kind: Kind::Fill { ahead_bytes: 4096 }, ..FILL });
    service.work(0);
    assert_eq!(file.news(), [Done::Supplied(8192, 16384), Done::Supplied(24576, 4096)]);
}

#[test]
fn a_slow_store_does_nothing_before_its_time() {
    let (mut service, file, settings) = service();
    settings.set(Setting::DelayMs, 3);
    service.request(NS_PER_MS, FILL);
    assert_eq!(service.work(NS_PER_MS), Next::At(4 * NS_PER_MS));
    assert_eq!(file.news(), []);
    assert_eq!(service.work(4 * NS_PER_MS), Next::AtEvent);
    assert_eq!(file.news(), [Done::Supplied(8192, 16384)]);
}

#[test]
fn a_store_that_hangs_goes_on_when_it_may() {
    let (mut service, file, settings) = service();
    settings.set(Setting::Hang, 1);
    service.request(0, FILL);
    assert_eq!(service.work(u64::MAX), Next::AtEvent);
    assert_eq!(file.news(), []);
    settings.set(Setting::Hang, 0);
    service.work(u64::MAX);
    assert_eq!(file.news(), [Done::Supplied(8192, 16384)]);
}

#[test]
fn the_next_so_many_fail_and_then_no_more() {
    let (mut service, file, settings) = service();
    settings.set(Setting::FailFills, 1);
    settings.set(Setting::FailWritebacks, 1);
    for job in [FILL, WRITEBACK, FILL] {
        service.request(0, job);
    }
    service.work(0);
    assert_eq!(file.news(), [Done::Failed(8192, 16384), Done::Failed(8192, 16384), Done::Supplied(8192, 16384)]);
    assert_eq!(settings.get(Setting::Failures), 2);
}

#[test]
fn as_many_fail_as_are_told_to() {
    for (rate, expected) in [(0, 0..1), (500, 400..600), (1000, 1000..1001)] {
        let (mut service, file, settings) = service();
        settings.set(Setting::FillFailures, rate);
        (0..1000).for_each(|_| service.request(0, FILL));
        service.work(0);
        let failed = file.news().iter().filter(|done| matches!(done, Done::Failed(..))).count();
        assert!(expected.contains(&failed), "{failed} at {rate}");
    }
}

#[test]
fn a_full_disk_fails_the_writeback() {
    let (mut service, file, _) = service();
    file.is_full.set(true);
    service.request(0, WRITEBACK);
    service.work(0);
    assert_eq!(file.news(), [Done::Failed(8192, 16384)]);
}

#[test]
fn it_dies_at_the_moment_it_is_told_to_and_its_successor_does_not() {
    let half = 8192;
    let cases: [(Death, Job, Vec<Done>); 6] = [
        (Death::BeforeFill, FILL, Vec::new()),
        (Death::DuringFill, FILL, Vec::from([Done::Supplied(8192, half), Done::Read(8192 + half, half)])),
        (Death::AfterFill, FILL, Vec::from([Done::Supplied(8192, 16384)])),
        (Death::BeforeWriteback, WRITEBACK, Vec::new()),
        (Death::DuringWriteback, WRITEBACK, Vec::from([Done::Stored(8192, half)])),
        (Death::AfterWriteback, WRITEBACK, Vec::from([Done::Stored(8192, 16384), Done::Written(8192, 16384)])),
    ];
    for (death, job, expected) in cases {
        let (mut service, file, settings) = service();
        settings.set(Setting::Die, death as u64);
        service.request(0, job);
        assert_eq!(service.work(0), Next::Dead, "{death:?}");
        assert_eq!(file.news(), expected, "{death:?}");
        let mut next = successor(&file, &settings);
        next.request(0, job);
        assert_eq!(next.work(0), Next::AtEvent, "{death:?}");
    }
}

#[test]
fn death_lets_pass_what_it_is_told_to() {
    let (mut service, file, settings) = service();
    settings.set(Setting::Die, Death::BeforeFill as u64);
    settings.set(Setting::DieAfter, 2);
    (0..3).for_each(|_| service.request(0, FILL));
    assert_eq!(service.work(0), Next::Dead);
    assert_eq!(file.news().len(), 2);
}

#[test]
fn death_comes_at_once_also_to_one_that_hangs() {
    let (mut service, _, settings) = service();
    settings.set(Setting::Hang, 1);
    settings.set(Setting::Die, Death::Now as u64);
    assert_eq!(service.work(0), Next::Dead);
    assert_eq!(settings.get(Setting::Die), 0);
}

#[test]
fn an_absent_store_attends_to_nothing_and_comes_back() {
    let (mut service, file, settings) = service();
    service.request(0, FILL);
    settings.set(Setting::Absent, 1);
    service.look();
    service.work(0);
    assert_eq!(file.news(), [Done::Attended(Attendance::Absent)]);
    settings.set(Setting::Absent, 0);
    service.look();
    assert_eq!(file.news(), [Done::Attended(Attendance::Present)]);
}

#[test]
fn requests_of_a_file_that_is_gone_are_forgotten() {
    let (mut service, file, _) = service();
    service.request(0, FILL);
    service.forget(1);
    assert_eq!(service.work(0), Next::AtEvent);
    assert_eq!(file.news(), []);
}
