//! `lime inspect` of models on servers, as the operator's inspections run it: what ends up in the termination log.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../store/tests/common/server.rs"]
mod server;

use std::{fs, path::Path};

use lime_plan::Inspection;
use server::{COMMIT, Fault, Server, Strikes};

/// The bundled model, one of a family that nobody knows, and one without weights.
fn models(folder: &Path) {
    for name in ["good", "strange", "empty", "broken", "pickled", "windowed"] {
        fs::create_dir(folder.join(name)).unwrap();
        for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(common::model().join(file), folder.join(name).join(file)).unwrap();
        }
        if !matches!(name, "empty" | "pickled") {
            fs::copy(common::model().join("model.safetensors"), folder.join(name).join("model.safetensors")).unwrap();
        }
    }
    let config = fs::read_to_string(folder.join("strange/config.json")).unwrap();
    let config = config.replace("LlamaForCausalLM", "StrangeForCausalLM").replace("\"llama\"", "\"strange\"");
    fs::write(folder.join("strange/config.json"), config).unwrap();
    fs::write(folder.join("broken/model.safetensors"), [0xff; 64]).unwrap();
    fs::write(folder.join("pickled/pytorch_model.bin"), [0x80; 64]).unwrap();
    let config = fs::read_to_string(folder.join("good/config.json")).unwrap();
    fs::write(folder.join("windowed/config.json"), config.replacen('{', "{\"sliding_window\": 100,", 1)).unwrap();
}

/// What `lime inspect` writes for the operator, and what it says itself.
fn inspect(endpoint: &str, token: Option<&str>, arguments: &[&str]) -> (Inspection, String) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    let mut command = common::command(&["inspect", "--termination-log", log.to_str().unwrap()]);
    command.args(arguments).env("HF_ENDPOINT", endpoint).env("HOME", folder.path());
    for name in ["HF_TOKEN", "HF_HOME", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command.envs(token.map(|token| ("HF_TOKEN", token)));
    let output = command.env("TMPDIR", folder.path()).output().unwrap();
    let line = fs::read_to_string(&log).unwrap();
    assert!(line.len() <= 4096, "Kubernetes keeps 4096 bytes of it, these are {}", line.len());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["termination-log"], "nothing is kept");
    (Inspection::from_line(&line).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn models_on_servers_are_inspected_by_their_headers() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let server = Server::start(folder.path().to_owned());
    let plain = format!("{}/plain/good", server.url());
    for (arguments, revision) in [(&["hf://lime/good", "--revision", "main"][..], Some(COMMIT)), (&[&plain], None)] {
        let (found, said) = inspect(server.url(), None, arguments);
        let Inspection::Card(brief) = found else { panic!("{found:?} {said}") };
        assert_eq!(brief.revision.as_deref(), revision);
        let card = brief.card().unwrap();
        assert_eq!((card.name.as_str(), card.layers), ("good", 12));
        let sent: u64 = server.seen().iter().map(|seen| seen.sent).sum();
        let whole = fs::metadata(folder.path().join("good/model.safetensors")).unwrap().len();
        assert!(
            sent < whole,
            "{sent} bytes: headers and samples are fetched, of which a model as small as this one is nearly full"
        );
    }
}

#[test]
fn what_is_special_about_a_models_files_is_said() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let server = Server::start(folder.path().to_owned());
    let there = folder.path().join("windowed").display().to_string();
    for source in [there.as_str(), "hf://lime/windowed"] {
        let (found, said) = inspect(server.url(), None, &[source]);
        let Inspection::Card(brief) = found else { panic!("{found:?} {said}") };
        assert_eq!(brief.card().unwrap().context, 100);
        assert!(said.contains("\"sliding_window\": 100") && said.contains("the context is 100 of 512"), "{said}");
    }
}

#[test]
fn each_bad_source_has_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let open = Server::start(folder.path().to_owned());
    let gated = Server::start(folder.path().to_owned());
    gated.want_token("right");
    let refusing = |code, error| {
        let server = Server::start(folder.path().to_owned());
        server.always(Strikes::Anything, Fault::Status(code, error, ""));
        server
    };
    let (forbidden, unaccepted) = (refusing(403, ""), refusing(403, "GatedRepo"));
    let (private, unrevised) = (refusing(401, "RepoNotFound"), refusing(404, "RevisionNotFound"));
    let web = |server: &Server, name: &str| format!("{}/plain/{name}", server.url());
    let hub = "hf://lime/good".to_owned();
    let table = [
        (&gated, None, hub.clone(), "TokenMissing", "HF_TOKEN"),
        (&gated, Some("wrong"), hub.clone(), "ModelGated", "401"),
        (&forbidden, Some("right"), hub.clone(), "ModelGated", "403"),
        (&unaccepted, Some("right"), hub.clone(), "ModelGated", "accept its terms"),
        (&private, Some("right"), hub.clone(), "ModelNotFound", "no such model, or it is private"),
        (&unrevised, None, hub, "ModelNotFound", "no such revision"),
        (&open, None, "hf://lime/nothing".into(), "ModelNotFound", "config.json"),
        (&open, None, "hf://lime/empty".into(), "ModelNotFound", "model.safetensors"),
        (&open, None, "hf://lime/pickled".into(), "ModelNotFound", "there is pytorch_model.bin, pickled weights"),
        (&open, None, "hf://lime/strange".into(), "UnsupportedArchitecture", "strange"),
        (&open, None, "hf://lime/broken".into(), "ModelDamaged", "model.safetensors"),
        (&open, None, web(&open, "nothing"), "ModelNotFound", "config.json"),
        (&open, None, web(&open, "strange"), "UnsupportedArchitecture", "strange"),
        (&open, Some("right"), web(&forbidden, "good"), "ModelGated", "403"),
        (&open, None, web(&gated, "good"), "TokenMissing", "401"),
    ];
    for (server, token, source, expected, words) in table {
        let (found, said) = inspect(server.url(), token, &[&source]);
        let Inspection::Refused { reason, message } = found else { panic!("{source} is no good: {found:?}") };
        assert_eq!(reason, expected, "{source}: {message}");
        assert!(
            message.to_lowercase().contains(&words.to_lowercase()),
            "{source} should say {words:?}, says {message}"
        );
        assert!(!message.contains("/tmp"), "the same at each inspection: {message}");
        assert!(said.contains(&source), "{said}");
    }
}
