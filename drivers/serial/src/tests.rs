//! The chip behind the service of all consoles.

extern crate std;

use crate::simulation::SimulatedPorts;
use crate::uart::Uart;
use console::state::DEVICE_AREA;
use console::{Line, State};
use driver_protocol::console::{
    ANYWHERE, MAX_READ_BYTES, MAX_WRITE_BYTES, MAX_WRITES, ReadAnswer, ReadWords, Request, WINDOW_BYTES, WindowSize,
    write_words,
};
use driver_protocol::{ANSWERED, Refusal, Words};
use driver_runtime::simulation::{Answered, Answers, SimulatedClient, SimulatedMemory};
use driver_runtime::{Asked, DeviceError, Next, Service as _};
use std::vec::Vec;

/// As long as the service says.
const LOST_INTERRUPT_NS: u64 = 20_000_000;
const GATHER_NS: u64 = 1_000_000;

type Simulated = Line<Uart<SimulatedPorts>, SimulatedMemory, SimulatedClient>;

struct Bench {
    ports: SimulatedPorts,
    kept: SimulatedMemory,
    now_ns: u64,
    line: Simulated,
    answers: Answers,
    names: u64,
    known: Vec<Answered>,
}

impl Bench {
    fn new() -> Self {
        let (ports, kept) = (SimulatedPorts::default(), SimulatedMemory::new(DEVICE_AREA));
        let line = start(&ports, &kept);
        Self { line, now_ns: 0, ports, kept, answers: Answers::default(), names: 0, known: Vec::new() }
    }

    /// The driver dies, with all that it had been asked for, and another takes its place.
    fn restart(&mut self) {
        self.line = start(&self.ports, &self.kept);
    }

    fn ask(&mut self, label: u64, words: Words, sends: &[u8], room: usize, is_gone: bool) -> u64 {
        self.names += 1;
        let client = match is_gone {
            true => self.answers.dead_client(self.names),
            false => self.answers.client(self.names, sends, room),
        };
        let asked = Asked { label, words, send_bytes: sends.len() as u64, receive_bytes: room as u64 };
        self.line.request(&asked, client);
        self.names
    }

    fn write(&mut self, bytes: &[u8]) -> u64 {
        self.write_at(ANYWHERE, bytes)
    }

    fn write_at(&mut self, position: u64, bytes: &[u8]) -> u64 {
        self.ask(Request::Write.label(), write_words(position), bytes, 0, false)
    }

    fn read(&mut self, room: usize) -> u64 {
        self.read_from(ANYWHERE, room)
    }

    fn read_from(&mut self, position: u64, room: usize) -> u64 {
        let words = ReadWords { position, window: WindowSize::default() };
        self.ask(Request::Read.label(), words.encode(), &[], room, false)
    }

    fn answer(&mut self, name: u64) -> Option<Answered> {
        self.known.extend(self.answers.take());
        self.known.iter().find(|answered| answered.name == name).cloned()
    }

    fn received(&mut self, name: u64) -> Vec<u8> {
        self.answer(name).map(|answered| answered.received).unwrap_or_default()
    }

    fn refusal(&mut self, name: u64) -> Option<Refusal> {
        self.answer(name).and_then(|answered| answered.refusal())
    }

    fn service(&mut self) -> Result<Next, DeviceError> {
        self.line.work(self.now_ns)
    }

    /// Serves, and lets time pass and the wire take what is sent, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let next = self.service().unwrap();
            self.ports.0.send_all();
            match next {
                Next::AtEvent => return,
                Next::Now => {}
                Next::Within(ns) => self.now_ns += ns,
            }
        }
        panic!("the line never comes to rest");
    }
}

fn start(ports: &SimulatedPorts, kept: &SimulatedMemory) -> Simulated {
    let (mut state, beginning) = State::open(kept.clone()).unwrap();
    let uart = Uart::new(ports.clone());
    state.take_back(uart.begin(beginning).unwrap()).unwrap();
    Line::new(uart, state)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

#[test]
fn a_write_leaves_in_order_and_is_answered_with_its_length() {
    let mut bench = Bench::new();
    let bytes = pattern(10_000);
    let (first, second) = (bench.write(&bytes[..9_000]), bench.write(&bytes[9_000..]));
    bench.settle();
    assert_eq!(*bench.ports.0.sent.borrow(), bytes);
    for (name, count) in [(first, 9_000), (second, 1_000)] {
        let answer = bench.answer(name).unwrap();
        assert_eq!((answer.label, answer.words), (ANSWERED, [count, 0, 0, 0, 0, 0, 0, 0]));
    }
    assert_eq!(bench.ports.0.fullest.get(), 16);
}

#[test]
fn sending_costs_few_accesses() {
    let mut bench = Bench::new();
    let before = bench.ports.0.accesses.get();
    bench.write(&pattern(16_000));
    bench.settle();
    let accesses = bench.ports.0.accesses.get() - before;
    assert!(accesses < 16_000 / 16 * 8, "{accesses} accesses");
}

#[test]
fn an_empty_write_is_answered() {
    let mut bench = Bench::new();
    let outcome = bench.write(&[]);
    bench.settle();
    assert_eq!(bench.answer(outcome).unwrap().words, [0; 8]);
}

#[test]
fn a_write_beyond_the_limit_is_cut_there() {
    let mut bench = Bench::new();
    let outcome = bench.write(&pattern(MAX_WRITE_BYTES + 1));
    bench.settle();
    assert_eq!(bench.answer(outcome).unwrap().words[0], MAX_WRITE_BYTES as u64);
    assert_eq!(bench.ports.0.sent.borrow().len(), MAX_WRITE_BYTES);
}

#[test]
fn a_lost_transmitter_interrupt_only_delays() {
    let mut bench = Bench::new();
    let outcome = bench.write(&pattern(40));
    assert_eq!(bench.service().unwrap(), Next::Within(LOST_INTERRUPT_NS));
    bench.ports.0.send_all();
    bench.ports.0.lose_empty_interrupt();
    bench.settle();
    assert_eq!(bench.answer(outcome).unwrap().words[0], 40);
}

#[test]
fn a_client_that_goes_takes_only_its_own_write_with_it() {
    let mut bench = Bench::new();
    let gone = bench.ask(Request::Write.label(), write_words(ANYWHERE), &pattern(100), 0, true);
    let stays = bench.write(b"here");
    bench.settle();
    assert_eq!(bench.refusal(gone), Some(Refusal::BadBuffer));
    assert_eq!(bench.answer(stays).unwrap().label, ANSWERED);
    assert_eq!(*bench.ports.0.sent.borrow(), b"here");
}

#[test]
fn a_read_waits_for_the_first_byte() {
    let mut bench = Bench::new();
    let outcome = bench.read(100);
    bench.settle();
    assert_eq!(bench.answer(outcome), None);
    bench.ports.0.arrive(b'x', 0);
    bench.settle();
    assert_eq!(bench.received(outcome), b"x");
    assert_eq!(ReadAnswer::decode(&bench.answer(outcome).unwrap().words).len_bytes, 1);
}

#[test]
fn bytes_that_nobody_reads_are_kept_in_order_for_the_next_reader() {
    let mut bench = Bench::new();
    for part in pattern(1_000).chunks(16) {
        part.iter().for_each(|byte| bench.ports.0.arrive(*byte, 0));
        bench.settle();
    }
    let mut all = Vec::new();
    while all.len() < 1_000 {
        let outcome = bench.read(300);
        bench.settle();
        all.extend_from_slice(&bench.received(outcome));
    }
    assert_eq!(all, pattern(1_000));
}

#[test]
fn a_reader_that_is_gone_loses_nothing_for_the_next() {
    let mut bench = Bench::new();
    let gone = bench.ask(Request::Read.label(), ReadWords::ANYWHERE.encode(), &[], 10, true);
    bench.ports.0.arrive(b'x', 0);
    bench.settle();
    assert_eq!(bench.refusal(gone), Some(Refusal::BadBuffer));
    let next = bench.read(10);
    bench.settle();
    assert_eq!(bench.received(next), b"x");
}

#[test]
fn overruns_and_garbled_bytes_are_counted_and_not_delivered() {
    let mut bench = Bench::new();
    (0..20).for_each(|byte| bench.ports.0.arrive(byte, 0));
    bench.settle();
    bench.ports.0.arrive(b'?', 0x08);
    bench.ports.0.arrive(0, 0x10);
    bench.ports.0.arrive(b'!', 0);
    let outcome = bench.read(100);
    bench.settle();
    let mut expected: Vec<u8> = (0..16).collect();
    expected.push(b'!');
    assert_eq!(bench.received(outcome), expected);
    let answer = ReadAnswer::decode(&bench.answer(outcome).unwrap().words);
    assert_eq!((answer.len_bytes, answer.lost_bytes), (17, 3));
}

#[test]
fn the_window_is_limited_and_what_does_not_fit_is_counted() {
    let mut bench = Bench::new();
    for _ in 0..WINDOW_BYTES / 16 + 1 {
        (0..16).for_each(|byte| bench.ports.0.arrive(byte, 0));
        bench.settle();
    }
    let outcome = bench.read(MAX_READ_BYTES * 2);
    bench.settle();
    let answer = ReadAnswer::decode(&bench.answer(outcome).unwrap().words);
    assert_eq!((answer.len_bytes, answer.lost_bytes), (MAX_READ_BYTES as u64, 16));
}

#[test]
fn too_many_requests_and_senseless_ones_are_refused() {
    let mut bench = Bench::new();
    let (first, second, empty) = (bench.read(1), bench.read(1), bench.read(0));
    assert_eq!((bench.answer(first), bench.refusal(second)), (None, Some(Refusal::Busy)));
    assert_eq!(bench.refusal(empty), Some(Refusal::BadBuffer));
    let writes: Vec<_> = (0..MAX_WRITES + 1).map(|_| bench.write(b"x")).collect();
    assert_eq!(bench.refusal(writes[MAX_WRITES]), Some(Refusal::Busy));
    assert_eq!(bench.answer(writes[MAX_WRITES - 1]), None);
    let unknown = bench.ask(77, [u64::MAX; 8], &[], usize::MAX, false);
    assert_eq!(bench.refusal(unknown), Some(Refusal::Unknown));
}

/// A client that does what a terminal does: writes again, and reads on, when the driver dies, which it does at every turn.
#[test]
fn nothing_is_lost_or_doubled_however_often_the_driver_dies() {
    let mut bench = Bench::new();
    let bytes = pattern(3_000);
    let (mut written, mut read, mut typed) = (0, Vec::new(), 0);
    let mut asked = (None, None);
    for turn in 0..20_000 {
        if turn % 7 == 3 {
            bench.restart();
            asked = (None, None);
        }
        if typed < bytes.len() && turn % 2 == 0 {
            bench.ports.0.arrive(bytes[typed], 0);
            typed += 1;
        }
        let write =
            *asked.0.get_or_insert_with(|| bench.write_at(written as u64, &bytes[written..(written + 500).min(3_000)]));
        let reader = *asked.1.get_or_insert_with(|| bench.read_from(read.len() as u64, 10));
        bench.service().unwrap();
        bench.now_ns += 100_000;
        if turn % 3 == 0 {
            bench.ports.0.send_all();
        }
        // What was answered when the driver died, the client does not always hear.
        if turn % 5 != 0 {
            if let Some(answer) = bench.answer(write) {
                written += answer.words[0] as usize;
                asked.0 = None;
            }
            if let Some(answer) = bench.answer(reader) {
                read.extend(answer.received);
                asked.1 = None;
            }
        }
    }
    assert_eq!((written, read.len()), (bytes.len(), bytes.len()));
    assert!(*bench.ports.0.sent.borrow() == bytes && read == bytes);
}

/// A driver notes what it is about to send, and dies before it does; or just after.
#[test]
fn what_was_noted_and_not_sent_is_sent_by_the_successor() {
    let bytes = pattern(100);
    let mut bench = Bench::new();
    for turn in 0..8 {
        bench.write_at(0, &bytes);
        bench.ports.0.is_out_of_reach.set(turn % 2 == 0);
        assert_eq!(bench.service().is_err(), turn % 2 == 0);
        bench.ports.0.is_out_of_reach.set(false);
        bench.ports.0.send_all();
        bench.restart();
    }
    let last = bench.write_at(0, &bytes);
    bench.settle();
    assert_eq!(*bench.ports.0.sent.borrow(), bytes);
    assert_eq!(bench.answer(last).unwrap().words[0], 100);
}

#[test]
fn a_drain_is_answered_after_the_writes_before_it() {
    let mut bench = Bench::new();
    bench.write(&pattern(20));
    let drain = bench.ask(Request::Drain.label(), [0; 8], &[], 0, false);
    bench.service().unwrap();
    assert_eq!(bench.answer(drain), None);
    bench.settle();
    assert_eq!(bench.answer(drain).unwrap().words, [0; 8]);
    assert_eq!(bench.ports.0.sent.borrow().len(), 20);
}

#[test]
fn a_device_that_vanishes_is_an_error_and_not_an_endless_loop() {
    let mut bench = Bench::new();
    bench.write(&pattern(100));
    bench.ports.0.is_gone.set(true);
    assert_eq!(bench.service(), Err(DeviceError));
}

#[test]
fn what_somebody_types_is_delivered_at_once_and_a_stream_in_larger_pieces() {
    let mut bench = Bench::new();
    let typed = bench.read(2_000);
    bench.ports.0.arrive(b'x', 0);
    bench.service().unwrap();
    assert_eq!(bench.received(typed), b"x");
    let streamed = bench.read(2_000);
    for part in pattern(140).chunks(14) {
        part.iter().for_each(|byte| bench.ports.0.arrive(*byte, 0));
        assert!(matches!(bench.service().unwrap(), Next::Within(ns) if ns <= GATHER_NS));
        bench.now_ns += 1_000;
        assert_eq!(bench.answer(streamed), None);
    }
    bench.now_ns = GATHER_NS;
    bench.service().unwrap();
    assert_eq!(bench.received(streamed), pattern(140));
}
