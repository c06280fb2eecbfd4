//! The elements that ranks exchange, and their mean.

use std::ops::Range;

use half::{bf16, slice::HalfFloatSliceExt};

/// The type in which elements are exchanged. They are always added in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    #[default]
    F32,
    /// Rounded to nearest, ties to even: half the bytes. A group of one rank exchanges nothing and does not round.
    Bf16,
}

impl Precision {
    /// Bytes of an element.
    pub fn size_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A vector as it is exchanged.
#[derive(Debug, Clone)]
pub(crate) enum Wire {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Wire {
    pub(crate) fn encode(values: Vec<f32>, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(values),
            Precision::Bf16 => {
                let mut rounded = vec![bf16::ZERO; values.len()];
                rounded.convert_from_f32_slice(&values);
                Self::Bf16(rounded)
            }
        }
    }

    /// A buffer to receive into.
    #[cfg(feature = "mpi")]
    pub(crate) fn zeroed(len: usize, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(vec![0.0; len]),
            Precision::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
        }
    }

    #[cfg(feature = "mpi")]
    pub(crate) fn precision(&self) -> Precision {
        match self {
            Self::F32(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
        }
    }

    pub(crate) fn decode(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => values.to_f32_vec(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Adds the elements of `range`.
    fn add_to(&self, sum: &mut [f32], range: Range<usize>) {
        match self {
            Self::F32(values) => sum.iter_mut().zip(&values[range]).for_each(|(sum, x)| *sum += x),
            Self::Bf16(values) => sum.iter_mut().zip(&values[range]).for_each(|(sum, x)| *sum += x.to_f32()),
        }
    }
}

/// The mean of one contribution for each rank, added in the given order.
pub(crate) fn mean<'a>(contributions: impl IntoIterator<Item = (&'a Wire, Range<usize>)>) -> Vec<f32> {
    let mut contributions = contributions.into_iter();
    let mut sum = match contributions.next() {
        Some((Wire::F32(values), range)) => values[range].to_vec(),
        Some((Wire::Bf16(values), range)) => values[range].to_f32_vec(),
        None => Vec::new(),
    };
    let mut n = 1.0;
    for (wire, range) in contributions {
        wire.add_to(&mut sum, range);
        n += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= n);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_nearest_even() {
        // bf16 has 8 significant bits: the spacing above 256 is 2.
        let values = vec![1.0, 257.0, 259.0, -257.5, f32::INFINITY];
        let rounded = Wire::encode(values, Precision::Bf16).decode();
        assert_eq!(rounded, [1.0, 256.0, 260.0, -258.0, f32::INFINITY]);
        assert!(Wire::encode(vec![f32::NAN], Precision::Bf16).decode()[0].is_nan());
    }

    #[test]
    fn contributions_are_added_in_f32_and_in_the_given_order() {
        let wires = [1e8, 1.0, -1e8].map(|x| Wire::encode(vec![x], Precision::F32));
        let of = |order: [usize; 3]| mean(order.map(|idx| (&wires[idx], 0..1)));
        assert_eq!(of([0, 1, 2]), [0.0]);
        assert_eq!(of([0, 2, 1]), [1.0 / 3.0]);

        let wires = [256.0, 1.0].map(|x| Wire::encode(vec![x], Precision::Bf16));
        assert_eq!(mean(wires.iter().map(|wire| (wire, 0..1))), [128.5]);
    }
}
