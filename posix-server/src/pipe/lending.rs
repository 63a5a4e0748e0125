//! The first slot of a pipe in the hands of a process that has both ends (ADR 13).

use super::{Pipe, SLOT_BYTES};
use crate::shared::{RingPage, SharedPosition};
use alloc::rc::Rc;
use alloc::vec::Vec;
use posix_protocol::rings::PipeSlot;

/// A slot whose bytes and state lie in a process's memory.
pub struct LentSlot {
    state: SharedPosition,
    page: Rc<RingPage>,
    /// Room for its bytes when they come back.
    room: Vec<u8>,
}

impl core::fmt::Debug for LentSlot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LentSlot").finish_non_exhaustive()
    }
}

impl LentSlot {
    /// Takes it back: from then on the process can't change what was written. What it says is cut to what a slot can be: its bytes,
    /// and how many of them have been read.
    fn take(self) -> (Vec<u8>, usize) {
        let PipeSlot { start, end, is_written, .. } = PipeSlot::from_word(self.state.take_word());
        if is_written {
            // Whoever was about to write may go on with that, but only there.
            self.page.spoil();
        }
        let mut bytes = self.room;
        bytes.resize(end as usize, 0);
        self.page.read(&mut bytes);
        (bytes, start as usize)
    }
}

impl Pipe {
    /// Whether a process could move bytes itself now: only one slot is in use, and nobody has to be told.
    pub(crate) fn is_lendable(&self) -> bool {
        let is_simple = self.ring.borrow().only_slot().is_some();
        is_simple && !self.has_packets.get() && self.has_readers() && self.has_writers() && self.changed.waiters() == 0
    }

    /// Lends the first slot to the process that has the page. `share` gets the slot's state, and puts it where the process can change
    /// it. False: it stays here.
    pub(crate) fn lend(&self, page: &Rc<RingPage>, share: impl FnOnce(u64) -> Option<SharedPosition>) -> bool {
        self.take_back();
        if !self.is_lendable() {
            return false;
        }
        let mut ring = self.ring.borrow_mut();
        let lent = ring.only_slot().and_then(|(bytes, start)| lend_slot(bytes, start, page, share));
        let is_lent = lent.is_some();
        if is_lent {
            ring.clear();
        }
        self.lent.replace(lent);
        is_lent
    }

    /// Takes the first slot back, if it is lent.
    pub(crate) fn take_back(&self) {
        let Some(lent) = self.lent.take() else { return };
        let (bytes, start) = lent.take();
        self.ring.borrow_mut().put_only_slot(bytes, start);
        self.habit.note_taken();
    }
}

fn lend_slot(
    bytes: &[u8],
    start: usize,
    page: &Rc<RingPage>,
    share: impl FnOnce(u64) -> Option<SharedPosition>,
) -> Option<LentSlot> {
    let mut room = Vec::new();
    room.try_reserve_exact(SLOT_BYTES).ok()?;
    if !page.write(bytes) {
        return None;
    }
    let state = share(PipeSlot::new(start as u64, bytes.len() as u64).word())?;
    Some(LentSlot { state, page: page.clone(), room })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;
    use crate::file::io::{SliceDestination, SliceSource};
    use crate::file::{AccessMode, FileOps, PollEvents};
    use crate::pipe::PipeEnd;
    use crate::platform::{Memory, PAGE_SIZE};
    use posix_protocol::files::{POSITIONS_OFFSET, Position};
    use zerocopy::{FromZeros, IntoBytes};

    const EPOCH: u64 = 6;

    struct Lent {
        pipe: Rc<Pipe>,
        reader: PipeEnd,
        writer: PipeEnd,
        table: Memory,
        page: Rc<RingPage>,
    }

    impl Lent {
        fn new() -> Self {
            let pipe = Pipe::new().unwrap();
            let (reader, writer) = (PipeEnd::open(&pipe, AccessMode::Read), PipeEnd::open(&pipe, AccessMode::Write));
            let page = Rc::new(RingPage::new(Memory::create(PAGE_SIZE).unwrap(), 0));
            Self { pipe, reader, writer, table: Memory::create(2 * PAGE_SIZE).unwrap(), page }
        }

        fn lend(&self) -> bool {
            self.pipe.lend(&self.page, |word| SharedPosition::put(&self.table, 0, word, EPOCH))
        }

        fn position(&self) -> Position {
            let mut position = Position::new_zeroed();
            self.table.read(POSITIONS_OFFSET, position.as_mut_bytes());
            position
        }

        /// What the shim does: changes the state if it is still lent.
        fn change(&self, change: impl FnOnce(PipeSlot) -> Option<PipeSlot>) -> bool {
            let position = self.position();
            let Some(next) = change(PipeSlot::from_word(position.offset)).filter(|_| position.epoch == EPOCH) else {
                return false;
            };
            self.table.write(POSITIONS_OFFSET, next.word().as_bytes());
            true
        }

        fn read(&self, count: usize) -> Result<Vec<u8>, Errno> {
            let mut bytes = alloc::vec![0; count];
            let count = self.reader.read(0, &mut SliceDestination::new(&mut bytes))?;
            bytes.truncate(count);
            Ok(bytes)
        }
    }

    #[test]
    fn what_a_process_wrote_and_read_itself_counts() {
        let lent = Lent::new();
        lent.writer.write(0, &mut SliceSource::new(b"abc")).unwrap();
        assert!(lent.lend());
        assert!(lent.change(|slot| Some(slot.read(1)?.1)));
        let mut bytes = *b"....";
        lent.page.read(&mut bytes);
        assert_eq!(&bytes, b"abc\0");
        assert!(lent.change(|slot| slot.begin_write(2)));
        assert!(lent.page.write(b"abcde"));
        assert!(lent.change(|slot| Some(slot.end_write(2))));
        assert_eq!(lent.read(10), Ok(b"bcde".to_vec()));
        assert!(!lent.change(|slot| slot.begin_write(1)), "it was taken back");
        assert!(!lent.page.is_spoiled());
    }

    #[test]
    fn a_write_under_way_when_it_is_taken_back_never_happens_and_spoils_the_page() {
        let lent = Lent::new();
        lent.writer.write(0, &mut SliceSource::new(b"abc")).unwrap();
        assert!(lent.lend() && lent.change(|slot| slot.begin_write(2)));
        assert_eq!(lent.reader.readiness(), PollEvents::READABLE);
        assert!(lent.page.is_spoiled() && !lent.change(|slot| Some(slot.end_write(2))));
        assert_eq!(lent.read(10), Ok(b"abc".to_vec()));
    }

    #[test]
    fn nonsense_in_the_state_is_cut() {
        let lent = Lent::new();
        for nonsense in [u64::MAX, 1 << 63, 0x3ff_ffff, 0x1fff, 5 << 13 | 9] {
            assert!(lent.lend());
            lent.table.write(POSITIONS_OFFSET, nonsense.as_bytes());
            assert!(lent.pipe.readable_bytes() <= SLOT_BYTES);
            while lent.read(5000).is_ok() {}
        }
    }

    #[test]
    fn it_is_lent_only_if_the_server_can_look_away() {
        let lent = Lent::new();
        let listener = lent.reader.wait_queue().unwrap().listen();
        assert!(!lent.lend());
        drop(listener);
        lent.writer.write(0, &mut SliceSource::new(&[1; SLOT_BYTES + 1])).unwrap();
        assert!(!lent.lend());
        lent.read(SLOT_BYTES).unwrap();
        assert!(lent.lend() && lent.position().epoch == EPOCH);
        lent.reader.wait_queue();
        assert_ne!(lent.position().epoch, EPOCH);
        let Lent { pipe, reader, writer, table, page } = lent;
        drop(writer);
        assert!(!pipe.lend(&page, |word| SharedPosition::put(&table, 0, word, EPOCH)), "no writers");
        drop(reader);
    }
}
