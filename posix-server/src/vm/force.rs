//! Looking into a space as a debugger does: past the protection of its areas.

use super::{Area, Vm};
use crate::platform::{Change, PAGE_SIZE, Protection, Sharing};
use crate::user::USER_END;

/// What is to be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Access {
    /// The protection that it needs and an area does not have. `None`: it is not to be had, or there already.
    fn missing(self, area: &Area) -> Option<Protection> {
        let needed = match self {
            Self::Read => Protection::READ,
            // What others see, too, stays as it is; of all else the space gets a copy.
            Self::Write if area.sharing == Sharing::Shared => return None,
            Self::Write => Protection::READ | Protection::WRITE,
        };
        if area.protection.contains(needed) || !area.allowed.contains(needed) { None } else { Some(needed) }
    }
}

impl Vm {
    /// Reads also what the program itself can't read; returns how many bytes.
    pub fn read_by_force(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = address.wrapping_add(done as u64);
            let mut moved = self.space.read(at, rest);
            if moved == 0 {
                let part = rest.get_mut(..bytes_in_page(at, rest.len())).unwrap_or_default();
                moved = self.forced(at, Access::Read, || self.space.read(at, part));
            }
            if moved == 0 {
                break;
            }
            done += moved;
        }
        done
    }

    /// Writes also to private pages that are read-only, of which the space gets copies; returns how many bytes.
    pub fn write_by_force(&self, address: u64, bytes: &[u8]) -> usize {
        let is_program = address.checked_add(bytes.len() as u64).is_some_and(|end| end <= USER_END);
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| is_program && !rest.is_empty()) {
            let at = address.wrapping_add(done as u64);
            let mut moved = self.space.write(at, rest);
            if moved == 0 {
                let part = rest.get(..bytes_in_page(at, rest.len())).unwrap_or_default();
                moved = self.forced(at, Access::Write, || self.space.write(at, part));
            }
            if moved == 0 {
                break;
            }
            done += moved;
        }
        done
    }

    /// Does something to a page while its protection allows it.
    fn forced(&self, address: u64, access: Access, act: impl FnOnce() -> usize) -> usize {
        let Some(area) = self.area_at(address) else { return 0 };
        let Some(missing) = access.missing(&area) else { return 0 };
        let page = address / PAGE_SIZE * PAGE_SIZE;
        let change = |protection| Change::Protect { address: page, length: PAGE_SIZE, protection };
        if self.space.commit(&[change(area.protection | missing)]).is_err() {
            return 0;
        }
        let moved = act();
        // The page joins its neighbours again, for which nothing is needed.
        let _ = self.space.commit(&[change(area.protection)]);
        moved
    }
}

fn bytes_in_page(address: u64, length: usize) -> usize {
    length.min((PAGE_SIZE - address % PAGE_SIZE) as usize)
}
