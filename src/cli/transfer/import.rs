//! Secrets from any source into a server, so that it can be cut off at any moment and be done again.
//!
//! While a secret is written it has a pair of custom metadata, [`MARKER`], that says of which import it is; the last
//! request gives it its settings and with that takes the pair away. So a secret is as a whole as it was, or it is known
//! to be unfinished and is gone on with. Version n is written with a check-and-set of n - 1, by which a request that
//! arrives twice, or whose answer is lost, makes no version twice.
//!
//! Numbers stay what they were: versions that are gone for good in the source are written as empty ones. Those in front
//! of the first that is kept are pruned by the server, as `maxVersions` is what the source keeps until all is written;
//! the others are deleted.

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    super::{Failure, output},
    Progress,
    file::Reader,
    okms::{Domain, FoundVersion, Write},
    vault::Vault,
    words::{Content, EMPTY_DATA, MARKER, Settings, SourceSecret},
};
use crate::domain::VersionState;

/// Where secrets come from.
pub(super) enum Source {
    File(Box<Reader>),
    Vault(Box<Vault>),
}

/// Where the secrets of a subtree are put.
pub(super) struct Mapping {
    /// The root of the subtree in the source; empty for all.
    pub(super) from: String,
    /// Its root here, where it is another one.
    pub(super) to: Option<String>,
}

/// An import.
pub(super) struct Import {
    target: Domain,
    source: Source,
    mapping: Mapping,
    id: String,
    dry_run: bool,
    progress: Progress,
    made: u64,
    present: u64,
    /// Deactivated versions without data, which become deleted ones.
    closed: u64,
    /// What was not taken as it was, and why.
    problems: Vec<String>,
}

/// What is known of a version of the source once it was passed.
struct Passed {
    number: u32,
    state: VersionState,
}

impl Source {
    async fn begin(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(_) => Ok(()),
            Self::Vault(vault) => vault.begin().await,
        }
    }

    async fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(_) => Ok(()),
            Self::Vault(vault) => vault.end().await,
        }
    }

    async fn next_secret(&mut self) -> Result<Option<SourceSecret>, Failure> {
        match self {
            Self::File(reader) => reader.next_secret(),
            Self::Vault(vault) => vault.next_secret().await,
        }
    }

    /// A version of the secret that was given last; ascending.
    async fn version(&mut self, number: u32) -> Result<Content, Failure> {
        match self {
            Self::File(reader) => reader.version(number),
            Self::Vault(vault) => vault.version(number).await,
        }
    }
}

impl Mapping {
    fn path(&self, path: &str) -> String {
        let Some(to) = &self.to else { return path.to_owned() };
        let below = path.strip_prefix(&self.from).unwrap_or(path);
        match below.trim_start_matches('/') {
            "" => to.clone(),
            below => format!("{to}/{below}"),
        }
    }
}

impl Import {
    pub(super) fn new(
        target: Domain,
        source: Source,
        mapping: Mapping,
        id: &str,
        dry_run: bool,
    ) -> Self {
        Self {
            target,
            source,
            mapping,
            id: id.to_owned(),
            dry_run,
            progress: Progress::new(),
            made: 0,
            present: 0,
            closed: 0,
            problems: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Failure> {
        self.source.begin().await?;
        let done = self.import_all().await;
        let done = done.and(self.source.end().await);
        // Also where it stops early: what is known by then must not be lost.
        for problem in &self.problems {
            output::tell(problem);
        }
        done?;
        if self.closed > 0 {
            output::tell(&format!(
                "{} deactivated versions came without their data: they are deleted ones here",
                self.closed
            ));
        }
        let word = if self.dry_run { "to be made" } else { "made" };
        output::print(&format!(
            "{} secrets, {} versions; {} {word}, {} there already\n",
            self.progress.secrets, self.progress.versions, self.made, self.present
        ))?;
        match self.problems.len() {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} things were not taken as they are"))),
        }
    }

    async fn import_all(&mut self) -> Result<(), Failure> {
        while let Some(mut secret) = self.source.next_secret().await? {
            let source_path = secret.path.clone();
            secret.path = self.mapping.path(&source_path);
            self.progress.secrets += 1;
            match secret.clean() {
                Ok(left_out) => {
                    let named = left_out.into_iter().map(|what| format!("{source_path}: {what}"));
                    self.problems.extend(named);
                }
                Err(why) => {
                    self.problems.push(format!("{source_path}: {why}"));
                    continue;
                }
            }
            self.import(&secret, &self.marker(&source_path)).await?;
        }
        Ok(())
    }

    /// What tells the unfinished copy of a secret from any other.
    fn marker(&self, source_path: &str) -> String {
        let text = format!("{}\n{source_path}", self.id);
        let digest = digest(&SHA256, text.as_bytes());
        digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    async fn import(&mut self, secret: &SourceSecret, marker: &str) -> Result<(), Failure> {
        let path = &secret.path;
        let there = self.target.find(path).await?;
        let written = match &there {
            None => 0,
            Some(there) if is_marked(there, marker) => there.current_version,
            Some(there) => {
                if let Some(difference) = self.difference(secret, there).await? {
                    let why = "there is another secret at this path, which is left alone";
                    self.problems.push(format!("{path}: {why}: {difference}"));
                } else {
                    self.present += 1;
                }
                return Ok(());
            }
        };
        let working = working_settings(secret, marker);
        if secret.current_version == 0 {
            return self.import_empty(secret, &working, there.is_some()).await;
        }
        if !self.dry_run {
            for number in written + 1..secret.first_version {
                if !self.write(secret, number, &working, EMPTY_DATA).await? {
                    return Ok(());
                }
            }
        }
        let mut passed = Vec::new();
        for number in secret.first_version..=secret.current_version {
            let content = self.source.version(number).await?;
            self.note(path, number, &content);
            self.progress.version(secret);
            let is_new = number > written && !self.dry_run;
            if is_new && !self.write(secret, number, &working, content.to_write()).await? {
                return Ok(());
            }
            let state = content.target_state();
            if state != VersionState::Active {
                passed.push(Passed { number, state });
            }
        }
        if self.dry_run {
            self.made += 1;
            return Ok(());
        }
        for Passed { number, state } in passed {
            let done = self.target.set_state(path, number, state).await?;
            if !self.accept(path, done) {
                return Ok(());
            }
        }
        self.finish(secret).await
    }

    /// Makes a secret that has no version.
    async fn import_empty(
        &mut self,
        secret: &SourceSecret,
        working: &Settings,
        is_there: bool,
    ) -> Result<(), Failure> {
        if self.dry_run {
            self.made += 1;
            return Ok(());
        }
        if !is_there {
            let done = self.target.create_empty(&secret.path, working).await?;
            if !self.accept(&secret.path, done) {
                return Ok(());
            }
        }
        self.finish(secret).await
    }

    /// Gives the secret its own settings: from now on it is a whole one.
    async fn finish(&mut self, secret: &SourceSecret) -> Result<(), Failure> {
        let (path, current) = (&secret.path, secret.current_version);
        let done = self.target.set_settings(path, current, &secret.metadata).await?;
        self.made += u64::from(self.accept(path, done));
        Ok(())
    }

    /// Writes version `number`, the first together with the secret. False where the server refuses it.
    async fn write(
        &mut self,
        secret: &SourceSecret,
        number: u32,
        working: &Settings,
        data: &str,
    ) -> Result<bool, Failure> {
        let path = &secret.path;
        let done = match number {
            1 => self.target.create(path, working, data).await?,
            _ => self.target.add_version(path, number, data).await?,
        };
        let Write::Refused(why) = done else { return Ok(true) };
        // The request may have arrived twice, as its first answer was lost.
        let there = self.target.find(path).await?;
        if there.is_some_and(|there| {
            there.metadata.custom_metadata == working.custom_metadata
                && there.current_version == number
        }) {
            let found = self.target.version(path, number).await?;
            if matches!(found, Some(FoundVersion { content, .. }) if content.to_write() == data) {
                return Ok(true);
            }
        }
        self.problems.push(format!("{path}: version {number} was refused: {why}"));
        Ok(false)
    }

    fn accept(&mut self, path: &str, done: Write) -> bool {
        match done {
            Write::Done => true,
            Write::Refused(why) => {
                self.problems.push(format!("{path}: refused: {why}"));
                false
            }
        }
    }

    /// Keeps in mind what is lost of a version.
    fn note(&mut self, path: &str, number: u32, content: &Content) {
        match content {
            Content::Refused(why) => {
                self.problems.push(format!("{path}: version {number} comes without data: {why}"));
            }
            Content::Deactivated(None) => self.closed += 1,
            Content::Open(_) | Content::Deactivated(Some(_)) | Content::Deleted => {}
        }
    }

    /// How a secret that is there differs from what it would be after the import.
    async fn difference(
        &mut self,
        secret: &SourceSecret,
        there: &SourceSecret,
    ) -> Result<Option<String>, Failure> {
        if there.metadata.custom_metadata.contains_key(MARKER) {
            return Ok(Some("an import of something else is not finished".to_owned()));
        }
        if there.metadata != secret.metadata {
            return Ok(Some("its settings differ".to_owned()));
        }
        let numbers = |secret: &SourceSecret| (secret.first_version, secret.current_version);
        if numbers(there) != numbers(secret) {
            return Ok(Some("its versions have other numbers".to_owned()));
        }
        if secret.current_version == 0 {
            return Ok(None);
        }
        for number in secret.first_version..=secret.current_version {
            let content = self.source.version(number).await?;
            self.note(&secret.path, number, &content);
            self.progress.version(secret);
            let found = self.target.version(&secret.path, number).await?;
            let is_same = match (&content, found.map(|found| found.content)) {
                (Content::Open(data), Some(Content::Open(found))) => *data == found,
                // It ended by its age here.
                (Content::Open(_), Some(Content::Deactivated(_))) => true,
                (Content::Open(_), _) => false,
                // It would have to be opened here to be compared.
                (Content::Deactivated(Some(_)), found) => {
                    matches!(found, Some(Content::Deactivated(_)))
                }
                (_, Some(Content::Deleted)) => true,
                _ => false,
            };
            if !is_same {
                return Ok(Some(format!("its version {number} differs")));
            }
        }
        Ok(None)
    }
}

/// Whether it is the unfinished copy of the same secret of the same source.
fn is_marked(there: &SourceSecret, marker: &str) -> bool {
    there.metadata.custom_metadata.get(MARKER).is_some_and(|there| there == marker)
}

/// The settings of a secret until it is whole.
fn working_settings(secret: &SourceSecret, marker: &str) -> Settings {
    Settings {
        max_versions: secret.kept(),
        custom_metadata: [(MARKER.to_owned(), marker.to_owned())].into(),
        ..secret.metadata.clone()
    }
}
