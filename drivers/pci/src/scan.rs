//! Which functions there are.

use crate::header::{Header, Layout};
use crate::{ConfigurationSpaces, Function};
use alloc::vec;
use alloc::vec::Vec;

const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;
const BUSES: usize = 256;

/// Finds all functions on bus `root` and on those behind bridges, up to bus `last`, in the order of their numbers on each bus. Each bus
/// is looked at once, wherever bridges claim to lead.
pub fn scan(spaces: &impl ConfigurationSpaces, root: u8, last: u8) -> Vec<(Function, Header)> {
    let mut found = Vec::new();
    let mut is_known = [false; BUSES];
    let mut buses = vec![root];
    while let Some(bus) = buses.pop() {
        match is_known.get_mut(usize::from(bus)) {
            Some(is_known) if !*is_known && bus <= last => *is_known = true,
            Some(_) | None => continue,
        }
        let first = found.len();
        (0..DEVICES).for_each(|device| scan_device(spaces, bus, device, &mut found));
        for (_, header) in found.iter().skip(first) {
            if let Layout::Bridge { secondary, last: _ } = header.layout {
                buses.push(secondary);
            }
        }
    }
    found
}

fn scan_device(spaces: &impl ConfigurationSpaces, bus: u8, device: u8, found: &mut Vec<(Function, Header)>) {
    let first = Function::new(bus, device, 0);
    let Some(header) = Header::read(spaces, first) else { return };
    found.push((first, header));
    if header.has_siblings {
        let others = (1..FUNCTIONS).map(|number| Function::new(bus, device, number));
        found.extend(others.filter_map(|function| Some((function, Header::read(spaces, function)?))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Machine;

    #[test]
    fn functions_are_found_behind_bridges_and_each_once() {
        let mut machine = Machine::default();
        machine.device(Function::new(0, 0, 0), 0x8086, 0x29c0);
        machine.device(Function::new(0, 31, 0), 0x8086, 0x2918);
        machine.device(Function::new(0, 31, 2), 0x8086, 0x2922);
        machine.siblings(Function::new(0, 31, 0));
        machine.bridge(Function::new(0, 2, 0), 1);
        machine.bridge(Function::new(1, 0, 0), 0);
        machine.bridge(Function::new(1, 1, 0), 200);
        machine.device(Function::new(1, 5, 0), 0x1af4, 0x1042);
        machine.device(Function::new(200, 5, 0), 0x1af4, 0x1044);
        // Not the first function of a device, and the first says that it has no siblings.
        machine.device(Function::new(0, 0, 3), 0x1234, 0x5678);
        let found: Vec<Function> = scan(&machine, 0, 100).into_iter().map(|(function, _)| function).collect();
        let expected = [(0, 0, 0), (0, 2, 0), (0, 31, 0), (0, 31, 2), (1, 0, 0), (1, 1, 0), (1, 5, 0)]
            .map(|(b, d, f)| Function::new(b, d, f));
        assert_eq!(found, expected);
        assert_eq!(scan(&machine, 0, 255).len(), 8);
    }
}
