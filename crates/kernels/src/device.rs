//! The one place where tests take their device from.

use burn::prelude::Device;

/// The device that tests run on: the one `KINDLING_TEST_DEVICE` names, else the CPU.
///
/// Every crate's tests call this, so the same tests run on each backend that is compiled in.
///
/// # Panics
///
/// If the variable names a device that is not compiled in.
pub fn test_device() -> Device {
    let name = std::env::var("KINDLING_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    match name.as_str() {
        "cpu" => Device::flex(),
        _ => panic!("KINDLING_TEST_DEVICE is {name:?}, which is not compiled into these tests"),
    }
}
