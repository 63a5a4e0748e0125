//! Interrupts of devices.
//!
//! The life of one: a driver binds the interrupt to its queue, which unmasks it. When it comes in, the kernel masks it,
//! counts it, and completes in the queue. The driver looks after its device and acknowledges, which unmasks it. So a device
//! that never stops raising its line costs one interrupt per acknowledgement, and edge and level triggering are
//! served alike.
//!
//! Interrupts that a device raises by a message (MSI, MSI-X) have numbers of the same kind, which no input has. A message can't be
//! masked where it arrives: one that comes too early is remembered by the machine layer, as an edge is.

use crate::account::Account;
use crate::devices::{Hardware, InterruptMessage};
use crate::kernel::Kernel;
use crate::list::Links;
use crate::object::{Header, Node, cost};
use crate::pool::Id;
use crate::queue::Binding;
use quire_abi::Error;

/// Global system interrupts that can be owned.
pub const MAX_INTERRUPTS: usize = 256;

/// One interrupt.
#[derive(Debug)]
pub struct Interrupt {
    /// References and account.
    pub header: Header,
    /// Its place in the list of a queue that has no room.
    pub links: Links<Node>,
    /// Global system interrupt number (ACPI 6.5, 5.2.12), or one of those that no input has.
    pub gsi: u32,
    /// What raises it, if it has no line of its own.
    pub message: Option<InterruptMessage>,
    /// How often it came in.
    pub count: u64,
    /// Where it completes.
    pub binding: Option<Binding>,
    /// How far the present round is.
    pub phase: InterruptPhase,
}

/// Where an interrupt is between its device and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptPhase {
    /// Masked, because nobody listens.
    Unbound,
    /// Unmasked.
    Armed,
    /// Masked; the queue had no room to say so yet.
    Pending,
    /// Masked; the driver has been told and has not acknowledged.
    Told,
}

impl Kernel {
    /// Makes the interrupt with this number.
    ///
    /// # Errors
    /// `OutOfRange` if there is none, `Overlap` if somebody owns it, `NoMemory`, `AccountLimit`.
    pub fn create_interrupt(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        gsi: u32,
    ) -> Result<Id<Interrupt>, Error> {
        let index = gsi as usize;
        if index >= MAX_INTERRUPTS || !m.interrupt_exists(gsi) {
            return Err(Error::OutOfRange);
        }
        if self.interrupt_owners[index].is_some() {
            return Err(Error::Overlap);
        }
        self.add_interrupt(account, gsi, None)
    }

    /// Makes an interrupt that the device `requester` raises by a message.
    ///
    /// # Errors
    /// `Full` if there is no number left, `NoMemory`, `AccountLimit`.
    pub fn create_message_interrupt(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        requester: u16,
    ) -> Result<Id<Interrupt>, Error> {
        let mut free = (0u32..).zip(&self.interrupt_owners).filter(|(_, owner)| owner.is_none());
        let (number, message) =
            free.find_map(|(number, _)| Some((number, m.open_message(number, requester)?))).ok_or(Error::Full)?;
        self.add_interrupt(account, number, Some(message)).inspect_err(|_| m.close_message(number))
    }

    fn add_interrupt(
        &mut self,
        account: Id<Account>,
        gsi: u32,
        message: Option<InterruptMessage>,
    ) -> Result<Id<Interrupt>, Error> {
        self.charge(account, cost::INTERRUPT)?;
        let interrupt = Interrupt {
            header: Header::new(account),
            links: Links::new(),
            gsi,
            message,
            count: 0,
            binding: None,
            phase: InterruptPhase::Unbound,
        };
        let id = self.interrupts.insert(interrupt).map_err(|_| self.refund(account, cost::INTERRUPT))?;
        self.interrupt_owners[gsi as usize] = Some(id);
        Ok(id)
    }

    /// A device raised this interrupt. One that nobody owns stays masked.
    pub fn on_interrupt(&mut self, m: &mut impl Hardware, cpu: usize, gsi: u32) {
        self.cpu = cpu;
        m.mask_interrupt(gsi);
        let Some(id) = self.interrupt_owners.get(gsi as usize).copied().flatten() else { return };
        let interrupt = &mut self.interrupts[id];
        interrupt.count = interrupt.count.wrapping_add(1);
        if interrupt.phase != InterruptPhase::Armed {
            return;
        }
        interrupt.phase = InterruptPhase::Pending;
        let told = interrupt.binding.is_some_and(|binding| self.offer(m, binding, Node::Interrupt(id)));
        if !told {
            self.interrupts[id].phase = InterruptPhase::Unbound;
        }
        self.reap(m);
    }

    /// Lets the next one in.
    pub(crate) fn acknowledge_interrupt(&mut self, m: &mut impl Hardware, id: Id<Interrupt>) -> Result<(), Error> {
        let interrupt = &mut self.interrupts[id];
        if interrupt.phase != InterruptPhase::Told {
            return Err(Error::BadState);
        }
        interrupt.phase = InterruptPhase::Armed;
        m.unmask_interrupt(interrupt.gsi);
        Ok(())
    }

    /// Binds it to a queue, or to none. A round that was under way starts over.
    pub(crate) fn bind_interrupt(&mut self, m: &mut impl Hardware, id: Id<Interrupt>, binding: Option<Binding>) {
        let interrupt = &mut self.interrupts[id];
        let (phase, gsi, old) = (interrupt.phase, interrupt.gsi, interrupt.binding);
        if phase == InterruptPhase::Pending {
            self.withdraw(old, Node::Interrupt(id));
        }
        let interrupt = &mut self.interrupts[id];
        interrupt.binding = binding;
        if binding.is_some() {
            interrupt.phase = InterruptPhase::Armed;
            m.unmask_interrupt(gsi);
        } else {
            interrupt.phase = InterruptPhase::Unbound;
            m.mask_interrupt(gsi);
        }
    }

    pub(crate) fn destroy_interrupt(&mut self, m: &mut impl Hardware, id: Id<Interrupt>) {
        self.bind_interrupt(m, id, None);
        if let Some(interrupt) = self.interrupts.remove(id) {
            if interrupt.message.is_some() {
                m.close_message(interrupt.gsi);
            }
            self.interrupt_owners[interrupt.gsi as usize] = None;
            self.credit(interrupt.header.account, cost::INTERRUPT);
        }
    }
}
