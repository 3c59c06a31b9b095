//! A subtree into a file.

use std::path::Path;

use uuid::Uuid;

use super::{
    super::{Failure, output},
    Progress,
    closed::Opener,
    effect::Effect,
    file::{FORMAT_VERSION, Header, Writer},
    okms::Domain,
    walk::Walk,
    words::{Content, MARKER},
};

/// Exports the secret at `path` and all below it. Versions that are closed are opened where `note` names a file for
/// that.
pub(super) async fn run(
    mut domain: Domain,
    path: String,
    out: &Path,
    note: Option<&Path>,
) -> Result<(), Failure> {
    let header = Header {
        format_version: FORMAT_VERSION,
        id: Uuid::new_v4().to_string(),
        okms_id: domain.okms_id.to_string(),
        path: path.clone(),
    };
    domain.check().await?;
    let source = format!("{} {}", domain.remote, domain.okms_id);
    let mut opener = note.map(|note| Opener::new(note, &source, &domain.mount())).transpose()?;
    if let Some(opener) = &mut opener {
        opener.settle(&mut domain.remote).await?;
    }
    let (mut writer, last) = Writer::open(out, &header)?;
    output::tell(&format!(
        "{} holds PLAINTEXT: keep it safe, and remove it in time",
        out.display()
    ));
    let defaults = domain.defaults().await?;
    let mut walk = Walk::new(&domain.mount(), &path, last);
    let mut progress = Progress::new();
    let (mut closed, mut unfinished) = (0_u64, 0_u64);
    while let Some(path) = walk.next(&mut domain.remote).await? {
        // Deleted meanwhile, or none but those below it.
        let mut secret = match domain.look(&path).await? {
            Ok(Some(secret)) => secret,
            Ok(None) => continue,
            Err(why) => {
                walk.refuse(&path, why)?;
                continue;
            }
        };
        let effect = |defaults| Effect::from(secret.metadata.config().effective(defaults));
        secret.effect = defaults.as_ref().map(effect);
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
            let Some(mut version) = domain.version(&path, number).await? else { continue };
            if matches!(version.content, Content::Deactivated(_)) {
                match &mut opener {
                    None => closed += 1,
                    Some(opener) => {
                        version.content = opener.read(&mut domain.remote, &path, number).await?;
                    }
                }
            }
            // Of a server with other rules than these.
            if let Content::Refused(why) = &version.content {
                return Err(Failure::new(format!("version {number} of {path}: {why}")));
            }
            writer.version(number, &version)?;
            progress.version(&secret);
        }
    }
    // Before the file has its name: whoever runs this again after that does nothing.
    drop(opener);
    if let Err(nothing) = walk.end(writer.written().secrets + unfinished) {
        writer.discard()?;
        return Err(nothing);
    }
    let end = writer.finish()?;
    if closed > 0 {
        output::tell(&format!(
            "the data of {closed} deactivated versions is not in it; see --open-deactivated"
        ));
    }
    output::print(&format!("{} secrets, {} versions\n", end.secrets, end.versions))?;
    match unfinished {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{unfinished} secrets are left out"))),
    }
}
