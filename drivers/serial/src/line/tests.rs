extern crate std;

use super::*;
use crate::simulation::SimulatedPorts;
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;

/// What a client was told.
#[derive(Default)]
struct Outcome {
    answer: Option<(u64, Words)>,
    received: Vec<u8>,
}

struct TestClient {
    sends: Vec<u8>,
    is_gone: bool,
    outcome: Rc<RefCell<Outcome>>,
}

impl Client for TestClient {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ClientError> {
        if self.is_gone {
            return Err(ClientError);
        }
        let rest = &self.sends[offset as usize..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, ClientError> {
        if self.is_gone {
            return Err(ClientError);
        }
        self.outcome.borrow_mut().received.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn answer(self, label: u64, words: Words) {
        self.outcome.borrow_mut().answer = Some((label, words));
    }
}

struct Bench {
    ports: SimulatedPorts,
    now_ns: u64,
    line: Line<SimulatedPorts, TestClient>,
}

impl Bench {
    fn new() -> Self {
        let ports = SimulatedPorts::default();
        Self { line: Line::start(Uart::new(ports.clone())).unwrap(), now_ns: 0, ports }
    }

    fn ask(&mut self, request: Request, sends: Vec<u8>, room: u64, is_gone: bool) -> Rc<RefCell<Outcome>> {
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        let (len, client) = (sends.len() as u64, TestClient { sends, is_gone, outcome: Rc::clone(&outcome) });
        self.line.request(request.label(), len, room, client);
        outcome
    }

    fn write(&mut self, bytes: &[u8]) -> Rc<RefCell<Outcome>> {
        self.ask(Request::Write, bytes.to_vec(), 0, false)
    }

    fn read(&mut self, room: u64) -> Rc<RefCell<Outcome>> {
        self.ask(Request::Read, Vec::new(), room, false)
    }

    fn service(&mut self) -> Result<Next, DeviceError> {
        self.line.service(self.now_ns)
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
    assert_eq!(first.borrow().answer, Some((ANSWERED, [9_000, 0, 0, 0, 0, 0, 0, 0])));
    assert_eq!(second.borrow().answer, Some((ANSWERED, [1_000, 0, 0, 0, 0, 0, 0, 0])));
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
    assert_eq!(outcome.borrow().answer, Some((ANSWERED, [0; 8])));
}

#[test]
fn a_write_beyond_the_limit_is_cut_there() {
    let mut bench = Bench::new();
    let outcome = bench.write(&pattern(MAX_WRITE_BYTES + 1));
    bench.settle();
    assert_eq!(outcome.borrow().answer.unwrap().1[0], MAX_WRITE_BYTES as u64);
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
    assert_eq!(outcome.borrow().answer.unwrap().1[0], 40);
}

#[test]
fn a_client_that_goes_takes_only_its_own_write_with_it() {
    let mut bench = Bench::new();
    let gone = bench.ask(Request::Write, pattern(100), 0, true);
    let stays = bench.write(b"here");
    bench.settle();
    assert_eq!(gone.borrow().answer.unwrap().0, Refusal::BadBuffer as u64);
    assert_eq!(stays.borrow().answer.unwrap().0, ANSWERED);
    assert_eq!(*bench.ports.0.sent.borrow(), b"here");
}

#[test]
fn a_read_waits_for_the_first_byte() {
    let mut bench = Bench::new();
    let outcome = bench.read(100);
    bench.settle();
    assert_eq!(outcome.borrow().answer, None);
    bench.ports.0.arrive(b'x', 0);
    bench.settle();
    assert_eq!(outcome.borrow().received, b"x");
    assert_eq!(ReadAnswer::decode(&outcome.borrow().answer.unwrap().1).len_bytes, 1);
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
        all.extend_from_slice(&outcome.borrow().received);
    }
    assert_eq!(all, pattern(1_000));
}

#[test]
fn a_reader_that_is_gone_loses_nothing_for_the_next() {
    let mut bench = Bench::new();
    let gone = bench.ask(Request::Read, Vec::new(), 10, true);
    bench.ports.0.arrive(b'x', 0);
    bench.settle();
    assert_eq!(gone.borrow().answer.unwrap().0, Refusal::BadBuffer as u64);
    let next = bench.read(10);
    bench.settle();
    assert_eq!(next.borrow().received, b"x");
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
    assert_eq!(outcome.borrow().received, expected);
    let answer = ReadAnswer::decode(&outcome.borrow().answer.unwrap().1);
    assert_eq!((answer.len_bytes, answer.lost_bytes), (17, 3));
}

#[test]
fn the_window_is_limited_and_what_does_not_fit_is_counted() {
    let mut bench = Bench::new();
    for _ in 0..WINDOW_BYTES / 16 + 1 {
        (0..16).for_each(|byte| bench.ports.0.arrive(byte, 0));
        bench.settle();
    }
    let outcome = bench.read(MAX_READ_BYTES as u64 * 2);
    bench.settle();
    let answer = ReadAnswer::decode(&outcome.borrow().answer.unwrap().1);
    assert_eq!((answer.len_bytes, answer.lost_bytes), (MAX_READ_BYTES as u64, 16));
}

#[test]
fn too_many_requests_and_senseless_ones_are_refused() {
    let mut bench = Bench::new();
    let label = |outcome: &Rc<RefCell<Outcome>>| outcome.borrow().answer.map(|(label, _)| label);
    let first = bench.read(1);
    let second = bench.read(1);
    assert_eq!((label(&first), label(&second)), (None, Some(Refusal::Busy as u64)));
    assert_eq!(label(&bench.read(0)), Some(Refusal::BadBuffer as u64));
    let writes: Vec<_> = (0..MAX_WRITES + 1).map(|_| bench.write(b"x")).collect();
    assert_eq!(label(&writes[MAX_WRITES]), Some(Refusal::Busy as u64));
    assert_eq!(label(&writes[MAX_WRITES - 1]), None);
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let client = TestClient { sends: vec![], is_gone: false, outcome: Rc::clone(&outcome) };
    bench.line.request(77, u64::MAX, u64::MAX, client);
    assert_eq!(label(&outcome), Some(Refusal::Unknown as u64));
}

#[test]
fn a_drain_is_answered_after_the_writes_before_it() {
    let mut bench = Bench::new();
    bench.write(&pattern(20));
    let drain = bench.ask(Request::Drain, vec![], 0, false);
    bench.service().unwrap();
    assert!(drain.borrow().answer.is_none());
    bench.settle();
    assert_eq!(drain.borrow().answer, Some((ANSWERED, [0; 8])));
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
    assert_eq!(typed.borrow().received, b"x");
    let streamed = bench.read(2_000);
    for part in pattern(140).chunks(14) {
        part.iter().for_each(|byte| bench.ports.0.arrive(*byte, 0));
        assert!(matches!(bench.service().unwrap(), Next::Within(ns) if ns <= GATHER_NS));
        bench.now_ns += 1_000;
        assert_eq!(streamed.borrow().answer, None);
    }
    bench.now_ns = GATHER_NS;
    bench.service().unwrap();
    assert_eq!(streamed.borrow().received, pattern(140));
}
