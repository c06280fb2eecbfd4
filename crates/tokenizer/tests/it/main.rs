//! Tests of the public interface, in one binary so that they link once.

mod common;
mod exported;
mod file;
mod gpt2;
mod hostile;
mod imported;
mod round_trip;
mod special;
mod train;
