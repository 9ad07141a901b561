//! The page in a real browser, where one can be had.

mod common;

use std::{fs, path::Path, process::Stdio};

use common::{Running, client, root, wish_with};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// A link that lets an answer take some seconds, so that something can happen to it.
const SLOW: &str = ", link: { bandwidth: 100Mbit, latency: 4ms }";

/// Runs a script of `tests/page`; it says itself where it cannot run.
fn run(script: &str, environment: &[(&str, &str)]) {
    let mut command = std::process::Command::new("bash");
    command.arg(root().join("tests/page/run.sh")).arg(script).envs(environment.iter().copied());
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(fault) => return println!("skipped: bash cannot be run: {fault}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}");
}

/// Starts three devices, and gives where they serve.
fn serving(folder: &Path, more: &[&str]) -> (Running, String) {
    let file = wish_with(folder, &[3000, 3500, 4000], SLOW);
    let mut up = Running::start(&[&["up", "-v", "--port", "0", "-f", &file], more].concat());
    let line = up.wait_for("serving bard at");
    let address = client::address(&line.replace("https://", "http://"));
    (up, address)
}

#[test]
fn people_use_it() {
    let folder = tempfile::tempdir().unwrap();
    let (up, address) = serving(folder.path(), &[]);
    let workers = client::workers(&up.heard).iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    run("page.mjs", &[("LIME_BASE_URL", &format!("http://{address}/")), ("LIME_WORKERS", &workers)]);
}

#[test]
fn people_are_asked_for_a_key_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(at("tls.crt"), cert.pem()).unwrap();
    fs::write(at("tls.key"), signing_key.serialize_pem()).unwrap();
    fs::write(at("keys"), "secret-key\n").unwrap();
    let more = ["--api-key-file", &at("keys"), "--api-tls-cert", &at("tls.crt"), "--api-tls-key", &at("tls.key")];
    let (_up, address) = serving(folder.path(), &more);
    run("keys.mjs", &[("LIME_BASE_URL", &format!("https://{address}/"))]);
}
