//! The page's files, as they lie in `runtime/gateway/page`.

/// One of them.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! file {
    ($name:literal, $kind:expr) => {
        File { name: $name, kind: $kind, text: include_str!(concat!("../../../page/", $name)) }
    };
}

/// What a browser is given first.
pub(super) const INDEX: File = file!("index.html", HTML);

/// What that asks for.
const FILES: &[File] = &[
    file!("base.css", CSS),
    file!("dialogs.css", CSS),
    file!("chat.css", CSS),
    file!("answer.css", CSS),
    file!("ring.css", CSS),
    file!("memory.css", CSS),
    file!("icon.svg", SVG),
    file!("app.js", SCRIPT),
    file!("chat.js", SCRIPT),
    file!("composer.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("events.js", SCRIPT),
    file!("faults.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("layers.js", SCRIPT),
    file!("markdown.js", SCRIPT),
    file!("memory.js", SCRIPT),
    file!("ring.js", SCRIPT),
    file!("server.js", SCRIPT),
    file!("settings.js", SCRIPT),
    file!("speaker.js", SCRIPT),
    file!("speed.js", SCRIPT),
];

pub(super) fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// A file that is forgotten here is missed by the browser alone.
    #[test]
    fn what_lies_in_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let served = FILES.iter().map(|file| file.name.to_owned()).chain([INDEX.name.to_owned()]);
        assert_eq!(found.collect::<BTreeSet<_>>(), served.collect());
    }

    /// The policy forbids it, and so do offline networks: nothing is asked of anybody else, and no markup is made of text.
    #[test]
    fn files_ask_nobody_else_and_make_no_markup() {
        for file in FILES.iter().chain([&INDEX]) {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for banned in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                let uses = text.matches(banned).count();
                assert_eq!(uses, 0, "{} has {banned}", file.name);
            }
        }
    }
}
