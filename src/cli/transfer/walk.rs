//! All paths of a subtree, in the order of their bytes, from the lists of KV2.

use std::{collections::VecDeque, fmt::Write as _};

use hyper::{StatusCode, header::HeaderName, header::HeaderValue};
use serde::Deserialize;

use super::{
    super::{Failure, output},
    remote::Remote,
};

/// A walk through a subtree. It holds the names of the folders on its way, a page of each at a time where the
/// server gives pages.
pub(super) struct Walk {
    /// The address of the engine, such as `/v1/secret`.
    mount: String,
    /// The path of the secret at the root of the subtree, until it was given out.
    own: Option<String>,
    /// From the root to where the walk is.
    folders: Vec<Folder>,
    /// Paths up to this one are left out.
    after: String,
    /// The path of the root of the subtree.
    root: String,
    /// That the root may not be read or not be listed. The one right does without the other, so this is no failure
    /// until it is known that nothing else is there.
    refused: Vec<Failure>,
}

struct Folder {
    /// With its slash; empty at the root.
    path: String,
    /// What is still to be looked at.
    names: VecDeque<String>,
    next: Next,
}

enum Next {
    First,
    Cursor(HeaderValue),
    Nothing,
}

impl Walk {
    /// Through the secret at `path` and all that stands below it, or through everything where it is empty; but
    /// for the paths up to `after`.
    pub(super) fn new(mount: &str, path: &str, after: String) -> Self {
        let own = Some(path.to_owned()).filter(|path| !path.is_empty());
        let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
        Self {
            mount: mount.to_owned(),
            own,
            folders: vec![Folder::new(folder)],
            after,
            root: path.to_owned(),
            refused: Vec::new(),
        }
    }

    /// Takes it that the caller may not read the secret at this path, which is all right at the root alone.
    pub(super) fn refuse(&mut self, path: &str, why: Failure) -> Result<(), Failure> {
        if path != self.root || path.is_empty() {
            return Err(why);
        }
        self.refused.push(why);
        Ok(())
    }

    /// Ends the walk, on which `found` secrets were found.
    ///
    /// # Errors
    ///
    /// Where there are none at a path that was asked for.
    pub(super) fn end(&mut self, found: u64) -> Result<(), Failure> {
        let refused = std::mem::take(&mut self.refused);
        if found == 0 {
            if let Some(why) = refused.into_iter().next() {
                return Err(why);
            }
            return match self.root.is_empty() {
                true => Ok(()),
                false => Err(Failure::new(format!("there is nothing at {}", self.root))),
            };
        }
        for why in refused {
            output::tell(&format!("{why}; the rest was taken"));
        }
        Ok(())
    }

    /// The next path. There need not be a secret at it: the first one is that of the subtree itself.
    pub(super) async fn next(&mut self, remote: &mut Remote) -> Result<Option<String>, Failure> {
        if let Some(own) = self.own.take().filter(|own| *own > self.after) {
            return Ok(Some(own));
        }
        while let Some(folder) = self.folders.last_mut() {
            let Some(name) = folder.names.pop_front() else {
                if matches!(folder.next, Next::Nothing) {
                    self.folders.pop();
                } else {
                    let is_first = matches!(folder.next, Next::First);
                    let listed = folder.fetch(&self.mount, remote).await?;
                    let path = folder.path.trim_end_matches('/').to_owned();
                    match listed {
                        Err(why) if is_first => self.refuse(&path, why)?,
                        // A list that is cut off is not to look like a whole one.
                        listed => listed?,
                    }
                }
                continue;
            };
            let path = format!("{}{name}", folder.path);
            let is_folder = name.ends_with('/');
            if is_folder && (path > self.after || self.after.starts_with(&path)) {
                self.folders.push(Folder::new(path));
            } else if !is_folder && path > self.after {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

impl Folder {
    const fn new(path: String) -> Self {
        Self { path, names: VecDeque::new(), next: Next::First }
    }

    /// The inner error is that the caller may not.
    async fn fetch(
        &mut self,
        mount: &str,
        remote: &mut Remote,
    ) -> Result<Result<(), Failure>, Failure> {
        #[derive(Deserialize)]
        struct List {
            data: Keys,
        }
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let mut headers = vec![(PAGE_SIZE, HeaderValue::from_static("500"))];
        if let Next::Cursor(cursor) = std::mem::replace(&mut self.next, Next::Nothing) {
            headers.push((CURSOR, cursor));
        }
        let folder = self.path.trim_end_matches('/');
        let address = format!("{mount}/metadata/{}?list=true", encoded(folder));
        let answer = remote.get(&address, &headers).await?;
        let what = format!("cannot list {:?}", self.path);
        match answer.status {
            StatusCode::OK => {}
            // Nothing stands there (any more).
            StatusCode::NOT_FOUND => return Ok(Ok(())),
            StatusCode::FORBIDDEN => return Ok(Err(forbidden(&answer, "list", &address))),
            _ => return Err(answer.unexpected(&what)),
        }
        let List { data } = answer.parse(&what)?;
        let mut names = data.keys;
        // Of a folder, its slash is a part of the order of paths.
        names.sort_unstable();
        self.names = names.into();
        let next = answer.headers.get(CURSOR_NEXT).filter(|cursor| !cursor.is_empty());
        self.next = next.cloned().map_or(Next::Nothing, Next::Cursor);
        Ok(Ok(()))
    }
}

/// That a right is missing, and which one.
pub(super) fn forbidden(
    answer: &super::remote::Answer,
    capability: &str,
    address: &str,
) -> Failure {
    let address = address.split('?').next().unwrap_or_default();
    let path = address.trim_start_matches("/v1/");
    Failure::new(format!("not allowed{}: it needs `{capability}` on {path}", answer.told()))
}

/// A path with its slashes raw, and what is no plain letter encoded.
pub(super) fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// How many names are asked for at once, of servers that give pages.
pub(super) const PAGE_SIZE: HeaderName = HeaderName::from_static("x-pagination-size");
const CURSOR: HeaderName = HeaderName::from_static("x-pagination-cursor");
const CURSOR_NEXT: HeaderName = HeaderName::from_static("x-pagination-cursor-next");
