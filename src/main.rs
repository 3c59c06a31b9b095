//! The `okmsd` program: everything is in the library, the command line in [`okmsd::cli`].

use std::process::ExitCode;

/// Requests allocate often and shortly, on several threads: the system's allocator takes a tenth of the time
/// of a read.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    okmsd::cli::main()
}
