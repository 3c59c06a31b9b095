//! `okmsd export` and `okmsd import`: the program itself against a server of this process.

mod caller;
mod conflicts;
mod defaults;
mod resumed;
mod round_trip;
mod scene;
mod vault;
