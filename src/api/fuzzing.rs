//! A way in for `tests/fuzz`, which no other build has.

pub use super::{target::Folded, v1::fuzzing as v1, v2::fuzzing as v2};
