//! Inside a crate modules import each other by path and in one direction, never through the crate's face: who reads one file then knows
//! which others it stands on. (`tests/layers` holds the arrows between crates.)

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The folders of all crates of operator and runtime, by their paths from the root.
fn crates(root: &Path) -> Vec<String> {
    let folders = ["operator", "runtime"].into_iter().flat_map(|part| {
        let inside = fs::read_dir(root.join(part)).unwrap().map(move |entry| (part, entry.unwrap()));
        inside.filter(|(_, entry)| entry.path().join("src").is_dir())
    });
    folders.map(|(part, entry)| format!("{part}/{}", entry.file_name().to_str().unwrap())).collect()
}

/// A crate's modules by path (`a::b`; the front is empty), with their source.
type Sources = BTreeMap<Vec<String>, String>;

/// What a crate's modules import of each other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Imports {
    /// From module to module, with the path that says so.
    arrows: BTreeMap<(String, String), String>,
    /// Names of the crate's front that a module imports, which stands before all of them.
    through_face: Vec<(String, String)>,
}

impl Imports {
    fn of(sources: &Sources) -> Self {
        let mut imports = Self::default();
        for (module, source) in sources.iter().filter(|(module, _)| !is_front(module) && !is_test(module)) {
            for path in paths_in(without_tests(&without_comments(source))) {
                let Some(full) = absolute(module, &path) else { continue };
                let prefixes = (1..=full.len()).rev().map(|length| full[..length].to_vec());
                match prefixes.into_iter().find(|prefix| sources.contains_key(prefix)) {
                    Some(found) if found == *module || is_test(&found) => {}
                    Some(found) => {
                        imports.arrows.entry((module.join("::"), found.join("::"))).or_insert(path);
                    }
                    None => imports.through_face.push((module.join("::"), path)),
                }
            }
        }
        imports
    }

    /// Modules each of which reaches the others, with the arrows between them.
    fn circles(&self) -> Vec<String> {
        let reaches = |from: &str, to: &str| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(at) = next.pop() {
                let targets = self.arrows.keys().filter(|(from, _)| from == at).map(|(_, to)| to.as_str());
                next.extend(targets.filter(|target| seen.insert(*target)));
            }
            seen.contains(to)
        };
        let back = self.arrows.iter().filter(|((from, to), _)| reaches(to, from));
        back.map(|((from, to), path)| format!("{from} imports {to} ({path})")).collect()
    }
}

fn is_front(module: &[String]) -> bool {
    module.is_empty() || module == ["main"]
}

fn is_test(module: &[String]) -> bool {
    module.iter().any(|name| name == "tests" || name.ends_with("_tests") || name == "properties")
}

/// The modules below a crate's `src`.
fn sources_of(src: &Path) -> Sources {
    let mut sources = Sources::new();
    let mut folders = vec![(src.to_owned(), Vec::new())];
    while let Some((folder, module)) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let stem = entry.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut below: Vec<String> = module.clone();
            if entry.is_dir() {
                below.push(stem);
                folders.push((entry, below));
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                if !(stem == "mod" || (stem == "lib" && module.is_empty())) {
                    below.push(stem);
                }
                sources.insert(below, fs::read_to_string(&entry).unwrap());
            }
        }
    }
    sources
}

/// The source without line comments. Text in strings may go with them: no path is looked for there.
fn without_comments(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The source up to its modules for tests, which stand at its end.
fn without_tests(source: &str) -> &str {
    let mut looked_at = 0;
    while let Some(found) = source[looked_at..].find("#[cfg(test)]\n") {
        let (begins, after) = (looked_at + found, looked_at + found + "#[cfg(test)]\n".len());
        // Behind its attributes.
        let item = source[after..].lines().find(|line| !line.starts_with("#[")).unwrap_or_default();
        if item.starts_with("mod ") && item.contains('{') {
            return &source[..begins];
        }
        looked_at = after;
    }
    source
}

/// Every path that begins with `crate`, `super` or `self`, those of `use` trees written out.
fn paths_in(source: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    let mut source = source;
    while let Some((before, after)) = source.split_once("use ") {
        rest.push_str(before);
        // The word, not the end of another.
        let is_word = before.chars().next_back().is_none_or(|last| !last.is_alphanumeric() && last != '_');
        let statement = after.split_once(';').filter(|_| is_word);
        let Some((tree, after)) = statement else {
            source = after;
            continue;
        };
        written_out(tree, "", &mut paths);
        source = after;
    }
    rest.push_str(source);
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    paths.extend(rest.split(|c| !word(c)).map(|path| path.trim_end_matches(':').to_owned()));
    paths.retain(|path| ["crate::", "super::", "self::"].iter().any(|start| path.starts_with(start)));
    paths
}

fn written_out(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let mut depth = 0;
    let branches = tree.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for branch in branches.map(str::trim).filter(|branch| !branch.is_empty()) {
        match branch.split_once('{') {
            Some((start, inner)) => {
                let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
                written_out(inner, &format!("{prefix}{}", start.trim()), paths);
            }
            None => {
                let name = branch.split(" as ").next().unwrap_or_default().trim();
                paths.push(format!("{prefix}{name}"));
            }
        }
    }
}

/// The path from the crate's front on; `None` where it names nothing of the crate.
fn absolute(module: &[String], path: &str) -> Option<Vec<String>> {
    let mut base: Vec<String> = module.to_vec();
    let mut names = path.split("::").peekable();
    match names.next()? {
        "crate" => base.clear(),
        "super" => {
            base.pop();
            while names.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        _ => {}
    }
    base.extend(names.map(str::to_owned));
    (!base.is_empty()).then_some(base)
}

#[test]
fn modules_import_in_one_direction_and_never_through_their_crates_face() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut faults = Vec::new();
    let (crates, mut arrows) = (crates(root), 0);
    for name in &crates {
        let imports = Imports::of(&sources_of(&root.join(name).join("src")));
        arrows += imports.arrows.len();
        let through =
            imports.through_face.iter().map(|(module, path)| format!("{module} imports {path}: name its module"));
        faults.extend(through.chain(imports.circles()).map(|fault| format!("{name}: {fault}")));
    }
    assert!(crates.len() > 20 && arrows > 1000, "{arrows} imports in {crates:?}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_circle_and_a_way_through_the_face_are_seen() {
    let sources = |files: &[(&str, &str)]| -> Sources {
        let path = |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        files.iter().map(|(name, source)| (path(name), (*source).to_owned())).collect()
    };
    let whole = Imports::of(&sources(&[
        ("", "pub use b::Thing;"),
        ("a", "use crate::{\n    b::{Thing, c::Other as That},\n    Thing,\n};\n// use crate::z;\nuse std::fmt;"),
        ("b", "mod c;\nfn f() -> super::d::X { crate::d::go() }\n#[cfg(test)]\nmod tests { use crate::a::Y; }"),
        ("b::c", "use super::Thing;"),
        ("d", ""),
    ]));
    let arrows: Vec<(&str, &str)> = whole.arrows.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    assert_eq!(arrows, [("a", "b"), ("a", "b::c"), ("b", "d"), ("b::c", "b")]);
    assert_eq!(whole.through_face, [("a".to_owned(), "crate::Thing".to_owned())]);
    assert_eq!(whole.circles(), Vec::<String>::new());
    let circle = Imports::of(&sources(&[
        ("", ""),
        ("a", "use crate::b::B;"),
        ("b", "use crate::c::C;"),
        ("c", "use super::a::A;"),
        ("d", "use crate::a::A;"),
    ]));
    let back = ["a imports b (crate::b::B)", "b imports c (crate::c::C)", "c imports a (super::a::A)"];
    assert_eq!(circle.circles(), back);
}
