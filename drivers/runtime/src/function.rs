//! The objects of a PCI function that the device manager hands to its driver.

use crate::DmaPool;
use alloc::rc::Rc;
use alloc::vec::Vec;
use driver_protocol::purpose::{self, MAX_MESSAGES, MAX_WINDOWS};
use quire_api::executor::Interrupts;
use quire_api::rt::{self, Startup};
use quire_api::{DmaSpace, Error, Executor, Interrupt, Memory, RegisterWindow};

/// Bytes of a configuration space that drivers look at.
const CONFIGURATION_BYTES: usize = 256;

/// A PCI function.
#[derive(Debug)]
pub struct PciFunction {
    /// The first bytes of its configuration space.
    pub configuration: [u8; CONFIGURATION_BYTES],
    windows: [Option<Rc<RegisterWindow>>; MAX_WINDOWS as usize],
    /// What it reaches of memory.
    pub space: Rc<DmaSpace>,
    /// Its interrupts, by the numbers of their messages.
    pub interrupts: Vec<Interrupts>,
}

impl PciFunction {
    /// Takes what a program was given at its start.
    pub fn take(executor: &Executor, startup: &Startup) -> Result<Self, Error> {
        let mut configuration = [0; CONFIGURATION_BYTES];
        startup.take::<Memory>(purpose::CONFIGURATION)?.read_exact(0, &mut configuration)?;
        let mut windows: [Option<Rc<RegisterWindow>>; MAX_WINDOWS as usize] = Default::default();
        for (bar, window) in (0..MAX_WINDOWS).zip(&mut windows) {
            if let Ok(memory) = startup.take::<Memory>(purpose::window(bar)) {
                let len_bytes = memory.info()?.size;
                *window = Some(Rc::new(RegisterWindow::map(&memory, 0, len_bytes)?));
            }
        }
        let given = (0..MAX_MESSAGES).map_while(|number| startup.take::<Interrupt>(purpose::message(number)).ok());
        Ok(Self {
            configuration,
            windows,
            space: Rc::new(startup.take(purpose::DMA)?),
            interrupts: given.map(|interrupt| executor.interrupts(interrupt)).collect::<Result<_, _>>()?,
        })
    }

    /// Its window with this base address register, if it has that.
    pub fn window(&self, bar: u8) -> Option<Rc<RegisterWindow>> {
        self.windows.get(usize::from(bar)).cloned().flatten()
    }

    /// Memory for it, which the program's account pays for.
    pub fn memory(&self) -> Result<DmaPool<'static>, Error> {
        Ok(DmaPool::new(rt::account()?, &self.space))
    }
}
