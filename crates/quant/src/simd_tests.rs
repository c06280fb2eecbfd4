//! All instruction sets give the same bits.

use pulp::Arch;

use crate::{Format, pack::Pack, scales::FirstBad, unpack::Unpack};

/// All instruction sets of this machine. The first is plain Rust.
fn archs() -> Vec<Arch> {
    let mut archs = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        archs.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    #[cfg(target_arch = "aarch64")]
    archs.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
    archs
}

#[test]
fn instruction_sets_agree() {
    let values: Vec<f32> =
        (0_u16..1024).map(|idx| (f32::from(idx) * 0.7).sin() / f32::from(idx % 37 + 1)).collect();
    for format in Format::ALL {
        let results: Vec<_> = archs()
            .into_iter()
            .map(|arch| {
                let mut bytes = vec![0; format.row_bytes(values.len())];
                arch.dispatch(Pack { format, values: &values, bytes: &mut bytes }).unwrap();
                let mut unpacked = vec![0.0; values.len()];
                arch.dispatch(Unpack { format, bytes: &bytes, values: &mut unpacked });
                assert_eq!(arch.dispatch(FirstBad { format, bytes: &bytes }), None);
                (bytes, unpacked.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]), "{format}");
    }
}
