//! Files of an archive, in memory until they are written.

use std::collections::BTreeMap;

use flate2::{Compression, write::GzEncoder};
use k8s_openapi::jiff::Timestamp;
use tar::{Builder, Header};

/// What could not be had, as a file of the archive.
const FAULTS: &str = "not-collected.txt";

/// Files by path, and what could not be had.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<String>,
}

impl Bundle {
    /// Adds a file. What is added twice is kept as it was last.
    pub(crate) fn add(&mut self, path: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), text.into());
    }

    /// Notes what could not be had.
    pub(crate) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len() + usize::from(!self.faults.is_empty())
    }

    /// A gzipped tar of everything, below `folder`.
    pub(crate) fn archive(&self, folder: &str, time: Timestamp) -> std::io::Result<Vec<u8>> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        let faults = (!self.faults.is_empty()).then(|| (FAULTS, self.faults.join("\n").into_bytes()));
        let files = self.files.iter().map(|(path, text)| (path.as_str(), text.clone())).chain(faults);
        for (path, text) in files {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(seconds);
            archive.append_data(&mut header, format!("{folder}/{path}"), text.as_slice())?;
        }
        archive.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_is_added_comes_out() {
        let mut bundle = Bundle::default();
        bundle.add("pods/m.yaml", "kind: Pod\n");
        bundle.fault("you may not read nodes".into());
        let archive = bundle.archive("lime-llm", Timestamp::UNIX_EPOCH).unwrap();
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(GzDecoder::new(archive.as_slice())).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(entry.path().unwrap().display().to_string(), text);
        }
        let expected = [
            ("lime-llm/not-collected.txt".to_owned(), "you may not read nodes".to_owned()),
            ("lime-llm/pods/m.yaml".to_owned(), "kind: Pod\n".to_owned()),
        ];
        assert_eq!(found, BTreeMap::from(expected));
        assert_eq!(bundle.len(), 2);
    }
}
