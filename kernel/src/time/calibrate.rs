//! How fast the time-stamp counter and the local APIC's timer tick, measured against a clock of known rate.

use crate::direct_map;
use crate::firmware::Platform;
use crate::interrupts::local_apic;
use crate::memory_map::Range;
use crate::paging::{self, KernelTables};
use crate::time::{self, timer, tsc};
use log::{debug, info};
use x86_64::instructions::port::Port;

/// How long to measure, in reference ticks per second divided by this: 4 ms.
const FRACTION: u64 = 250;
/// Rate of the power-management timer (ACPI 6.5, 4.8.2.1).
const PM_TIMER_HZ: u64 = 3_579_545;
/// The power-management timer has at least this many bits.
const PM_TIMER_MASK: u32 = 0x00ff_ffff;
/// How often a moment is taken; the most precise counts.
const ATTEMPTS: u32 = 8;
/// Reads of the reference without any progress before it is given up.
const PATIENCE: u32 = 10_000_000;

/// Registers of the HPET (IA-PC HPET specification 1.0a, 2.3).
mod hpet {
    pub(super) const CAPABILITIES: u64 = 0x00;
    pub(super) const CONFIGURATION: u64 = 0x10;
    pub(super) const COUNTER: u64 = 0xf0;
    pub(super) const REGISTER_BYTES: u64 = 0x400;
    pub(super) const ENABLE: u64 = 1;
    pub(super) const FS_PER_S: u64 = 1_000_000_000_000_000;
}

/// Why there is no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalibrationError {
    /// The machine has neither an HPET nor a power-management timer.
    NoReference,
    /// The reference does not count.
    Stuck,
}

/// A clock of known rate.
enum Reference {
    Hpet { registers: u64, hz: u64 },
    PmTimer { port: u16 },
}

impl Reference {
    fn find(platform: &Platform) -> Option<Self> {
        platform.hpet.and_then(Self::hpet).or(platform.pm_timer.map(|port| Self::PmTimer { port }))
    }

    fn hpet(address: u64) -> Option<Self> {
        KernelTables::active().map_direct(Range::new(address, hpet::REGISTER_BYTES), paging::DEVICE).ok()?;
        let registers = direct_map::BASE + address;
        // SAFETY: the registers were just mapped; starting the counter raises no interrupt.
        let period_fs = unsafe {
            let configuration = (registers + hpet::CONFIGURATION) as *mut u64;
            configuration.write_volatile(configuration.read_volatile() | hpet::ENABLE);
            ((registers + hpet::CAPABILITIES) as *const u64).read_volatile() >> 32
        };
        let hz = hpet::FS_PER_S.checked_div(period_fs)?;
        Some(Self::Hpet { registers, hz })
    }

    fn hz(&self) -> u64 {
        match self {
            Self::Hpet { hz, .. } => *hz,
            Self::PmTimer { .. } => PM_TIMER_HZ,
        }
    }

    fn read(&self) -> u32 {
        match self {
            // SAFETY: `hpet` mapped the registers; reading the counter's lower half has no effect.
            Self::Hpet { registers, .. } => unsafe { ((registers + hpet::COUNTER) as *const u32).read_volatile() },
            // SAFETY: the firmware says that the timer is at this port; reading it has no effect.
            Self::PmTimer { port } => unsafe { Port::<u32>::new(*port).read() & PM_TIMER_MASK },
        }
    }

    fn elapsed(&self, from: u32, to: u32) -> u64 {
        match self {
            Self::Hpet { .. } => to.wrapping_sub(from).into(),
            Self::PmTimer { .. } => (to.wrapping_sub(from) & PM_TIMER_MASK).into(),
        }
    }

    /// Reference, time-stamp counter and APIC timer at one moment, as close together as a few attempts get.
    fn moment(&self) -> (u32, u64, u32) {
        let attempt = |_| {
            let before = tsc();
            let reference = self.read();
            let apic = local_apic::measured();
            let after = tsc();
            (after - before, (reference, before + (after - before) / 2, apic))
        };
        (0..ATTEMPTS).map(attempt).min_by_key(|(width, _)| *width).map_or((0, 0, 0), |(_, moment)| moment)
    }
}

/// Measures both rates and sets clock and timer by them. Interrupts are off; takes about 4 ms.
///
/// # Errors
/// [`CalibrationError`]
pub(crate) fn calibrate(platform: &Platform) -> Result<(), CalibrationError> {
    let reference = Reference::find(platform).ok_or(CalibrationError::NoReference)?;
    local_apic::start_measuring();
    let start = reference.moment();
    let wanted = reference.hz() / FRACTION;
    let mut reads = 0;
    while reference.elapsed(start.0, reference.read()) < wanted {
        reads += 1;
        if reads > PATIENCE {
            return Err(CalibrationError::Stuck);
        }
    }
    let end = reference.moment();
    local_apic::stop_measuring();

    let ticks = reference.elapsed(start.0, end.0);
    let hz = |counted: u64| (u128::from(counted) * u128::from(reference.hz()) / u128::from(ticks.max(1))) as u64;
    let tsc_hz = hz(end.1.saturating_sub(start.1));
    let apic_hz = hz(end.2.saturating_sub(start.2).into());
    time::set_rate(tsc_hz);
    timer::set_rate(apic_hz);
    let name = match reference {
        Reference::Hpet { .. } => "HPET",
        Reference::PmTimer { .. } => "power-management timer",
    };
    info!("time-stamp counter at {} MHz, by the {name}", tsc_hz / 1_000_000);
    debug!("local APIC timer at {} MHz", apic_hz / 1_000_000);
    Ok(())
}
