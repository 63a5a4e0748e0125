//! Where a virtio device on PCI has its registers: vendor capabilities in its configuration space (virtio 1.2, 4.1.4).

/// The vendor of all virtio devices.
pub const VENDOR: u16 = 0x1af4;
/// The first device number of devices that speak version 1 only; the kind of device is added.
const MODERN_DEVICES: u16 = 0x1040;
/// Device numbers of devices that also speak what was before version 1, and of what kind they are.
const TRANSITIONAL_DEVICES: [(u16, Kind); 4] =
    [(0x1000, Kind::NETWORK), (0x1001, Kind::BLOCK), (0x1003, Kind::CONSOLE), (0x1005, Kind::ENTROPY)];

/// The capability that vendors give a meaning of their own.
const VENDOR_CAPABILITY: u8 = 9;
/// How many capabilities there can be: they are 4 bytes apart at least, after the header of 64.
const MAX_CAPABILITIES: usize = 48;

/// A kind of device (virtio 1.2, chapter 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u16);

impl Kind {
    /// A network card.
    pub const NETWORK: Self = Self(1);
    /// A disk.
    pub const BLOCK: Self = Self(2);
    /// A console.
    pub const CONSOLE: Self = Self(3);
    /// A source of random numbers.
    pub const ENTROPY: Self = Self(4);

    /// What the device with these PCI numbers is, if it is a virtio device.
    pub fn of(vendor: u16, device: u16) -> Option<Self> {
        if vendor != VENDOR {
            return None;
        }
        let transitional = TRANSITIONAL_DEVICES.iter().find(|(number, _)| *number == device).map(|(_, kind)| *kind);
        let modern = device.checked_sub(MODERN_DEVICES).filter(|kind| (1..64).contains(kind)).map(Kind);
        transitional.or(modern)
    }
}

/// A piece of one of the device's windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which window: the number of its base address register.
    pub bar: u8,
    /// Where in it, in bytes.
    pub offset: u32,
    /// How long, in bytes.
    pub len_bytes: u32,
}

/// Where a device's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The registers that all devices have.
    pub common: Place,
    /// Where queues are notified.
    pub notify: Place,
    /// How far apart the queues' places are there, in bytes.
    pub notify_multiplier: u32,
    /// The interrupt status, for interrupts that are not messages.
    pub isr: Option<Place>,
    /// The registers that devices of its kind have.
    pub device: Option<Place>,
}

impl Layout {
    /// Reads the capabilities in a configuration space (the first 256 bytes of it); `None` if this is no virtio device of version 1.
    /// Of several capabilities of the same type the first counts, as the specification wants it.
    pub fn parse(configuration: &[u8]) -> Option<Self> {
        let mut common = None;
        let mut notify = None;
        let mut isr = None;
        let mut device = None;
        for at in vendor_capabilities(configuration) {
            let Some(place) = place(configuration, at) else { continue };
            let known = match byte(configuration, at + 3)? {
                1 => &mut common,
                2 if notify.is_none() => {
                    notify = Some((place, number(configuration, at + 16)?));
                    continue;
                }
                3 => &mut isr,
                4 => &mut device,
                _ => continue,
            };
            known.get_or_insert(place);
        }
        let (notify, notify_multiplier) = notify?;
        Some(Self { common: common?, notify, notify_multiplier, isr, device })
    }
}

/// Where the vendor capabilities are. Ends, also if they point at each other in a circle.
fn vendor_capabilities(configuration: &[u8]) -> impl Iterator<Item = usize> {
    let has_list = byte(configuration, 6).is_some_and(|status| status & 1 << 4 != 0);
    let mut next = if has_list { byte(configuration, 0x34) } else { None };
    let all = core::iter::from_fn(move || {
        let at = usize::from(next? & !3);
        next = byte(configuration, at + 1);
        (at >= 0x40).then_some(at)
    });
    all.take(MAX_CAPABILITIES).filter(|at| byte(configuration, *at) == Some(VENDOR_CAPABILITY))
}

fn place(configuration: &[u8], at: usize) -> Option<Place> {
    let place = Place {
        bar: byte(configuration, at + 4)?,
        offset: number(configuration, at + 8)?,
        len_bytes: number(configuration, at + 12)?,
    };
    (place.bar < 6).then_some(place)
}

fn byte(configuration: &[u8], at: usize) -> Option<u8> {
    configuration.get(at).copied()
}

fn number(configuration: &[u8], at: usize) -> Option<u32> {
    configuration.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn with_capabilities(capabilities: &[(u8, u8, u8, u32, u32)]) -> Vec<u8> {
        let mut space = vec![0; 256];
        space[6] = 0x10;
        space[0x34] = 0x40;
        for (index, (kind, which, bar, offset, len)) in capabilities.iter().enumerate() {
            let at = 0x40 + index * 20;
            let next = if index + 1 < capabilities.len() { at + 20 } else { 0 };
            space[at..at + 5].copy_from_slice(&[*kind, next as u8, 20, *which, *bar]);
            space[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
            space[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
            space[at + 16..at + 20].copy_from_slice(&4_u32.to_le_bytes());
        }
        space
    }

    #[test]
    fn the_layout_is_found_among_other_capabilities() {
        let space = with_capabilities(&[
            (0x11, 0, 1, 0, 0),
            (9, 1, 4, 0, 0x1000),
            (9, 3, 4, 0x1000, 0x1000),
            (9, 4, 4, 0x2000, 0x1000),
            (9, 2, 4, 0x3000, 0x1000),
            (9, 1, 2, 7, 7),
        ]);
        let layout = Layout::parse(&space).unwrap();
        assert_eq!(layout.common, Place { bar: 4, offset: 0, len_bytes: 0x1000 });
        assert_eq!(layout.notify.offset, 0x3000);
        assert_eq!(layout.notify_multiplier, 4);
        assert_eq!(layout.isr.unwrap().offset, 0x1000);
        assert_eq!(layout.device.unwrap().offset, 0x2000);
        assert_eq!(Layout::parse(&with_capabilities(&[(9, 1, 4, 0, 0x1000)])), None);
        assert_eq!(Layout::parse(&[]), None);
    }

    #[test]
    fn a_circle_of_capabilities_is_left() {
        let mut space = with_capabilities(&[(9, 1, 4, 0, 0x1000), (9, 2, 4, 0, 0x1000)]);
        space[0x40 + 20 + 1] = 0x40;
        assert!(Layout::parse(&space).is_some());
        space[0x40 + 3] = 77;
        assert_eq!(Layout::parse(&space), None);
    }

    #[test]
    fn devices_are_known_by_their_numbers() {
        assert_eq!(Kind::of(VENDOR, 0x1042), Some(Kind::BLOCK));
        assert_eq!(Kind::of(VENDOR, 0x1001), Some(Kind::BLOCK));
        assert_eq!(Kind::of(VENDOR, 0x1044), Some(Kind::ENTROPY));
        assert_eq!(Kind::of(VENDOR, 0x1040), None);
        assert_eq!(Kind::of(0x8086, 0x1042), None);
    }

    proptest! {
        #[test]
        fn no_configuration_space_panics(space in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Layout::parse(&space);
        }
    }
}
