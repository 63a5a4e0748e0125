//! The client over a channel to drivers that are slow, refuse, die and forget.

extern crate std;

use super::*;
use driver_protocol::ANSWERED;
use driver_protocol::block::SERIAL_BYTES;
use futures_util::FutureExt as _;
use futures_util::future::join;
use std::collections::BTreeSet;
use std::collections::VecDeque;

/// What the driver does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Dies; its successor knows no buffers.
    Death,
    /// Refuses.
    Refusal(Refusal),
}

#[derive(Default)]
struct Driver {
    now_ns: Cell<u64>,
    description: RefCell<Description>,
    attached: RefCell<BTreeSet<u64>>,
    /// Requests that were done.
    done: RefCell<Vec<Request>>,
    attaches: Cell<usize>,
    fates: RefCell<VecDeque<Fate>>,
    /// Nobody is there any more.
    is_gone: Cell<bool>,
    /// How many calls are under way now, and were at most.
    under_way: Cell<usize>,
    most: Cell<usize>,
    pauses: RefCell<Vec<u64>>,
}

impl Driver {
    fn answer(&self, label: u64, words: Words, memory: Option<&&str>) -> Result<(u64, Words), CallError> {
        if self.is_gone.get() {
            return Err(CallError::PeerClosed);
        }
        let request = Request::decode(label, &words).expect("the client says nothing that means nothing");
        match self.fates.borrow_mut().pop_front() {
            Some(Fate::Death) => {
                self.attached.take();
                return Err(CallError::PeerClosed);
            }
            Some(Fate::Refusal(refusal)) => return Ok((refusal as u64, [0; 8])),
            None => {}
        }
        match request {
            Request::Describe => return Ok((ANSWERED, self.description.borrow().encode())),
            Request::Attach { buffer } => {
                assert!(memory.is_some());
                self.attaches.set(self.attaches.get() + 1);
                self.attached.borrow_mut().insert(buffer);
            }
            Request::Detach { buffer } => {
                self.attached.borrow_mut().remove(&buffer);
            }
            Request::Read { transfer, .. } | Request::Write { transfer, .. }
                if !self.attached.borrow().contains(&transfer.buffer) =>
            {
                return Ok((Refusal::BadBuffer as u64, [0; 8]));
            }
            Request::Read { .. }
            | Request::Write { .. }
            | Request::Flush { .. }
            | Request::Discard { .. }
            | Request::WriteZeroes { .. } => self.done.borrow_mut().push(request),
        }
        Ok((ANSWERED, [0; 8]))
    }
}

impl Transport for &Driver {
    type Memory = &'static str;

    async fn call(&self, label: u64, words: Words, memory: Option<&&'static str>) -> Result<(u64, Words), CallError> {
        self.under_way.set(self.under_way.get() + 1);
        self.most.set(self.most.get().max(self.under_way.get()));
        // Others have their turn.
        let mut waited = false;
        core::future::poll_fn(|context| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.under_way.set(self.under_way.get() - 1);
        self.answer(label, words, memory)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    async fn pause(&self, duration_ns: u64) {
        self.now_ns.set(self.now_ns.get() + duration_ns);
        self.pauses.borrow_mut().push(duration_ns);
    }
}

/// Runs a future to its end; everything here makes progress at each poll.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = core::pin::pin!(future);
    for _ in 0..100_000 {
        if let Some(output) = future.as_mut().now_or_never() {
            return output;
        }
    }
    panic!("never done")
}

fn driver() -> Driver {
    let driver = Driver::default();
    *driver.description.borrow_mut() = Description {
        sectors: 1 << 20,
        block_bytes: 512,
        abilities: Abilities::FLUSH | Abilities::DISCARD | Abilities::WRITE_ZEROES,
        serial: [0; SERIAL_BYTES],
    };
    driver
}

async fn open(driver: &Driver) -> (BlockClient<&Driver>, Buffer) {
    let client = BlockClient::connect(driver).await.unwrap();
    let buffer = client.attach("staging", 1 << 20).await.unwrap();
    (client, buffer)
}

#[test]
fn requests_reach_the_driver_as_they_were_made() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        client.read(8, 16, buffer, 4096).await.unwrap();
        client.write(9, 1, buffer, 512, WriteFlags::DURABLE).await.unwrap();
        client.flush().await.unwrap();
        client.discard(0, 100).await.unwrap();
        client.write_zeroes(7, 5000).await.unwrap();
    });
    let transfer = Transfer { range: SectorRange { first: 8, count: 16 }, buffer: 0, offset: 4096 };
    let other = Transfer { range: SectorRange { first: 9, count: 1 }, buffer: 0, offset: 512 };
    let expected = [
        Request::Read { id: 1, transfer },
        Request::Write { id: 2, transfer: other, flags: WriteFlags::DURABLE },
        Request::Flush { id: 3 },
        Request::Discard { id: 4, range: SectorRange { first: 0, count: 100 } },
        Request::WriteZeroes { id: 5, range: SectorRange { first: 7, count: 5000 } },
    ];
    assert_eq!(driver.done.take(), expected);
}

#[test]
fn what_dies_with_the_driver_is_sent_again_under_its_id_and_buffers_are_attached_again_once() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        driver.fates.borrow_mut().extend([Fate::Death; 3]);
        let reads = (0..40).map(|index| client.read(index * 8, 8, buffer, index * 4096));
        let results: Result<Vec<()>, BlockError> = join_all(reads).await.into_iter().collect();
        results.unwrap();
    });
    let mut ids: Vec<u64> = Vec::new();
    for request in driver.done.take() {
        let Request::Read { id, .. } = request else { panic!("{request:?}") };
        ids.push(id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=40).collect::<Vec<_>>(), "each once, no other");
    assert_eq!(driver.attaches.get(), 2, "one attached for all");
}

#[test]
fn a_driver_that_dies_while_a_buffer_is_attached_again_changes_nothing() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        driver.attached.take();
        // The read finds the buffer unknown; the attaching dies; the same again; then all is well.
        driver.fates.borrow_mut().extend([
            Fate::Refusal(Refusal::BadBuffer),
            Fate::Death,
            Fate::Refusal(Refusal::BadBuffer),
            Fate::Death,
        ]);
        client.read(0, 8, buffer, 0).await.unwrap();
    });
    assert_eq!(driver.done.take().len(), 1);
}

#[test]
fn errors_of_the_disk_reach_the_caller_once_and_are_not_tried_again() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        driver.fates.borrow_mut().push_back(Fate::Refusal(Refusal::DeviceFailed));
        let (first, second) = join(client.read(0, 8, buffer, 0), client.read(8, 8, buffer, 4096)).await;
        assert_eq!((first, second), (Err(BlockError::DeviceFailed), Ok(())));
    });
    assert_eq!(driver.done.take().len(), 1);
}

#[test]
fn a_busy_driver_is_asked_again_after_a_pause() {
    let driver = driver();
    run(async {
        let (client, _) = open(&driver).await;
        driver.fates.borrow_mut().extend([Fate::Refusal(Refusal::Busy); 4]);
        driver.pauses.take();
        client.flush().await.unwrap();
    });
    assert_eq!(driver.pauses.take(), [FIRST_PAUSE_NS, 2 * FIRST_PAUSE_NS, 4 * FIRST_PAUSE_NS]);
}

#[test]
fn a_disk_that_never_comes_back_is_gone() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        driver.is_gone.set(true);
        assert_eq!(client.read(0, 8, buffer, 0).await, Err(BlockError::Gone));
        assert!(driver.now_ns.get() > PATIENCE_NS && driver.now_ns.get() < PATIENCE_NS + 2 * LONGEST_PAUSE_NS);
    });
}

#[test]
fn no_more_requests_are_under_way_than_the_driver_takes() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        join_all((0..300).map(|index| client.read(index, 1, buffer, 0))).await.iter().for_each(|done| done.unwrap());
    });
    assert_eq!(driver.most.get(), MAX_REQUESTS);
    assert_eq!(driver.done.take().len(), 300);
}

#[test]
fn long_transfers_are_cut_where_a_request_ends() {
    let driver = driver();
    run(async {
        let client = BlockClient::connect(&driver).await.unwrap();
        let buffer = client.attach("staging", 4 << 20).await.unwrap();
        client.read(5, 3000, buffer, 512).await.unwrap();
    });
    let mut next = (5, 512);
    for request in driver.done.take() {
        let Request::Read { transfer, .. } = request else { panic!("{request:?}") };
        assert_eq!((transfer.range.first, transfer.offset), next);
        assert!(transfer.pages().is_some());
        next = (next.0 + transfer.range.count, next.1 + transfer.range.len_bytes());
    }
    assert_eq!(next.0, 3005);
}

#[test]
fn nonsense_is_refused_before_it_is_sent() {
    let driver = driver();
    run(async {
        let (client, buffer) = open(&driver).await;
        assert_eq!(client.read(1 << 20, 1, buffer, 0).await, Err(BlockError::OutOfRange));
        assert_eq!(client.read(0, 0, buffer, 0).await, Err(BlockError::OutOfRange));
        assert_eq!(client.read(0, 1, buffer, 100).await, Err(BlockError::BadBuffer));
        assert_eq!(client.read(0, 1, buffer, 1 << 20).await, Err(BlockError::BadBuffer));
        assert_eq!(client.read(0, 1, Buffer(9), 0).await, Err(BlockError::BadBuffer));
    });
    assert!(driver.done.take().is_empty());
    driver.description.borrow_mut().block_bytes = 4096;
    driver.description.borrow_mut().abilities = Abilities::READ_ONLY;
    run(async {
        let (client, buffer) = open(&driver).await;
        assert_eq!(client.read(0, 1, buffer, 0).await, Err(BlockError::OutOfRange));
        assert_eq!(client.write(0, 8, buffer, 0, WriteFlags::empty()).await, Err(BlockError::OutOfRange));
        assert_eq!(client.flush().await, Ok(()), "nothing to flush");
    });
    assert!(driver.done.take().is_empty());
}

#[test]
fn a_detached_number_is_free_for_another_memory() {
    let driver = driver();
    run(async {
        let (client, first) = open(&driver).await;
        let second = client.attach("another", 4096).await.unwrap();
        assert_ne!(first, second);
        client.detach(first).await.unwrap();
        assert_eq!(client.read(0, 1, first, 0).await, Err(BlockError::BadBuffer));
        assert_eq!(client.attach("a third", 4096).await.unwrap(), first);
    });
}
