//! The registers of a simulated device.

use super::{CONFIG, ISR, NOTIFY, SimulatedDevice, State};
use driver_runtime::simulation::Model;

impl Model for SimulatedDevice {
    fn read(&self, _: usize, offset: usize, width_bytes: usize) -> u64 {
        match offset {
            ..ISR => self.read_common(offset),
            ISR..CONFIG => 0,
            CONFIG..NOTIFY => {
                let config = &self.specification.borrow().config;
                let mut bytes = [0; 8];
                for (byte, at) in bytes.iter_mut().zip(offset - CONFIG..).take(width_bytes) {
                    *byte = config.get(at).copied().unwrap_or_default();
                }
                u64::from_le_bytes(bytes)
            }
            _ => 0,
        }
    }

    fn write(&self, _: usize, offset: usize, _: usize, value: u64) {
        match offset {
            ..ISR => self.write_common(offset, value),
            ISR..NOTIFY => {}
            _ => self.notifications.set(self.notifications.get() + 1),
        }
    }
}

impl SimulatedDevice {
    fn read_common(&self, offset: usize) -> u64 {
        let state = self.state.borrow();
        let specification = self.specification.borrow();
        let queue = state.queues.get(usize::from(state.queue_select)).copied();
        match offset {
            4 => match state.feature_select {
                0 => specification.features & 0xffff_ffff,
                1 => specification.features >> 32,
                _ => 0,
            },
            16 => state.config_vector.into(),
            18 => specification.queues as u64,
            20 => state.status.into(),
            24 => queue.map_or(0, |queue| if queue.size == 0 { specification.queue_size } else { queue.size }).into(),
            26 => queue.map_or(0xffff, |queue| queue.vector).into(),
            28 => queue.is_some_and(|queue| queue.is_enabled).into(),
            30 => state.queue_select.into(),
            _ => 0,
        }
    }

    fn write_common(&self, offset: usize, value: u64) {
        if offset == 20 {
            return self.write_status(value as u8);
        }
        let mut state = self.state.borrow_mut();
        let vector = if (value as usize) < self.interrupts.len() { value as u16 } else { 0xffff };
        match offset {
            0 => state.feature_select = value as u32,
            8 => state.driver_feature_select = value as u32,
            12 => {
                let shift = 32 * state.driver_feature_select.min(1);
                state.driver_features |= (value & 0xffff_ffff) << shift;
            }
            16 => state.config_vector = vector,
            22 => state.queue_select = value as u16,
            _ => write_queue(&mut state, offset, value, vector),
        }
    }

    fn write_status(&self, value: u8) {
        let mut state = self.state.borrow_mut();
        if value != 0 {
            let accepted = if self.refuses_features.get() { value & !8 } else { value };
            state.status = accepted | state.status & 64;
            return;
        }
        self.resets.set(self.resets.get() + 1);
        let queues = state.queues.len();
        *state = State { status: u8::from(self.sticks_in_reset.get()), ..State::default() };
        state.queues.resize(queues, Default::default());
    }
}

fn write_queue(state: &mut State, offset: usize, value: u64, vector: u16) {
    let select = usize::from(state.queue_select);
    let Some(queue) = state.queues.get_mut(select) else { return };
    let half = |old: u64, is_high: bool| {
        if is_high { old & 0xffff_ffff | value << 32 } else { old & !0xffff_ffff | value & 0xffff_ffff }
    };
    match offset {
        24 => queue.size = value as u16,
        26 => queue.vector = vector,
        28 => queue.is_enabled = value == 1,
        32 | 36 => queue.descriptors = half(queue.descriptors, offset == 36),
        40 | 44 => queue.available = half(queue.available, offset == 44),
        48 | 52 => queue.used = half(queue.used, offset == 52),
        _ => {}
    }
}
