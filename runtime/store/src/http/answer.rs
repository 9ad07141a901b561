//! What to make of an answer: pure but for the error texts.

use std::time::Duration;

use crate::{
    error::{RemoteCause, StoreError},
    http::{
        client::{Answer, Want},
        fault::Fault,
    },
    origin::OriginFile,
};

/// What an answer with an error status means.
pub(crate) fn refusal(answer: &Answer) -> Fault {
    let (status, code) = (answer.status, answer.code.as_deref().unwrap_or_default());
    let passing = |reason: &str| Fault::Passing {
        url: answer.url.clone(),
        reason: format!("{status}: {reason}"),
        wait: answer.header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs),
    };
    let reason = match (status, code) {
        (_, "GatedRepo") => {
            "the model is gated: accept its terms on its page with your account, and set HF_TOKEN to a token of that account"
        }
        (_, "RepoNotFound") => {
            "there is no such model, or it is private: check the name, and for a private one set HF_TOKEN to a token that may read it"
        }
        (_, "RevisionNotFound") => "the model has no such revision: check --revision",
        (401, _) if answer.url.starts_with("http:") && !super::url::is_loopback(&answer.url) => {
            "the server wants to know who asks, and tokens are sent over https alone: name an https endpoint"
        }
        (401, _) => "the server wants to know who asks: set HF_TOKEN to a token that may read the model",
        (403, _) => "the server does not let this token (or none) read the file: check HF_TOKEN and what it may read",
        (404 | 410, _) => "the file is not there (any more): check the source",
        (416, _) => "the server says that the file ends before the bytes asked for: it has changed, pull again",
        (408, _) => return passing("the server waited too long for the request"),
        (429, _) => {
            return passing(
                "the server asks for fewer requests; set HF_TOKEN if there is none, anonymous ones may do less",
            );
        }
        (500..=599, _) => return passing("the server is in trouble"),
        _ => "an answer that was not expected",
    };
    let cause = match (status, code) {
        (_, "RepoNotFound" | "RevisionNotFound") | (404 | 410, _) => RemoteCause::Unknown,
        (_, "GatedRepo") | (401 | 403, _) => RemoteCause::Forbidden,
        _ => RemoteCause::Trouble,
    };
    Fault::because(&answer.url, format!("{status}: {reason}"), cause)
}

/// Lets an answer through whose body is exactly the bytes asked for, of the file that was described.
pub(crate) fn check_part(answer: &Answer, want: Want, file: &OriginFile) -> Result<(), Fault> {
    let refused = |reason: String| Err(Fault::refused(&answer.url, reason));
    let changed = |reason: String| Err(Fault::Final(StoreError::Changed { file: answer.url.clone(), reason }));
    if !matches!(answer.status, 200 | 206) {
        return Err(refusal(answer));
    }
    if let Some(etag) = answer.etag.as_deref().filter(|etag| !file.etag.is_empty() && *etag != file.etag) {
        return changed(format!("its ETag was {}, now it is {etag}", file.etag));
    }
    if answer.header("content-encoding").is_some_and(|coding| coding != "identity") {
        return refused("the server packs files (Content-Encoding), so parts of them cannot be asked for".into());
    }
    let length = answer.header("content-length").and_then(|text| text.parse::<u64>().ok());
    if answer.status == 200 {
        let whole = want == Want { from: 0, bytes: file.bytes };
        return match length {
            Some(length) if length != file.bytes => changed(format!("it had {} bytes, now it has {length}", file.bytes)),
            _ if whole => Ok(()),
            _ => refused(
                "the server sends whole files where parts are asked for (it does not know Range): copy the model here and pull from the folder".into(),
            ),
        };
    }
    let Some((from, to, total)) = answer.header("content-range").and_then(content_range) else {
        return refused("the server says 206 and not which part of the file it sends (Content-Range)".into());
    };
    if let Some(total) = total.filter(|total| *total != file.bytes) {
        return changed(format!("it had {} bytes, now it has {total}", file.bytes));
    }
    let end = want.from + want.bytes;
    if (from, to) != (want.from, end) {
        return refused(format!("asked for bytes {} to {end}, the server sends {from} to {to}", want.from));
    }
    match length {
        Some(length) if length != want.bytes => {
            refused(format!("asked for {} bytes, the server sends {length}", want.bytes))
        }
        _ => Ok(()),
    }
}

/// `bytes FROM-LAST/TOTAL` as from, one past the last, and the total where it is known.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((from.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 0-99/200"), Some((0, 100, Some(200))));
        assert_eq!(content_range("bytes 5-5/*"), Some((5, 6, None)));
        for text in ["", "bytes */200", "bytes 0-18446744073709551615/1", "bytes -5-9/10", "lines 0-1/2", "bytes 0-1"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
