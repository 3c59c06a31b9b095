//! The `okmsd` program: everything is in the library, the command line in [`okmsd::cli`].

use std::process::ExitCode;

/// Requests allocate often and shortly, on several threads: the system's allocator takes a tenth of the time
/// of a read. It is for Rust alone, where no code writes beyond its memory; the libraries in C, SQLite and
/// aws-lc, stay with the system's and its checks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    okmsd::cli::main()
}
