//! The `okmsd` program: everything is in the library, the command line in [`okmsd::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    okmsd::cli::main()
}
