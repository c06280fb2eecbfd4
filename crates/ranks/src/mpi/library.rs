//! The calls of the MPI library. Operations own their buffers until MPI has finished with them.

#![expect(unsafe_code, reason = "MPI is a C library")]

use std::{
    ffi::{c_char, c_int, c_void},
    mem::{self, ManuallyDrop, MaybeUninit},
    ops::Range,
    ptr,
};

use half::bf16;
use mpi::{
    ffi::{self, MPI_Datatype, MPI_Request, MPI_Status},
    raw::AsRaw,
    topology::{Communicator as _, SimpleCommunicator},
};

use crate::wire::Wire;

/// A call that has failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) call: &'static str,
    pub(super) message: String,
}

#[derive(Debug)]
pub(super) enum Buffer {
    Wire(Wire),
    Bytes(Vec<u8>),
    Lengths(Vec<u64>),
}

impl Buffer {
    fn parts(&mut self) -> (*mut c_void, MPI_Datatype, usize) {
        // SAFETY: constants of the library.
        let [f32s, u16s, bytes, u64s] =
            unsafe { [ffi::RSMPI_FLOAT, ffi::RSMPI_UINT16_T, ffi::RSMPI_UINT8_T, ffi::RSMPI_UINT64_T] };
        // bf16 is exchanged as u16, which it wraps.
        const { assert!(size_of::<bf16>() == size_of::<u16>()) };
        let (pointer, datatype, len): (*mut c_void, _, _) = match self {
            Self::Wire(Wire::F32(values)) => (values.as_mut_ptr().cast(), f32s, values.len()),
            Self::Wire(Wire::Bf16(values)) => (values.as_mut_ptr().cast(), u16s, values.len()),
            Self::Bytes(values) => (values.as_mut_ptr().cast(), bytes, values.len()),
            Self::Lengths(values) => (values.as_mut_ptr().cast(), u64s, values.len()),
        };
        // The pointer of an empty `Vec<u8>` is 1, which Open MPI takes for MPI_IN_PLACE.
        (if len == 0 { ptr::dangling_mut::<u64>().cast() } else { pointer }, datatype, len)
    }
}

/// A non-blocking operation, with its buffers. Dropping it before it is complete leaks them, as MPI may still use them.
#[derive(Debug)]
pub(super) struct Operation {
    request: MPI_Request,
    buffers: ManuallyDrop<Buffers>,
    is_complete: bool,
}

#[derive(Debug)]
struct Buffers {
    send: Buffer,
    receive: Buffer,
    /// Counts and offsets, in elements.
    tables: [Vec<c_int>; 4],
}

impl Operation {
    /// `start` begins an operation on the buffers and sets the request.
    ///
    /// # Safety
    ///
    /// `start` may pass pointers into the buffers to MPI for this request only.
    unsafe fn start(
        call: &'static str,
        send: Buffer,
        receive: Buffer,
        tables: [Vec<c_int>; 4],
        start: impl FnOnce(&mut Buffers, *mut MPI_Request) -> c_int,
    ) -> Result<Self, Failed> {
        let mut buffers = ManuallyDrop::new(Buffers { send, receive, tables });
        // SAFETY: the constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        check(call, start(&mut buffers, &mut request))?;
        Ok(Self { request, buffers, is_complete: false })
    }

    /// Whether MPI has finished. Also lets MPI make progress with all operations.
    pub(super) fn is_complete(&mut self) -> Result<bool, Failed> {
        if !self.is_complete {
            let mut flag = 0;
            // SAFETY: the request is active; its status is not needed.
            let code = unsafe { ffi::MPI_Test(&mut self.request, &mut flag, ffi::RSMPI_STATUS_IGNORE) };
            check("MPI_Test", code)?;
            self.is_complete = flag != 0;
        }
        Ok(self.is_complete)
    }

    /// The buffers: the one that was sent, and the one that has received.
    ///
    /// # Panics
    ///
    /// If the operation is not complete.
    pub(super) fn into_buffers(mut self) -> [Buffer; 2] {
        assert!(self.is_complete, "MPI has not finished with the buffers");
        let Buffers { send, receive, .. } = &mut *self.buffers;
        [send, receive].map(|buffer| mem::replace(buffer, Buffer::Bytes(Vec::new())))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.is_complete {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.buffers) }
        }
    }
}

/// A communicator that returns errors.
pub(super) struct Communicator(SimpleCommunicator);

/// A message of [`Communicator::receive`].
pub(super) struct Message {
    pub(super) source: usize,
    pub(super) tag: c_int,
    pub(super) bytes: Vec<u8>,
}

impl Communicator {
    /// All ranks must call this.
    pub(super) fn duplicate(of: &SimpleCommunicator) -> Self {
        let duplicate = of.duplicate();
        // SAFETY: the communicator is valid, the constant is the library's. This cannot fail.
        unsafe { ffi::MPI_Comm_set_errhandler(duplicate.as_raw(), ffi::RSMPI_ERRORS_RETURN) };
        Self(duplicate)
    }

    /// Sends the range `send_parts[rank]` of `send` to each rank, and receives as many elements from each as this rank's own
    /// part has.
    pub(super) fn all_to_all(
        &self,
        send: Wire,
        send_parts: &[Range<usize>],
        receive: Wire,
    ) -> Result<Operation, Failed> {
        let own = receive.len() / send_parts.len();
        let received: Vec<_> = (0..send_parts.len()).map(|rank| rank * own..(rank + 1) * own).collect();
        let tables = [counts(send_parts), offsets(send_parts), counts(&received), offsets(&received)];
        let call = |buffers: &mut Buffers, request| {
            let (send, datatype, _) = buffers.send.parts();
            let (receive, ..) = buffers.receive.parts();
            let [sent, sent_at, received, received_at] = buffers.tables.each_ref().map(Vec::as_ptr);
            // SAFETY: the tables have an entry for each rank and stay within buffers of this type.
            unsafe {
                ffi::MPI_Ialltoallv(
                    send,
                    sent,
                    sent_at,
                    datatype,
                    receive,
                    received,
                    received_at,
                    datatype,
                    self.0.as_raw(),
                    request,
                )
            }
        };
        // SAFETY: the pointers are passed to this operation only.
        unsafe { Operation::start("MPI_Ialltoallv", Buffer::Wire(send), Buffer::Wire(receive), tables, call) }
    }

    /// Collects `parts[rank]` of `receive` from each rank.
    pub(super) fn all_gather(
        &self,
        send: Buffer,
        receive: Buffer,
        parts: &[Range<usize>],
    ) -> Result<Operation, Failed> {
        let tables = [counts(parts), offsets(parts), Vec::new(), Vec::new()];
        let call = |buffers: &mut Buffers, request| {
            let (send, datatype, n_sent) = buffers.send.parts();
            let (receive, ..) = buffers.receive.parts();
            let [received, received_at, ..] = buffers.tables.each_ref().map(Vec::as_ptr);
            // SAFETY: the tables have an entry for each rank and stay within buffers of this type.
            unsafe {
                ffi::MPI_Iallgatherv(
                    send,
                    count(n_sent),
                    datatype,
                    receive,
                    received,
                    received_at,
                    datatype,
                    self.0.as_raw(),
                    request,
                )
            }
        };
        // SAFETY: the pointers are passed to this operation only.
        unsafe { Operation::start("MPI_Iallgatherv", send, receive, tables, call) }
    }

    /// Sends the buffer of `root` to all ranks, whose buffers have the same length.
    pub(super) fn broadcast(&self, buffer: Buffer, root: usize) -> Result<Operation, Failed> {
        let call = |buffers: &mut Buffers, request| {
            let (buffer, datatype, len) = buffers.receive.parts();
            // SAFETY: the buffer has this type and length.
            unsafe { ffi::MPI_Ibcast(buffer, count(len), datatype, count(root), self.0.as_raw(), request) }
        };
        let unused = Buffer::Bytes(Vec::new());
        // SAFETY: the pointers are passed to this operation only.
        unsafe { Operation::start("MPI_Ibcast", unused, buffer, Default::default(), call) }
    }

    pub(super) fn send(&self, bytes: Vec<u8>, to: usize, tag: c_int) -> Result<Operation, Failed> {
        let call = |buffers: &mut Buffers, request| {
            let (bytes, datatype, len) = buffers.send.parts();
            // SAFETY: the buffer has this type and length.
            unsafe { ffi::MPI_Isend(bytes, count(len), datatype, count(to), tag, self.0.as_raw(), request) }
        };
        let unused = Buffer::Bytes(Vec::new());
        // SAFETY: the pointers are passed to this operation only.
        unsafe { Operation::start("MPI_Isend", Buffer::Bytes(bytes), unused, Default::default(), call) }
    }

    /// The next message that has arrived, if any. Messages must be short: MPI sends those without waiting for the receiver.
    pub(super) fn receive(&self) -> Result<Option<Message>, Failed> {
        let (mut flag, mut len) = (0, 0);
        let mut status = MaybeUninit::<MPI_Status>::zeroed();
        // SAFETY: all pointers are valid for writes.
        let code = unsafe {
            ffi::MPI_Iprobe(
                ffi::RSMPI_ANY_SOURCE,
                ffi::RSMPI_ANY_TAG,
                self.0.as_raw(),
                &mut flag,
                status.as_mut_ptr(),
            )
        };
        check("MPI_Iprobe", code)?;
        if flag == 0 {
            return Ok(None);
        }
        // SAFETY: a status is plain data, was zeroed, and has been set for the message found.
        let mut status = unsafe { status.assume_init() };
        // SAFETY: all pointers are valid.
        let code = unsafe { ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut len) };
        check("MPI_Get_count", code)?;
        let (source, tag) = (status.MPI_SOURCE, status.MPI_TAG);
        let mut bytes = vec![0; usize::try_from(len).expect("MPI has counted bytes")];
        // SAFETY: the buffer has `len` bytes.
        let code = unsafe {
            ffi::MPI_Recv(
                bytes.as_mut_ptr().cast(),
                len,
                ffi::RSMPI_UINT8_T,
                source,
                tag,
                self.0.as_raw(),
                &mut status,
            )
        };
        check("MPI_Recv", code)?;
        Ok(Some(Message { source: usize::try_from(source).expect("a rank"), tag, bytes }))
    }
}

/// # Panics
///
/// If the number exceeds C's `int`. The lengths of vectors are checked before.
fn count(n: usize) -> c_int {
    c_int::try_from(n).expect("lengths are checked before they are exchanged")
}

fn counts(parts: &[Range<usize>]) -> Vec<c_int> {
    parts.iter().map(|part| count(part.len())).collect()
}

fn offsets(parts: &[Range<usize>]) -> Vec<c_int> {
    parts.iter().map(|part| count(part.start)).collect()
}

fn check(call: &'static str, code: c_int) -> Result<(), Failed> {
    if code == 0 {
        return Ok(()); // MPI_SUCCESS
    }
    let mut text: [c_char; 1024] = [0; 1024]; // MPI_MAX_ERROR_STRING is 256 to 1024.
    let mut len = 0;
    // SAFETY: the text has room for the longest message.
    unsafe { ffi::MPI_Error_string(code, ptr::from_mut(&mut text).cast(), &mut len) };
    let text =
        text.iter().take(usize::try_from(len).unwrap_or(0)).map(|&byte| char::from(byte.cast_unsigned()));
    Err(Failed { call, message: text.collect() })
}
