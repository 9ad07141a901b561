//! `lime up` for other machines: keys, TLS and a loud word where either is missing; and `lime chat` that comes to it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use common::{Running, command, failure, wish};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// A certificate of this machine's loopback.
fn certificate(folder: &Path, name: &str) -> (String, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let at = |ending: &str| folder.join(format!("{name}.{ending}")).to_str().unwrap().to_owned();
    fs::write(at("crt"), cert.pem()).unwrap();
    fs::write(at("key"), signing_key.serialize_pem()).unwrap();
    (at("crt"), at("key"))
}

/// `lime chat` that is told `said` through a pipe.
fn chat(args: &[&str], said: &str) -> Output {
    let mut command = command(&[&["chat", "--max-tokens", "12", "--temperature", "0"], args].concat());
    command.env_remove("LIME_API_KEY").env_remove("LIME_URL");
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
    chat.wait_with_output().unwrap()
}

#[test]
fn other_machines_come_with_a_key_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = certificate(folder.path(), "tls");
    let keys = folder.path().join("keys");
    fs::write(&keys, "first-key\nsecond-key\n").unwrap();
    let file = wish(folder.path(), &[8192]);
    let mut up = Running::start(&[
        "up",
        "-f",
        &file,
        "--listen",
        "0.0.0.0:0",
        "--api-key-file",
        keys.to_str().unwrap(),
        "--api-tls-cert",
        &certificate_file,
        "--api-tls-key",
        &key_file,
        "--prompt",
        "ROMEO:\n",
        "--max-tokens",
        "12",
    ]);
    let line = up.wait_for("serving bard at");
    let url = line.split_whitespace().find(|word| word.starts_with("https://127.0.0.1:")).expect(&line).to_owned();
    up.wait_for("authorization: Bearer KEY");
    let heard = up.listen().to_owned();
    assert!(!heard.contains("WARNING"), "{heard}");
    assert!(!heard.contains("first-key"), "no key is shown: {heard}");

    let with = |args: &[&str], said| chat(&[&["--url", &url], args].concat(), said);
    let answered = with(&["--cacert", &certificate_file, "--api-key", "second-key"], "ROMEO:\nI will\n");
    let errors = String::from_utf8_lossy(&answered.stderr).into_owned();
    assert!(answered.status.success() && answered.stdout.len() > 5, "{errors}");
    let refused = with(&["--cacert", &certificate_file, "--api-key", "third-key"], "ROMEO:");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Incorrect API key"));
    let (other, _) = certificate(folder.path(), "other");
    for trust in [&[][..], &["--cacert", &other]] {
        let strange = with(&[trust, &["--api-key", "first-key"]].concat(), "ROMEO:");
        let errors = String::from_utf8_lossy(&strange.stderr).into_owned();
        assert!(errors.contains("is not trusted") && errors.contains("--cacert FILE"), "{errors}");
    }
    up.signal("TERM");
    let (code, output) = up.end();
    assert_eq!(code, Some(0));
    assert!(output.starts_with("ROMEO:\nI will not bite thee"), "the prompt was answered over TLS: {output:?}");
}

#[test]
fn without_keys_it_warns_loudly() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[8192]);
    let mut up = Running::start(&["up", "-f", &file, "--listen", "0.0.0.0:0"]);
    let warning = up.wait_for("WARNING");
    assert!(warning.contains("anyone who reaches this machine") && warning.contains("--api-key-file"), "{warning}");
    up.wait_for("serving bard at http://127.0.0.1:");
    up.signal("TERM");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn what_cannot_be_used_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[8192]);
    let (certificate_file, _) = certificate(folder.path(), "tls");
    let (_, other_key) = certificate(folder.path(), "other");
    let told = failure(&["up", "-f", &file, "--api-tls-cert", &certificate_file, "--api-tls-key", &other_key]);
    assert!(told.contains("is not the key of the certificate"), "{told}");
    let keys = folder.path().join("keys");
    fs::write(&keys, "\n").unwrap();
    let told = failure(&["up", "-f", &file, "--api-key-file", keys.to_str().unwrap()]);
    assert!(told.contains("holds no key"), "{told}");
    let output = command(&["up", "-f", &file, "--allow-origin", "chat.example"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("SCHEME://HOST"), "{told}");
}
