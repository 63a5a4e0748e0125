//! Bringing devices up that do what they should, and others.

use super::*;
use crate::simulation::{ALL_FEATURES, BAR, SimulatedDevice, Specification};
use driver_runtime::simulation::{Frames, SimulatedDma, SimulatedWindow};
use std::vec;

const OWN_FEATURE: u64 = 1 << 9;
const UNWANTED_FEATURE: u64 = 1 << 11;

fn simulated() -> (Rc<SimulatedDevice>, Device<SimulatedWindow<SimulatedDevice>>) {
    let frames = Rc::default();
    let specification = Specification {
        features: ALL_FEATURES | OWN_FEATURE | UNWANTED_FEATURE,
        config: vec![1, 2, 3, 4],
        queues: 2,
        queue_size: 64,
    };
    let simulated = SimulatedDevice::new(&frames, specification, 2);
    let layout = Layout::parse(&simulated.configuration()).unwrap();
    let window = simulated.window();
    let device = Device::new(&layout, |bar| (bar == BAR).then(|| window.clone())).unwrap();
    (simulated, device)
}

fn queue(simulated: &SimulatedDevice, size: u16) -> Queue<impl DmaMemory> {
    Queue::new(&SimulatedDma::new(&simulated.frames, 8), size, true).unwrap()
}

#[test]
fn a_device_is_brought_up() {
    let (simulated, device) = simulated();
    device.reset().unwrap();
    assert!(device.is_reset().unwrap());
    let wanted = Features::EVENT_INDEX | Features::INDIRECT_DESCRIPTORS | Features::from_bits_retain(1 << 14);
    let agreed = device.negotiate(Features::from_bits_retain(OWN_FEATURE), wanted).unwrap();
    assert_eq!(agreed.bits(), ALL_FEATURES | OWN_FEATURE);
    assert_eq!(simulated.driver_features(), agreed.bits());
    assert_eq!(device.queue_count(), Ok(2));
    let queue = queue(&simulated, 64);
    let doorbell = device.set_up_queue(1, &queue, 1).unwrap();
    device.start().unwrap();
    assert!(simulated.is_running());
    device.notify(doorbell).unwrap();
    assert_eq!(simulated.notifications.get(), 1);
    let read = |config: &Part<_>| Ok(Register::<u16>::at(2).read(config)?);
    assert_eq!(device.config(read), Ok(0x0403));
}

#[test]
fn what_goes_through_the_iommu_is_never_declined() {
    let (simulated, device) = simulated();
    simulated.specification.borrow_mut().features |= Features::ACCESS_PLATFORM.bits();
    let agreed = device.negotiate(Features::empty(), Features::empty()).unwrap();
    assert_eq!(agreed, Features::VERSION_1 | Features::ACCESS_PLATFORM);
}

#[test]
fn devices_that_can_not_be_used_are_not() {
    let (simulated, device) = simulated();
    simulated.specification.borrow_mut().features = OWN_FEATURE;
    assert_eq!(device.negotiate(Features::empty(), Features::empty()), Err(Error::LacksFeatures));
    simulated.specification.borrow_mut().features = ALL_FEATURES;
    let demanded = Features::from_bits_retain(OWN_FEATURE);
    assert_eq!(device.negotiate(demanded, Features::empty()), Err(Error::LacksFeatures));
    simulated.refuses_features.set(true);
    assert_eq!(device.negotiate(Features::empty(), Features::empty()), Err(Error::RefusesFeatures));
    simulated.sticks_in_reset.set(true);
    device.reset().unwrap();
    assert_eq!(device.is_reset(), Ok(false));
    simulated.is_gone.set(true);
    assert_eq!(device.is_reset(), Err(Error::Unreachable));
    assert_eq!(device.check(), Err(Error::Unreachable));
}

#[test]
fn queues_and_vectors_that_are_not_there_are_refused() {
    let (simulated, device) = simulated();
    let small = queue(&simulated, 32);
    assert_eq!(device.set_up_queue(2, &small, 0), Err(Error::NoQueue));
    assert_eq!(device.set_up_queue(0, &small, 2), Err(Error::NoQueue));
    assert_eq!(device.set_up_queue(0, &queue(&simulated, 128), 0), Err(Error::NoQueue));
    assert!(device.set_up_queue(0, &small, NO_VECTOR).is_ok());
    assert_eq!(device.set_config_vector(7), Err(Error::NoQueue));
    simulated.specification.borrow_mut().queue_size = 100;
    assert_eq!(device.max_queue_size(1), Err(Error::NoQueue));
}

#[test]
fn a_device_without_its_registers_is_none() {
    let frames: Rc<Frames> = Rc::default();
    let specification = Specification { features: ALL_FEATURES, config: vec![], queues: 1, queue_size: 8 };
    let simulated = SimulatedDevice::new(&frames, specification, 1);
    let layout = Layout::parse(&simulated.configuration()).unwrap();
    let window = simulated.window();
    assert_eq!(Device::<SimulatedWindow<SimulatedDevice>>::new(&layout, |_| None).err(), Some(Error::NotVirtio));
    let common = Place { offset: u32::MAX, ..layout.common };
    let askew = Layout { common, ..layout };
    assert_eq!(Device::new(&askew, |_| Some(window.clone())).err(), Some(Error::NotVirtio));
    let short = Layout { common: Place { len_bytes: 4, ..layout.common }, ..layout };
    let device = Device::new(&short, |_| Some(window.clone())).unwrap();
    assert_eq!(device.reset(), Err(Error::Unreachable));
}
