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
    compare::{can_become, is_same},
    okms::{Domain, FoundVersion, Write},
    source::{Mapping, Source},
    words::{Content, EMPTY_DATA, MARKER, Settings, SourceSecret},
};
use crate::domain::{SecretConfig, VersionLifetime, VersionState};

/// An import.
pub(super) struct Import {
    target: Domain,
    source: Source,
    mapping: Mapping,
    id: String,
    dry_run: bool,
    /// Those of the target; none where the caller may not see them.
    defaults: Option<SecretConfig>,
    progress: Progress,
    made: u64,
    present: u64,
    /// Deactivated versions without data, which become deleted ones.
    closed: u64,
    /// Secrets of which it is not known what their settings came to.
    without_effect: u64,
    /// Secrets that could be written without naming the version, which the target does not take.
    stricter: u64,
    /// What was not taken as it was, and why.
    problems: Vec<String>,
}

/// What is known of a version of the source once it was passed.
struct Passed {
    number: u32,
    state: VersionState,
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
            defaults: None,
            progress: Progress::new(),
            made: 0,
            present: 0,
            closed: 0,
            without_effect: 0,
            stricter: 0,
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
        if self.without_effect > 0 {
            output::tell(&format!(
                "{} secrets came without the defaults that counted for them: those of the target do here",
                self.without_effect
            ));
        }
        if self.stricter > 0 {
            output::tell(&format!(
                "{} secrets take no write without a cas here, as the target's casRequired says so",
                self.stricter
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
        self.defaults = self.target.defaults().await?;
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
            match secret.effect {
                Some(effect) => {
                    secret.metadata.keep(&effect, self.defaults.as_ref());
                    let requires = self.defaults.as_ref().is_some_and(|there| there.cas_required);
                    self.stricter += u64::from(requires && !effect.cas_required);
                }
                None => self.without_effect += 1,
            }
            self.import(&secret, &self.marker(&source_path)).await?;
        }
        Ok(())
    }

    /// What tells the unfinished copy of a secret from any other, and from that of a run which takes other data.
    fn marker(&self, source_path: &str) -> String {
        let choice = if self.source.opens_closed() { "\nopens closed versions" } else { "" };
        let text = format!("{}\n{source_path}{choice}", self.id);
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
        if let Some(there) = &there
            && !self.adopt(secret, there, &working).await?
        {
            return Ok(());
        }
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
            if number <= written && !self.adopt_version(secret, number, &content).await? {
                return Ok(());
            }
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

    /// Goes on with the unfinished copy that is there, if it can still become the secret: the source may have
    /// changed since.
    async fn adopt(
        &mut self,
        secret: &SourceSecret,
        there: &SourceSecret,
        working: &Settings,
    ) -> Result<bool, Failure> {
        let path = &secret.path;
        let (written, wanted) = (there.current_version, secret.current_version);
        // What is written later on prunes what is too old.
        if written > wanted || (written == wanted && there.first_version < secret.first_version) {
            self.problems
                .push(format!("{path}: {UNFINISHED_DIFFERS} (its versions have other numbers)"));
            return Ok(false);
        }
        if there.metadata == *working || self.dry_run {
            return Ok(true);
        }
        let done = self.target.set_settings(path, written, working).await?;
        Ok(self.accept(path, done))
    }

    /// The same of a version of it.
    async fn adopt_version(
        &mut self,
        secret: &SourceSecret,
        number: u32,
        content: &Content,
    ) -> Result<bool, Failure> {
        let there = self.target.version(&secret.path, number).await?;
        let may_age = self.may_age(secret);
        let fits = there.is_some_and(|there| can_become(content, &there.content, may_age));
        if !fits {
            let path = &secret.path;
            self.problems.push(format!("{path}: {UNFINISHED_DIFFERS} (its version {number})"));
        }
        Ok(fits)
    }

    /// Whether versions of the secret may have closed by their age in the target. Where nobody said what its defaults
    /// are, only those of a secret that has a time of its own: to ask for a look is better than to miss a difference.
    fn may_age(&self, secret: &SourceSecret) -> bool {
        let unknown = SecretConfig::default();
        let defaults = self.defaults.as_ref().unwrap_or(&unknown);
        let after = secret.metadata.config().effective(defaults).deactivate_version_after;
        // The longest stands for never.
        after.is_some_and(|seconds| seconds < VersionLifetime::MAX_SECONDS)
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
            return Ok(Some(format!(
                "of an import of something else, or with other options, {UNFINISHED_DIFFERS}"
            )));
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
            let may_age = self.may_age(secret);
            if !found.is_some_and(|found| is_same(&content, &found.content, may_age)) {
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

/// What to do about a copy that cannot become what the source has now.
const UNFINISHED_DIFFERS: &str = "the unfinished copy differs: delete it and import again";
