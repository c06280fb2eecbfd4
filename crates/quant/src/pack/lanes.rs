//! Arithmetic on one value of each group of a block.
//!
//! A vector instruction handles all groups, and the sums within a group stay in order.

use std::ops::{Add, Div, Mul, Sub};

/// A value of each of `G` groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lanes<const G: usize>(pub(super) [f32; G]);

/// `N` values of each of `G` groups.
pub(super) type Columns<const G: usize, const N: usize> = [Lanes<G>; N];

impl<const G: usize> Lanes<G> {
    #[inline(always)]
    pub(super) fn splat(value: f32) -> Self {
        Self([value; G])
    }

    #[inline(always)]
    pub(super) fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for value in &mut self.0 {
            *value = f(*value);
        }
        self
    }

    #[inline(always)]
    pub(super) fn zip(mut self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for (value, other) in self.0.iter_mut().zip(other.0) {
            *value = f(*value, other);
        }
        self
    }

    /// `other` where `replace` holds.
    #[inline(always)]
    pub(super) fn replace(mut self, replace: [bool; G], other: Self) -> Self {
        for ((value, other), replace) in self.0.iter_mut().zip(other.0).zip(replace) {
            *value = if replace { other } else { *value };
        }
        self
    }

    #[inline(always)]
    pub(super) fn test(self, other: Self, test: impl Fn(f32, f32) -> bool) -> [bool; G] {
        std::array::from_fn(|group| test(self.0[group], other.0[group]))
    }
}

macro_rules! operator {
    ($operator:ident, $function:ident) => {
        impl<const G: usize> $operator for Lanes<G> {
            type Output = Self;

            #[inline(always)]
            fn $function(self, other: Self) -> Self {
                self.zip(other, $operator::$function)
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

/// The groups of a block, side by side.
#[inline(always)]
pub(super) fn columns<const G: usize, const N: usize>(values: &[f32; 256]) -> Columns<G, N> {
    const { assert!(G * N == 256) };
    std::array::from_fn(|idx| Lanes(std::array::from_fn(|group| values[group * N + idx])))
}

/// The quanta of a block, group after group.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "quanta are from 0 to 63")]
pub(super) fn quanta<const G: usize, const N: usize>(columns: &Columns<G, N>) -> [u8; 256] {
    const { assert!(G * N == 256) };
    std::array::from_fn(|idx| columns[idx % N].0[idx / N] as u8)
}

/// The nearest integer, ties to even, of a value below 2²²; larger ones stay large.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    /// 1.5 · 2²³: from 2²³ to 2²⁴, an `f32` has no fraction.
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}
