//! `okmsd completions`: what a shell needs to complete command lines.

use clap::{Args, ValueEnum};
use clap_complete::{Shell as Generator, generate};

use super::{Failure, command, output};

/// Print a script by which a shell completes okmsd's command lines
///
/// Each shell has a folder for such scripts: /etc/bash_completion.d for bash, any of $fpath (under the name _okmsd)
/// for zsh, ~/.config/fish/completions (under the name okmsd.fish) for fish.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The shells whose own parser our tests put the scripts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let generator = match self.shell {
            Shell::Bash => Generator::Bash,
            Shell::Zsh => Generator::Zsh,
            Shell::Fish => Generator::Fish,
        };
        let mut script = Vec::new();
        generate(generator, &mut command(), "okmsd", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}
