//! Work on all cores.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range, slice};

use rayon::prelude::*;

use crate::spin_pool;

/// Minimum work of a task, in elements touched: some tens of microseconds.
pub(super) const WORTH_SHARING: usize = 1 << 14;

/// Calls `task` with each of `0..n`, on all cores.
pub(crate) fn each(n: usize, task: impl Fn(usize) + Send + Sync) {
    each_of(n, None, task);
}

/// As [`each`]. If `n_elements` is known, the tasks take about the same time and touch as many elements together.
fn each_of(n: usize, n_elements: Option<usize>, task: impl Fn(usize) + Send + Sync) {
    match n {
        0 => {}
        1 => task(0),
        _ if spin_pool::each(n, n_elements, &task) => {}
        _ => (0..n).into_par_iter().with_max_len(1).for_each(task),
    }
}

/// Splits `0..n` into even pieces and calls `task` with each, on all cores. Pieces are multiples of `unit`, except the
/// last. `cost` is the number of elements touched per index.
pub(crate) fn pieces(n: usize, unit: usize, cost: usize, task: impl Fn(Range<usize>) + Sync) {
    let n_units = n.div_ceil(unit);
    // Several pieces per core balance the load if a core is interrupted.
    let n_pieces = (n * cost / WORTH_SHARING).clamp(1, 4 * rayon::current_num_threads()).min(n_units.max(1));
    let piece = n_units.div_ceil(n_pieces) * unit;
    each_of(n_pieces, Some(n * cost), |idx| {
        let range = (idx * piece).min(n)..((idx + 1) * piece).min(n);
        if !range.is_empty() {
            task(range);
        }
    });
}

/// Calls `task` with pieces of `piece` indices, on all cores, and adds up the results in order.
pub(crate) fn sum_pieces(n: usize, piece: usize, task: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    let sum_of = |idx: usize| task(idx * piece..((idx + 1) * piece).min(n));
    let sums: Vec<f64> = (0..n.div_ceil(piece)).into_par_iter().map(sum_of).collect();
    sums.into_iter().sum()
}

/// A mutable slice that tasks share, each writing its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice, borrowed in parts that do not overlap (the condition of `part`).
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

    /// Borrows a part.
    ///
    /// # Safety
    ///
    /// No two parts alive at the same time overlap.
    ///
    /// # Panics
    ///
    /// If the range is outside the slice.
    #[inline(always)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is outside {}", self.len);
        // SAFETY: the range is inside the slice, which is borrowed for 'a. The caller guarantees that no other
        // reference to it is alive.
        unsafe { slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}

/// Returns `n` elements, filled on all cores by tasks with a range each. Ranges are multiples of `unit` elements and
/// start as zeros.
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
        // SAFETY: `pieces` splits 0..n into ranges that do not overlap.
        task(range.clone(), unsafe { shared.zeroed(range) });
    });
    // SAFETY: the pieces cover 0..n.
    unsafe { buffer.finish() }
}

/// An uninitialised buffer that tasks fill in parallel, each its own parts.
pub(crate) struct Buffer {
    data: Vec<MaybeUninit<f32>>,
}

impl Buffer {
    pub(crate) fn new(n: usize) -> Self {
        let mut data = Vec::with_capacity(n);
        // SAFETY: the capacity is n, and `MaybeUninit` needs no value.
        unsafe { data.set_len(n) };
        Self { data }
    }

    pub(crate) fn shared(&mut self) -> SharedBuffer<'_> {
        let start = self.data.as_mut_ptr().cast();
        SharedBuffer(Shared { start, len: self.data.len(), lifetime: PhantomData })
    }

    /// The filled buffer.
    ///
    /// # Safety
    ///
    /// Every element was in a range given to [`SharedBuffer::zeroed`].
    pub(crate) unsafe fn finish(self) -> Vec<f32> {
        let mut data = std::mem::ManuallyDrop::new(self.data);
        let (start, len, capacity) = (data.as_mut_ptr().cast(), data.len(), data.capacity());
        // SAFETY: they come from a vector whose elements have the same layout, and the caller guarantees that all
        // elements are initialised.
        unsafe { Vec::from_raw_parts(start, len, capacity) }
    }
}

/// Access to a [`Buffer`] for tasks that fill it.
#[derive(Clone, Copy)]
pub(crate) struct SharedBuffer<'a>(Shared<'a>);

impl<'a> SharedBuffer<'a> {
    /// Borrows a part, set to zero.
    ///
    /// # Safety
    ///
    /// No two parts alive at the same time overlap.
    ///
    /// # Panics
    ///
    /// If the range is outside the buffer.
    #[inline(always)]
    pub(crate) unsafe fn zeroed(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.0.len, "{range:?} is outside {}", self.0.len);
        // SAFETY: zero bytes are the value 0.0, and the range is inside the buffer. Then the part is initialised,
        // and the caller guarantees that no other reference to it is alive.
        unsafe {
            self.0.start.add(range.start).write_bytes(0, range.end - range.start);
            self.0.part(range)
        }
    }

    /// Borrows a part that is already initialised.
    ///
    /// # Safety
    ///
    /// The range was inside one given to [`Self::zeroed`], and no two parts alive at the same time overlap.
    #[inline(always)]
    pub(crate) unsafe fn written(&self, range: Range<usize>) -> &'a mut [f32] {
        // SAFETY: the caller guarantees it.
        unsafe { self.0.part(range) }
    }
}
