//! What the hub says that a repository has.

use std::io::Read as _;

use serde::Deserialize;

use crate::{
    error::{RemoteCause, StoreError},
    http::{
        answer::refusal,
        client::{Ask, Client, is_commit},
        fault::Fault,
    },
    offers::Listed,
};

/// Longer answers are refused: a repository of ten thousand files takes some 3 MiB.
const LIMIT: u64 = 16 << 20;

/// A repository's files.
pub(crate) struct Listing {
    /// The commit that has them, where the server names one.
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

/// Asks for a listing at `url`.
pub(crate) fn ask(client: &Client, url: String) -> Result<Listing, Fault> {
    let answer = client.send(&Ask::all(url))?;
    let refused = |reason: String, cause| Fault::Final(StoreError::Remote { url: answer.url.clone(), reason, cause });
    match (answer.status, answer.code.as_deref()) {
        (200, _) => {}
        (404 | 405 | 410, None) => {
            let reason = "the server does not list what a model has: check the name, or name the file, as hf://ORG/NAME/FILE.gguf";
            return Err(refused(format!("{}: {reason}", answer.status), RemoteCause::Unknown));
        }
        _ => return Err(refusal(&answer)),
    }
    let url = answer.url.clone();
    let mut bytes = Vec::new();
    let read = answer.body.into_reader().take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|fault| Fault::Passing {
        url: url.clone(),
        reason: format!("the connection broke ({fault})"),
        wait: None,
    })?;
    let wrong = |reason: String| Fault::refused(&url, format!("not a list of a model's files ({reason})"));
    if bytes.len() as u64 > LIMIT {
        return Err(wrong(format!("longer than {LIMIT} bytes")));
    }
    let info: Info = serde_json::from_slice(&bytes).map_err(|fault| wrong(fault.to_string()))?;
    let files = info.siblings.into_iter().filter(|file| is_plain(&file.rfilename));
    Ok(Listing {
        commit: info.sha.filter(|commit| is_commit(commit)),
        files: files.map(|file| Listed { name: file.rfilename, bytes: file.size }).collect(),
    })
}

/// Whether a path stays in its repository, and can be asked for as it is.
fn is_plain(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= 1024
        && path.split('/').all(plain)
        && !path.contains(['\\', '?', '#', '%', ' '])
        && !path.contains(char::is_control)
}
