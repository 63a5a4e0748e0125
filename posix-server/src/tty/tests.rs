//! Terminals without a server: what their ends see of each other.

use super::settings::Settings;
use super::*;
use crate::errno::Errno;
use crate::file::io::{SliceDestination, SliceSource};
use crate::file::{FileOps, PollEvents};
use crate::fs::DeviceNumber;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;
use terminal::MAX_OUTPUT_BYTES;

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Group(Pid, Signal),
    HungUp(Pid, Pid),
    Released(Pid),
}

#[derive(Default)]
struct Recorder(RefCell<Vec<Told>>);

impl JobControl for Recorder {
    fn signal_group(&self, group: Pid, signal: Signal) {
        self.0.borrow_mut().push(Told::Group(group, signal));
    }

    fn hang_up_session(&self, session: Pid, foreground: Pid) {
        self.0.borrow_mut().push(Told::HungUp(session, foreground));
    }

    fn release_session(&self, session: Pid) {
        self.0.borrow_mut().push(Told::Released(session));
    }
}

fn terminal() -> (Rc<Terminal>, Rc<Recorder>) {
    let recorder = Rc::new(Recorder::default());
    (Terminal::new(Kind::Serial, DeviceNumber::default(), recorder.clone()), recorder)
}

fn pty() -> (Rc<Terminal>, Rc<Recorder>) {
    let recorder = Rc::new(Recorder::default());
    let slave = pty::new_slave(0, recorder.clone());
    slave.set_locked(false);
    (slave, recorder)
}

#[test]
fn the_interrupt_key_signals_the_foreground_group() {
    let (terminal, recorder) = terminal();
    terminal.receive(b"\x03");
    assert!(recorder.0.borrow().is_empty(), "nobody is in the foreground");
    terminal.set_session(5, 7);
    terminal.receive(b"\x03");
    assert_eq!(*recorder.0.borrow(), [Told::Group(7, Signal::INT)]);
    assert_eq!(terminal.take_output(100), b"^C");
}

#[test]
fn a_reader_gets_a_line_and_is_woken_for_it() {
    let (terminal, _) = terminal();
    let file = TerminalFile::open(&terminal).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Err(Errno::EAGAIN));
    let listener = file.wait_queue().unwrap().listen();
    terminal.receive(b"hi\r");
    assert!(listener.is_notified() && file.readiness().contains(PollEvents::IN));
    assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Ok(3));
    assert_eq!(&buffer[..3], b"hi\n");
}

#[test]
fn writers_wait_when_the_device_is_slow() {
    let (terminal, _) = terminal();
    let file = TerminalFile::open(&terminal).unwrap();
    let bytes = [b'x'; 3 * MAX_OUTPUT_BYTES];
    let written = file.write(0, &mut SliceSource::new(&bytes)).unwrap();
    assert!((MAX_OUTPUT_BYTES..bytes.len()).contains(&written));
    assert_eq!(file.write(0, &mut SliceSource::new(&bytes)), Err(Errno::EAGAIN));
    assert!(!file.readiness().contains(PollEvents::OUT));
    terminal.take_output(2 * MAX_OUTPUT_BYTES);
    assert!(file.readiness().contains(PollEvents::OUT) && !terminal.is_drained());
    terminal.sent();
    assert!(terminal.is_drained());
}

#[test]
fn a_hang_up_ends_reading_and_breaks_writing_for_files_that_are_open() {
    let (terminal, recorder) = terminal();
    let file = TerminalFile::open(&terminal).unwrap();
    terminal.set_session(5, 7);
    terminal.hang_up();
    assert_eq!(file.read(0, &mut SliceDestination::new(&mut [0; 4])), Ok(0));
    assert_eq!(file.write(0, &mut SliceSource::new(b"x")), Err(Errno::EIO));
    assert_eq!(recorder.0.borrow().first(), Some(&Told::HungUp(5, 7)));
    let again = TerminalFile::open(&terminal).unwrap();
    assert_eq!(again.write(0, &mut SliceSource::new(b"x")), Ok(1));
    terminal.end();
    assert_eq!(TerminalFile::open(&terminal).err(), Some(Errno::EIO));
}

#[test]
fn stopped_output_waits() {
    let (terminal, _) = terminal();
    let file = TerminalFile::open(&terminal).unwrap();
    terminal.receive(b"\x13");
    file.write(0, &mut SliceSource::new(b"abc")).unwrap();
    assert!(terminal.take_output(10).is_empty());
    terminal.receive(b"\x11");
    assert_eq!(terminal.take_output(10), b"abc");
}

#[test]
fn a_master_reads_what_was_written_before_output_stopped() {
    let (slave, _) = pty();
    let file = TerminalFile::open(&slave).unwrap();
    file.write(0, &mut SliceSource::new(b"abc")).unwrap();
    slave.receive(b"1\x132");
    assert_eq!(file.write(0, &mut SliceSource::new(b"x")), Err(Errno::EAGAIN));
    assert_eq!(slave.take_output(10), b"abc1");
    assert!(slave.take_output(10).is_empty());
    slave.receive(b"\x11");
    assert_eq!(slave.take_output(10), b"2");
}

#[test]
fn a_locked_slave_cannot_be_opened() {
    let (slave, _) = pty();
    slave.set_locked(true);
    assert_eq!(TerminalFile::open(&slave).err(), Some(Errno::EIO));
}

#[test]
fn the_last_closing_of_a_slave_frees_its_session() {
    let (slave, recorder) = pty();
    let (one, two) = (TerminalFile::open(&slave).unwrap(), TerminalFile::open(&slave).unwrap());
    slave.set_session(5, 7);
    drop(one);
    assert!(!slave.is_abandoned());
    drop(two);
    assert!(slave.is_abandoned() && slave.session() == 0);
    assert_eq!(*recorder.0.borrow(), [Told::Released(5)]);
    let _again = TerminalFile::open(&slave).unwrap();
    assert!(!slave.is_abandoned());
}

#[test]
fn packet_mode_tells_of_stopping_and_flushing() {
    let (slave, _) = pty();
    let _file = TerminalFile::open(&slave).unwrap();
    slave.packet().switch(true);
    slave.receive(b"\x13");
    assert_eq!(slave.packet().take_status(), Some(linux::TIOCPKT_STOP as u8));
    slave.receive(b"\x03");
    let expected = linux::TIOCPKT_START | linux::TIOCPKT_FLUSHREAD | linux::TIOCPKT_FLUSHWRITE;
    assert_eq!(slave.packet().take_status(), Some(expected as u8));
    slave.set_settings(Settings { input: 0, ..Settings::new() });
    assert_eq!(slave.packet().take_status(), Some(linux::TIOCPKT_NOSTOP as u8));
}
