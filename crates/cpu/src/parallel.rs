//! Work on all cores.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range, slice};

use rayon::prelude::*;

/// Work worth giving to another core, in elements touched: what takes tens of microseconds.
pub(super) const WORTH_SHARING: usize = 1 << 14;

/// Calls `task` with each of `0..n`, on all cores.
pub(crate) fn each(n: usize, task: impl Fn(usize) + Send + Sync) {
    match n {
        0 => {}
        1 => task(0),
        _ => (0..n).into_par_iter().with_max_len(1).for_each(task),
    }
}

/// Cuts `0..n` into even pieces, each a multiple of `unit` but for the last, and calls `task` with each, on
/// all cores. `cost` is the number of elements touched for each of the n.
pub(crate) fn pieces(n: usize, unit: usize, cost: usize, task: impl Fn(Range<usize>) + Sync) {
    let n_units = n.div_ceil(unit);
    // A few pieces for each core even out what one of them is kept from.
    let n_pieces = (n * cost / WORTH_SHARING).clamp(1, 4 * rayon::current_num_threads()).min(n_units.max(1));
    let piece = n_units.div_ceil(n_pieces) * unit;
    each(n_pieces, |idx| {
        let range = (idx * piece).min(n)..((idx + 1) * piece).min(n);
        if !range.is_empty() {
            task(range);
        }
    });
}

/// As [`pieces`], and adds up what the tasks return, in order.
pub(crate) fn sum_pieces(n: usize, piece: usize, task: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    let sum_of = |idx: usize| task(idx * piece..((idx + 1) * piece).min(n));
    let sums: Vec<f64> = (0..n.div_ceil(piece)).into_par_iter().map(sum_of).collect();
    sums.into_iter().sum()
}

/// A slice that tasks write at the same time, each its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice, handed out in parts that do not overlap (`part` says so).
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    ///
    /// No two parts alive at the same time overlap.
    ///
    /// # Panics
    ///
    /// If the slice is shorter.
    #[inline(always)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is outside {}", self.len);
        // SAFETY: the range is inside the slice, which is borrowed for 'a; that nothing else looks at it is
        // the caller's promise.
        unsafe { slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}

/// `n` numbers made by tasks that each fill their own range, on all cores: of `unit` numbers and whole
/// multiples of it. A task finds zeros in its range.
pub(crate) fn fill(
    n: usize,
    unit: usize,
    cost: usize,
    task: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut buffer = Buffer::new(n);
    let shared = buffer.shared();
    pieces(n.div_ceil(unit), 1, unit * cost, |units| {
        let range = units.start * unit..(units.end * unit).min(n);
        // SAFETY: `pieces` cuts 0..n into ranges that do not overlap.
        task(range.clone(), unsafe { shared.zeroed(range) });
    });
    // SAFETY: the pieces cover 0..n.
    unsafe { buffer.finish() }
}

/// Memory that tasks fill at the same time, each its own parts, without a pass over it beforehand.
pub(crate) struct Buffer {
    memory: Vec<MaybeUninit<f32>>,
}

impl Buffer {
    pub(crate) fn new(n: usize) -> Self {
        let mut memory = Vec::with_capacity(n);
        // SAFETY: the capacity is n, and `MaybeUninit` needs no value.
        unsafe { memory.set_len(n) };
        Self { memory }
    }

    pub(crate) fn shared(&mut self) -> SharedBuffer<'_> {
        let start = self.memory.as_mut_ptr().cast();
        SharedBuffer(Shared { start, len: self.memory.len(), lifetime: PhantomData })
    }

    /// # Safety
    ///
    /// Every number has been part of a range given to [`SharedBuffer::zeroed`].
    pub(crate) unsafe fn finish(self) -> Vec<f32> {
        let mut memory = std::mem::ManuallyDrop::new(self.memory);
        let (start, len, capacity) = (memory.as_mut_ptr().cast(), memory.len(), memory.capacity());
        // SAFETY: the parts are those of a vector whose elements have the same layout, and the caller says
        // that all of them have been written.
        unsafe { Vec::from_raw_parts(start, len, capacity) }
    }
}

/// The parts of a [`Buffer`].
#[derive(Clone, Copy)]
pub(crate) struct SharedBuffer<'a>(Shared<'a>);

impl<'a> SharedBuffer<'a> {
    /// A part, set to zero.
    ///
    /// # Safety
    ///
    /// No two parts alive at the same time overlap.
    ///
    /// # Panics
    ///
    /// If the buffer is shorter.
    #[inline(always)]
    pub(crate) unsafe fn zeroed(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.0.len, "{range:?} is outside {}", self.0.len);
        // SAFETY: zero bytes are the number 0.0, and the range is inside the memory. Once written, it is a
        // part as any other.
        unsafe {
            self.0.start.add(range.start).write_bytes(0, range.end - range.start);
            self.0.part(range)
        }
    }

    /// A part that has been written before.
    ///
    /// # Safety
    ///
    /// The range was part of one given to [`Self::zeroed`], and no two parts alive at the same time overlap.
    #[inline(always)]
    pub(crate) unsafe fn written(&self, range: Range<usize>) -> &'a mut [f32] {
        // SAFETY: it is what the caller promises.
        unsafe { self.0.part(range) }
    }
}
