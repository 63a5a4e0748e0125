//! The table by which firmware tells of IOMMUs (Intel VT-d specification 4.1, chapter 8).

/// IOMMUs that are used at most.
pub(crate) const MAX_UNITS: usize = 8;

/// Offset of the first remapping structure: behind the ACPI header, the width of addresses, flags and 10 reserved bytes.
const STRUCTURES: usize = 48;
/// A remapping hardware unit.
const HARDWARE_UNIT: u16 = 0;
/// A range that a device uses from the start, such as a keyboard that the firmware emulates.
const RESERVED_MEMORY: u16 = 1;
/// Offset of a unit's segment number, and of the address of its registers.
const SEGMENT: usize = 6;
const REGISTERS: usize = 8;

/// Offset of the table's flags, and the one that says that interrupts can be remapped.
const FLAGS: usize = 37;
const REMAPS_INTERRUPTS: u64 = 1;
/// Offset of the first of a unit's device scopes, and an I/O APIC's kind among these.
const SCOPES: usize = 16;
const IO_APIC: u64 = 3;

/// What the table says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dmar {
    /// Physical addresses of the registers of each IOMMU of the first PCI segment.
    pub(crate) units: [Option<u64>; MAX_UNITS],
    /// IOMMUs that did not fit.
    pub(crate) more: usize,
    /// Whether the machine can confine devices to interrupts of their own.
    pub(crate) remaps_interrupts: bool,
    /// As what the I/O APIC raises interrupts, if there is one.
    pub(crate) io_apic: Option<u16>,
    /// I/O APICs that the table tells of.
    pub(crate) io_apics: usize,
    /// Devices that the firmware wants to go on with memory of theirs.
    pub(crate) reserved_ranges: usize,
}

impl Dmar {
    /// Reads the table, as far as it makes sense.
    pub(crate) fn parse(table: &[u8]) -> Self {
        let remaps_interrupts = number::<1>(table, FLAGS).is_some_and(|flags| flags & REMAPS_INTERRUPTS != 0);
        let mut dmar = Self { remaps_interrupts, ..Self::default() };
        let mut rest = table.get(STRUCTURES..).unwrap_or_default();
        while let (Some(kind), Some(length)) = (number::<2>(rest, 0), number::<2>(rest, 2)) {
            let Some((structure, others)) = rest.split_at_checked(length as usize).filter(|_| length >= 4) else {
                break;
            };
            match kind as u16 {
                HARDWARE_UNIT => dmar.add_unit(structure),
                RESERVED_MEMORY => dmar.reserved_ranges += 1,
                _ => {}
            }
            rest = others;
        }
        dmar
    }

    fn add_unit(&mut self, structure: &[u8]) {
        let (Some(0), Some(registers)) = (number::<2>(structure, SEGMENT), number::<8>(structure, REGISTERS)) else {
            return;
        };
        match self.units.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(registers),
            None => self.more += 1,
        }
        let mut rest = structure.get(SCOPES..).unwrap_or_default();
        while let Some(length) = number::<1>(rest, 1) {
            let Some((scope, others)) = rest.split_at_checked(length as usize).filter(|_| length >= 6) else { break };
            if number::<1>(scope, 0) == Some(IO_APIC) {
                self.add_io_apic(scope);
            }
            rest = others;
        }
    }

    /// An I/O APIC is named by its bus and a path through bridges; one behind bridges is as good as unknown.
    fn add_io_apic(&mut self, scope: &[u8]) {
        self.io_apics += 1;
        let (bus, device, function) = (number::<1>(scope, 5), number::<1>(scope, 6), number::<1>(scope, 7));
        if let (Some(bus), Some(device), Some(function), 8) = (bus, device, function, scope.len()) {
            self.io_apic = Some((bus << 8 | (device & 0x1f) << 3 | (function & 7)) as u16);
        }
    }
}

/// A number of `N` bytes, the lowest first.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn unit(segment: u8, registers: u64) -> Vec<u8> {
        let mut bytes = Vec::from([0, 0, 16, 0, 1, 0, segment, 0]);
        bytes.extend(registers.to_le_bytes());
        bytes
    }

    fn table(structures: &[Vec<u8>]) -> Vec<u8> {
        let mut table = std::vec![0; STRUCTURES];
        structures.iter().for_each(|structure| table.extend(structure));
        table
    }

    #[test]
    fn units_of_the_first_segment_are_found_among_other_structures() {
        let other = Vec::from([2, 0, 6, 0, 9, 9]);
        let reserved = Vec::from([1, 0, 4, 0]);
        let dmar = Dmar::parse(&table(&[other, unit(0, 0xfed9_0000), reserved, unit(1, 5), unit(0, 0xfed9_1000)]));
        assert_eq!(dmar.units[..3], [Some(0xfed9_0000), Some(0xfed9_1000), None]);
        assert_eq!((dmar.more, dmar.reserved_ranges), (0, 1));
        let many: Vec<Vec<u8>> = (0..10).map(|number| unit(0, number)).collect();
        assert_eq!(Dmar::parse(&table(&many)).more, 2);
    }

    #[test]
    fn the_io_apic_is_found_among_a_units_scopes() {
        let mut with_scopes = unit(0, 0xfed9_0000);
        with_scopes.extend([1, 8, 0, 0, 0, 0, 2, 0]);
        with_scopes.extend([3, 8, 0, 0, 5, 0xff, 0, 1]);
        with_scopes[2] = 32;
        let mut bytes = table(&[with_scopes]);
        bytes[FLAGS] = 1;
        let dmar = Dmar::parse(&bytes);
        assert_eq!((dmar.io_apic, dmar.io_apics, dmar.remaps_interrupts), (Some(0xff01), 1, true));
        let mut endless = unit(0, 1);
        endless.extend([3, 0, 0, 0]);
        endless[2] = 20;
        assert_eq!(Dmar::parse(&table(&[endless])).io_apics, 0);
    }

    #[test]
    fn nonsense_ends_and_is_passed_over() {
        for garbage in
            [&[][..], &[0, 0], &[0, 0, 0, 0], &[0, 0, 3, 0, 1], &[0, 0, 200, 0, 1, 2], &[0, 0, 8, 0, 1, 0, 0, 0]]
        {
            assert_eq!(Dmar::parse(&table(&[garbage.to_vec()])), Dmar::default());
        }
        assert_eq!(Dmar::parse(&[1, 2, 3]), Dmar::default());
    }
}
