//! DMA spaces: what devices reach stays theirs, whatever becomes of the memory; and interrupts by messages.

use super::{NOWHERE, Program, SCRATCH, World};
use crate::account::Account;
use crate::interrupt::MAX_INTERRUPTS;
use crate::machine::{Frame, Machine as _, PAGE_SIZE};
use crate::mock::{INTERRUPTS, MESSAGES};
use crate::pool::Id;
use quire_abi::dma::{DmaFlags, MAX_DMA_PAGES};
use quire_abi::space::MemoryFlags;
use quire_abi::{Call, Error, Handle, Rights};

/// The driver's device.
const REQUESTER: u16 = 0x0310;
const WRITES: u64 = DmaFlags::DEVICE_WRITES.bits() as u64;

/// How pages are taken from under a device.
type End = fn(&mut Rig) -> Result<u64, Error>;

/// A driver with a DMA space and a memory.
struct Rig {
    w: World,
    driver: Program,
    dma: u64,
    memory: u64,
}

impl Rig {
    /// On a machine without and one with something that confines devices.
    fn both() -> [Self; 2] {
        [false, true].map(Self::new)
    }

    fn new(has_iommu: bool) -> Self {
        let mut w = World::new();
        w.m.has_iommu = has_iommu;
        let driver = w.program();
        let dma = w.call(&driver, Call::DmaCreate, &[driver.hardware, driver.account_handle, REQUESTER.into()]).ok();
        let memory = w.call(&driver, Call::MemoryCreate, &[driver.account_handle, 8 * PAGE_SIZE, 0]).ok();
        Self { w, driver, dma, memory }
    }

    fn try_map(&mut self, memory: u64, page: u64, pages: u64) -> Result<u64, Error> {
        let arguments = [self.dma, memory, page * PAGE_SIZE, pages * PAGE_SIZE, SCRATCH, WRITES];
        let answer = self.w.call(&self.driver, Call::DmaMap, &arguments);
        self.check();
        answer.error().map_or(Ok(answer.first), Err)
    }

    /// Maps one page; the mapping and its frame.
    fn map(&mut self, page: u64) -> (u64, Frame) {
        let mapping = self.try_map(self.memory, page, 1).unwrap();
        let address: u64 = self.w.peek(&self.driver, SCRATCH);
        assert!(address.is_multiple_of(PAGE_SIZE));
        (mapping, self.find(address))
    }

    /// What the device finds at an address.
    fn find(&mut self, address: u64) -> Frame {
        match self.w.m.has_iommu {
            true => self.w.m.device_finds(REQUESTER, address).unwrap().0,
            false => Frame((address / PAGE_SIZE) as u32),
        }
    }

    fn unmap(&mut self, mapping: u64) {
        self.w.call(&self.driver, Call::DmaUnmap, &[self.dma, mapping]).ok();
        self.check();
    }

    /// The device writes to its frame.
    fn device_writes(&mut self, frame: Frame, byte: u8) {
        self.w.m.write_frame(frame, 0, &[byte]);
    }

    /// The device reads its frame.
    fn device_reads(&self, frame: Frame) -> u8 {
        let mut byte = [0];
        self.w.m.read_frame(frame, 0, &mut byte);
        byte[0]
    }

    fn program_reads(&mut self, page: u64) -> u8 {
        let at = SCRATCH + 0x2000;
        self.w.call(&self.driver, Call::MemoryRead, &[self.memory, page * PAGE_SIZE, at, 1]).ok();
        self.w.peek::<u8>(&self.driver, at)
    }

    fn program_writes(&mut self, page: u64, byte: u8) {
        let at = self.w.poke(&self.driver, SCRATCH + 0x2000, &byte);
        self.w.call(&self.driver, Call::MemoryWrite, &[self.memory, page * PAGE_SIZE, at, 1]).ok();
    }

    fn call(&mut self, call: Call, arguments: &[u64]) -> Result<u64, Error> {
        let answer = self.w.call(&self.driver, call, arguments);
        self.check();
        answer.error().map_or(Ok(answer.first), Err)
    }

    fn references(&self, frame: Frame) -> u32 {
        self.w.kernel.memory.frames().references(frame)
    }

    fn owner(&self, frame: Frame) -> Option<Id<Account>> {
        self.w.kernel.memory.frames().owner(frame)
    }

    fn check(&mut self) {
        self.w.kernel.check_charges(&self.w.m);
        for (domain, page, frame) in self.w.m.device_cache.clone() {
            let (requester, _) = self.w.m.attached.iter().find(|(_, (of, _))| *of == domain).unwrap();
            let found = self.w.m.device_finds(*requester, page * PAGE_SIZE);
            assert_eq!(found.map(|(frame, _)| frame), Some(frame), "a device has something stale cached");
        }
    }
}

#[test]
fn device_and_programs_see_the_same_bytes_both_ways() {
    for mut rig in Rig::both() {
        rig.program_writes(1, 7);
        let (mapping, frame) = rig.map(1);
        assert_eq!(rig.device_reads(frame), 7);
        rig.program_writes(1, 8);
        assert_eq!(rig.device_reads(frame), 8);
        rig.device_writes(frame, 9);
        assert_eq!(rig.program_reads(1), 9);
        rig.unmap(mapping);
        assert_eq!((rig.program_reads(1), rig.references(frame)), (9, 1));
    }
}

#[test]
fn what_a_snapshot_shared_before_is_the_devices_alone_once_mapped() {
    for mut rig in Rig::both() {
        rig.program_writes(0, 1);
        let snapshot = rig.call(Call::MemorySnapshot, &[rig.memory, rig.driver.account_handle]).unwrap();
        let (_, frame) = rig.map(0);
        rig.device_writes(frame, 2);
        assert_eq!(rig.program_reads(0), 2);
        let memory = core::mem::replace(&mut rig.memory, snapshot);
        assert_eq!(rig.program_reads(0), 1, "the snapshot is as it was");
        rig.program_writes(0, 3);
        rig.memory = memory;
        assert_eq!((rig.program_reads(0), rig.device_reads(frame)), (2, 2));
    }
}

#[test]
fn there_are_no_snapshots_of_what_a_device_may_write() {
    for mut rig in Rig::both() {
        let window = [rig.memory, rig.driver.account_handle, 0, PAGE_SIZE];
        let window = rig.call(Call::MemoryWindow, &window).unwrap();
        let (mapping, _) = rig.map(5);
        for memory in [rig.memory, window] {
            let snapshot = [memory, rig.driver.account_handle];
            assert_eq!(rig.call(Call::MemorySnapshot, &snapshot), Err(Error::BadState));
        }
        rig.unmap(mapping);
        rig.call(Call::MemorySnapshot, &[rig.memory, rig.driver.account_handle]).unwrap();
    }
}

#[test]
fn a_pinned_frame_outlives_its_page_and_is_nobodys_until_it_is_unmapped() {
    for mut rig in Rig::both() {
        let ends: [End; 3] = [
            |rig| rig.call(Call::MemoryDiscard, &[rig.memory, 0, 8 * PAGE_SIZE]),
            |rig| rig.call(Call::MemoryResize, &[rig.memory, PAGE_SIZE]),
            |rig| rig.call(Call::HandleClose, &[rig.memory]),
        ];
        for end in ends {
            rig.memory = rig.call(Call::MemoryCreate, &[rig.driver.account_handle, 8 * PAGE_SIZE, 0]).unwrap();
            let (mapping, frame) = rig.map(3);
            let owner = rig.owner(frame);
            assert!(owner.is_some());
            end(&mut rig).unwrap();
            assert_eq!((rig.references(frame), rig.owner(frame)), (1, owner), "the device has it, and it is paid for");
            rig.device_writes(frame, 0xee);
            rig.unmap(mapping);
            assert_eq!((rig.references(frame), rig.owner(frame)), (0, None));
        }
    }
}

#[test]
fn what_was_discarded_under_a_device_reads_as_zero_whatever_the_device_writes() {
    for mut rig in Rig::both() {
        let (mapping, frame) = rig.map(3);
        rig.device_writes(frame, 5);
        rig.call(Call::MemoryDiscard, &[rig.memory, 3 * PAGE_SIZE, PAGE_SIZE]).unwrap();
        rig.device_writes(frame, 6);
        assert_eq!(rig.program_reads(3), 0);
        rig.program_writes(3, 1);
        rig.unmap(mapping);
        assert_eq!(rig.program_reads(3), 1);
    }
}

#[test]
fn supplying_copies_what_a_device_has_and_moves_the_rest() {
    for mut rig in Rig::both() {
        let managed = [rig.driver.account_handle, 4 * PAGE_SIZE, u64::MAX, 0];
        let (_, pager) = rig.w.call(&rig.driver, Call::MemoryCreateManaged, &managed).pair();
        rig.program_writes(0, 1);
        rig.program_writes(1, 2);
        let (_, frame) = rig.map(0);
        rig.call(Call::PagerSupply, &[pager, 0, 2 * PAGE_SIZE, rig.memory, 0]).unwrap();
        assert_eq!((rig.program_reads(0), rig.program_reads(1)), (1, 0), "the second was moved");
        rig.device_writes(frame, 9);
        assert_eq!(rig.program_reads(0), 9);
    }
}

#[test]
fn closing_the_space_takes_everything_back() {
    for mut rig in Rig::both() {
        let frames: std::vec::Vec<Frame> = (0..8).map(|page| rig.map(page).1).collect();
        let again = rig.try_map(rig.memory, 0, 8).unwrap();
        assert!(frames.iter().all(|frame| rig.references(*frame) == 3));
        rig.unmap(again);
        rig.call(Call::HandleClose, &[rig.memory]).unwrap();
        assert!(frames.iter().all(|frame| rig.references(*frame) == 1));
        rig.call(Call::HandleClose, &[rig.dma]).unwrap();
        assert!(frames.iter().all(|frame| rig.references(*frame) == 0));
    }
}

#[test]
fn killing_the_account_leaves_the_device_what_it_has_until_its_space_is_closed() {
    for mut rig in Rig::both() {
        let manager = rig.w.program();
        let kept = rig.w.share(&rig.driver, &manager, rig.dma);
        let driver_account = rig.w.share(&rig.driver, &manager, rig.driver.account_handle);
        let (_, frame) = rig.map(0);
        rig.w.call(&manager, Call::AccountKill, &[driver_account]).ok();
        rig.check();
        assert_eq!(rig.references(frame), 1);
        rig.device_writes(frame, 1);
        rig.w.call(&manager, Call::HandleClose, &[kept]).ok();
        rig.check();
        assert_eq!(rig.references(frame), 0);
    }
}

#[test]
fn contiguous_memory_and_windows_can_be_mapped_and_nothing_else() {
    for mut rig in Rig::both() {
        let contiguous = u64::from(MemoryFlags::CONTIGUOUS.bits());
        let account = rig.driver.account_handle;
        let memory = rig.call(Call::MemoryCreate, &[account, 3 * PAGE_SIZE, contiguous]).unwrap();
        let mapping = rig.try_map(memory, 0, 3).unwrap();
        let addresses: [u64; 3] = rig.w.peek(&rig.driver, SCRATCH);
        assert_eq!((addresses[1], addresses[2]), (addresses[0] + PAGE_SIZE, addresses[0] + 2 * PAGE_SIZE));
        let second = rig.find(addresses[1]);
        rig.call(Call::HandleClose, &[memory]).unwrap();
        assert_eq!(rig.references(second), 1);
        rig.unmap(mapping);
        let window = rig.call(Call::MemoryWindow, &[rig.memory, account, 2 * PAGE_SIZE, 2 * PAGE_SIZE]).unwrap();
        let (_, third) = rig.map(3);
        rig.try_map(window, 1, 1).unwrap();
        let again = rig.w.peek(&rig.driver, SCRATCH);
        assert_eq!(rig.find(again), third);
        assert_eq!(rig.try_map(window, 1, 2), Err(Error::OutOfRange));
        rig.call(Call::MemoryRevoke, &[window]).unwrap();
        assert_eq!(rig.try_map(window, 0, 1), Err(Error::Revoked));
        let (managed, _) = rig.w.call(&rig.driver, Call::MemoryCreateManaged, &[account, PAGE_SIZE, 0, 0]).pair();
        assert_eq!(rig.try_map(managed, 0, 1), Err(Error::BadState));
        let physical = [rig.driver.hardware, account, 4050 * PAGE_SIZE, PAGE_SIZE, 0];
        let physical = rig.call(Call::MemoryCreatePhysical, &physical).unwrap();
        assert_eq!(rig.try_map(physical, 0, 1), Err(Error::BadState));
    }
}

#[test]
fn hostile_arguments_are_errors_and_pin_nothing() {
    for mut rig in Rig::both() {
        let most = MAX_DMA_PAGES as u64;
        let large = rig.call(Call::MemoryCreate, &[rig.driver.account_handle, 1 << 40, 0]).unwrap();
        for (page, pages, error) in [
            (0, 0, Error::OutOfRange),
            (0, most + 1, Error::OutOfRange),
            (1 << 28, 1, Error::OutOfRange),
            ((1 << 28) - 1, 2, Error::OutOfRange),
            (1 << 51, 1 << 51, Error::OutOfRange),
        ] {
            assert_eq!(rig.try_map(large, page, pages), Err(error));
        }
        let (dma, memory) = (rig.dma, rig.memory);
        for (arguments, error) in [
            ([dma, memory, 1, PAGE_SIZE, SCRATCH, 0], Error::Misaligned),
            ([dma, memory, 0, 1, SCRATCH, 0], Error::Misaligned),
            ([dma, memory, 0, PAGE_SIZE, NOWHERE, 0], Error::BadAddress),
            ([dma, memory, 0, PAGE_SIZE, SCRATCH, 2], Error::BadArgument),
            ([dma, memory, 0, PAGE_SIZE, SCRATCH, 1 << 32], Error::BadArgument),
            ([memory, memory, 0, PAGE_SIZE, SCRATCH, 0], Error::WrongKind),
            ([dma, dma, 0, PAGE_SIZE, SCRATCH, 0], Error::WrongKind),
        ] {
            assert_eq!(rig.call(Call::DmaMap, &arguments), Err(error));
        }
        assert!(rig.w.kernel.dma_mappings.is_empty());
        let (mapping, _) = rig.map(0);
        for wrong in [mapping + 1, mapping + (1 << 32), u64::MAX] {
            assert_eq!(rig.call(Call::DmaUnmap, &[dma, wrong]), Err(Error::NotFound));
        }
        rig.unmap(mapping);
        assert_eq!(rig.call(Call::DmaUnmap, &[dma, mapping]), Err(Error::NotFound));
    }
}

#[test]
fn one_devices_mapping_is_not_anothers_to_take_back() {
    for mut rig in Rig::both() {
        let create = [rig.driver.hardware, rig.driver.account_handle, 0x0310];
        assert_eq!(rig.call(Call::DmaCreate, &create), Err(Error::Overlap));
        let create = [rig.driver.hardware, rig.driver.account_handle, 0x1_0000];
        assert_eq!(rig.call(Call::DmaCreate, &create), Err(Error::OutOfRange));
        let other = rig.call(Call::DmaCreate, &[rig.driver.hardware, rig.driver.account_handle, 0x0318]).unwrap();
        let (mapping, _) = rig.map(0);
        assert_eq!(rig.call(Call::DmaUnmap, &[other, mapping]), Err(Error::NotFound));
        rig.unmap(mapping);
    }
}

#[test]
fn rights_decide_whether_the_device_may_write() {
    for mut rig in Rig::both() {
        let restrict = [rig.memory, Rights::READ.bits().into()];
        let readable = rig.call(Call::HandleDuplicate, &restrict).unwrap();
        assert_eq!(rig.try_map(readable, 0, 1), Err(Error::MissingRights));
        rig.call(Call::DmaMap, &[rig.dma, readable, 0, PAGE_SIZE, SCRATCH, 0]).unwrap();
        let weak = rig.call(Call::HandleDuplicate, &[rig.dma, Rights::MANAGE.bits().into()]).unwrap();
        assert_eq!(rig.call(Call::DmaMap, &[weak, rig.memory, 0, PAGE_SIZE, SCRATCH, 0]), Err(Error::MissingRights));
    }
}

#[test]
fn an_account_at_its_limit_maps_nothing_and_pays_nothing() {
    for mut rig in Rig::both() {
        let limits = quire_abi::system::AccountLimits { frames: 2, kernel_bytes: 10_000 };
        let at = rig.w.poke(&rig.driver, SCRATCH, &limits);
        let poor = rig.call(Call::AccountCreate, &[rig.driver.account_handle, at]).unwrap();
        let memory = rig.call(Call::MemoryCreate, &[poor, 8 * PAGE_SIZE, 0]).unwrap();
        assert_eq!(rig.try_map(memory, 0, 4), Err(Error::AccountLimit));
        assert!(rig.w.kernel.dma_mappings.is_empty());
        rig.try_map(memory, 0, 2).unwrap();
    }
}

#[test]
fn a_message_interrupt_tells_its_message_and_comes_in_like_any_other() {
    for mut rig in Rig::both() {
        let create = [rig.driver.hardware, rig.driver.account_handle, 0x0310];
        let interrupts: std::vec::Vec<u64> =
            (0..MESSAGES).map(|_| rig.call(Call::InterruptCreateMessage, &create).unwrap()).collect();
        assert_eq!(rig.call(Call::InterruptCreateMessage, &create), Err(Error::Full));
        for (interrupt, number) in interrupts.iter().zip(INTERRUPTS..) {
            let (address, data) = rig.w.call(&rig.driver, Call::InterruptMessage, &[*interrupt]).pair();
            assert_eq!((address, data), (0xfee0_0310, number.into()));
            let weak = [*interrupt, Rights::WRITE.bits().into()];
            let weak = rig.call(Call::HandleDuplicate, &weak).unwrap();
            assert_eq!(rig.call(Call::InterruptMessage, &[weak]), Err(Error::MissingRights));
            rig.call(Call::HandleClose, &[weak]).unwrap();
        }
        rig.call(Call::HandleClose, &[interrupts[1]]).unwrap();
        rig.call(Call::InterruptCreateMessage, &create).unwrap();
        let create = [rig.driver.hardware, rig.driver.account_handle, 4];
        let wired = rig.call(Call::InterruptCreate, &create).unwrap();
        assert_eq!(rig.call(Call::InterruptMessage, &[wired]), Err(Error::BadState));
        for absent in [u64::from(INTERRUPTS), MAX_INTERRUPTS as u64] {
            let create = [rig.driver.hardware, rig.driver.account_handle, absent];
            assert_eq!(
                rig.call(Call::InterruptCreate, &create),
                Err(Error::OutOfRange),
                "a message's number is no input"
            );
        }
    }
}

#[test]
fn a_memorys_last_handle_may_be_the_mappings_only_witness() {
    for mut rig in Rig::both() {
        let (mapping, frame) = rig.map(0);
        let capability = rig.w.kernel.take(rig.driver.table, Handle(rig.memory as u32)).unwrap();
        rig.w.kernel.release(&mut rig.w.m, capability.object);
        rig.check();
        let another = rig.call(Call::MemoryCreate, &[rig.driver.account_handle, PAGE_SIZE, 0]).unwrap();
        rig.call(Call::MemorySnapshot, &[another, rig.driver.account_handle]).unwrap();
        rig.unmap(mapping);
        assert_eq!(rig.references(frame), 0, "the new memory in the old one's place is not mistaken for it");
    }
}

#[test]
fn a_confined_device_finds_what_is_mapped_for_it_and_nothing_else() {
    let mut rig = Rig::new(true);
    let read_only = [rig.dma, rig.memory, 0, 3 * PAGE_SIZE, SCRATCH, 0];
    let mapping = rig.call(Call::DmaMap, &read_only).unwrap();
    let addresses: [u64; 3] = rig.w.peek(&rig.driver, SCRATCH);
    let (frame, may_write) = rig.w.m.device_finds(REQUESTER, addresses[1]).unwrap();
    assert!(!may_write);
    assert_eq!(rig.w.m.device_finds(REQUESTER, addresses[2] + PAGE_SIZE), None, "what follows is nobody's");
    assert_eq!(
        rig.w.m.device_finds(REQUESTER, u64::from(frame.0) * PAGE_SIZE),
        None,
        "physical addresses mean nothing"
    );
    assert_eq!(rig.w.m.device_finds(0, addresses[0]), None, "nor do the addresses to another");
    let (_, written) = rig.map(1);
    let address: u64 = rig.w.peek(&rig.driver, SCRATCH);
    assert_eq!((rig.w.m.device_finds(REQUESTER, address), written), (Some((frame, true)), frame));
    rig.unmap(mapping);
    assert!(addresses.iter().all(|address| rig.w.m.device_finds(REQUESTER, *address).is_none()));
    assert!(rig.w.m.device_finds(REQUESTER, address).is_some());
    rig.call(Call::HandleClose, &[rig.dma]).unwrap();
    assert!(rig.w.m.attached.is_empty() && rig.w.m.device_cache.is_empty());
}

#[test]
fn a_device_that_was_refused_loses_all_and_whoever_watches_is_told() {
    let mut rig = Rig::new(true);
    let event = rig.call(Call::EventCreate, &[rig.driver.account_handle]).unwrap();
    rig.call(Call::DmaWatch, &[rig.dma, event, 4]).unwrap();
    let (_, frame) = rig.map(0);
    assert_eq!(rig.call(Call::EventWait, &[event, 4, 0]), Err(Error::WouldBlock));
    assert!(!rig.w.kernel.on_device_fault(&mut rig.w.m, 0, REQUESTER + 1, 0x5000));
    assert!(rig.w.kernel.on_device_fault(&mut rig.w.m, 0, REQUESTER, 0x5001));
    rig.check();
    assert_eq!(rig.call(Call::EventWait, &[event, 4, 0]), Ok(4));
    assert_eq!(rig.w.call(&rig.driver, Call::DmaRefused, &[rig.dma]).pair(), (1, 0x5001));
    assert!(rig.w.m.attached.is_empty());
    assert_eq!(rig.references(frame), 2, "what was mapped stays pinned all the same");
    let another = rig.try_map(rig.memory, 1, 1).unwrap();
    rig.unmap(another);
    // Who watches late is told at once; and the event goes with the last of those who name it.
    let late = rig.call(Call::EventCreate, &[rig.driver.account_handle]).unwrap();
    rig.call(Call::DmaWatch, &[rig.dma, late, 1]).unwrap();
    assert_eq!(rig.call(Call::EventWait, &[late, 1, 0]), Ok(1));
    rig.call(Call::HandleClose, &[late]).unwrap();
    rig.call(Call::HandleClose, &[event]).unwrap();
    rig.call(Call::HandleClose, &[rig.dma]).unwrap();
    assert!(rig.w.kernel.events.is_empty());
}
