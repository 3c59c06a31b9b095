//! The program, run as a caller of a domain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::support::{Domain, Server};

/// A folder with all that the program needs to be a caller of a domain.
pub struct Caller {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Caller {
    /// One that may do everything in the domain.
    pub fn of(server: &Server, domain: &Domain) -> Self {
        Self::with(server, domain, (&domain.certificate_pem, &domain.private_key_pem))
    }

    /// One with another certificate of the domain.
    pub fn with(server: &Server, domain: &Domain, (cert, key): (&str, &str)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        write("ca.pem", server.authority.certificate_pem()).expect("a file");
        write("cert.pem", cert).expect("a file");
        write("key.pem", key).expect("a file");
        let variables = vec![
            ("OKMS_ENDPOINT", server.api_url.clone()),
            ("OKMS_ID", domain.okms_id.to_string()),
            ("OKMS_CA", "ca.pem".to_owned()),
            ("OKMS_CERT", "cert.pem".to_owned()),
            ("OKMS_KEY", "key.pem".to_owned()),
        ];
        Self { folder, variables }
    }

    /// The same with one more variable in its environment.
    pub fn with_variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// The program in its folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_okmsd"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["OKMSD_", "OKMS_", "VAULT_", "BAO_"].iter().any(|of| name.starts_with(of)) {
                command.env_remove(&*name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs it, which must succeed, and gives what it printed.
    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.out
    }

    /// Runs it, which must end with 1, and gives its last words.
    #[track_caller]
    pub fn fail(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}: {said:?}");
        assert!(!said.err.contains("panicked"), "{said:?}");
        said.err
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes a file of another caller.
    pub fn take(&self, other: &Path) {
        let name = other.file_name().expect("a name");
        fs::copy(other, self.folder.path().join(name)).expect("a copy");
    }
}

impl Said {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}
