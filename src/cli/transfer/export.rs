//! A subtree into a file.

use std::path::Path;

use uuid::Uuid;

use super::{
    super::{Failure, output},
    Progress,
    file::{FORMAT_VERSION, Header, Writer},
    okms::{Domain, FoundVersion},
    walk::Walk,
    words::{Content, MARKER},
};
use crate::domain::VersionState;

pub(super) async fn run(mut domain: Domain, path: String, out: &Path) -> Result<(), Failure> {
    let header = Header {
        format_version: FORMAT_VERSION,
        id: Uuid::new_v4().to_string(),
        okms_id: domain.okms_id.to_string(),
        path: path.clone(),
    };
    domain.check().await?;
    let (mut writer, last) = Writer::open(out, &header)?;
    output::tell(&format!(
        "{} holds PLAINTEXT: keep it safe, and remove it in time",
        out.display()
    ));
    let mut walk = Walk::new(&domain.mount(), &path, last);
    let mut progress = Progress::new();
    let (mut closed, mut unfinished) = (0_u64, 0_u64);
    while let Some(path) = walk.next(&mut domain.remote).await? {
        // Deleted meanwhile, or none but those below it.
        let Some(secret) = domain.find(&path).await?.map(|found| found.secret) else { continue };
        if secret.metadata.custom_metadata.contains_key(MARKER) {
            unfinished += 1;
            output::tell(&format!("{path} is left out: an import of it is not finished"));
            continue;
        }
        writer.secret(&secret)?;
        progress.secrets += 1;
        for number in secret.first_version..=secret.current_version {
            // There is no version 0, which is how no version at all looks.
            if number == 0 {
                continue;
            }
            // One that was pruned meanwhile.
            let Some(version) = domain.version(&path, number).await? else { continue };
            closed += u64::from(is_closed(&version));
            writer.version(number, &version)?;
            progress.version(&secret);
        }
    }
    let end = writer.finish()?;
    if closed > 0 {
        output::tell(&format!(
            "the data of {closed} deactivated versions is not in it, as nobody can read that"
        ));
    }
    output::print(&format!("{} secrets, {} versions\n", end.secrets, end.versions))?;
    match unfinished {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{unfinished} secrets are left out"))),
    }
}

fn is_closed(version: &FoundVersion) -> bool {
    version.state == VersionState::Deactivated && matches!(version.content, Content::Deactivated)
}
