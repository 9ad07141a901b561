//! Files that hold anything but what their names say.

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use anyhow::Result;
use lime_ring::{RingSecurity, Transport};
use lime_tests::certificates::{Authority, Member};

const NAMES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

#[test]
fn each_faulty_file_is_named() -> Result<()> {
    let good = Authority::new()?.worker()?;
    let of_nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key_of_nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let contents: [&[u8]; 9] = [
        b"",
        b"\n\n",
        b"no certificate at all",
        b"\xff\xfe\x00\x01",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        of_nonsense.as_bytes(),
        key_of_nonsense.as_bytes(),
        &[b'A'; 300 << 10],
    ];
    for name in NAMES {
        for content in contents {
            let folder = good.folder()?;
            fs::remove_file(folder.path().join(name))?;
            fs::write(folder.path().join(name), content)?;
            let error = RingSecurity::open(folder.path()).expect_err(name).to_string();
            assert!(
                error.contains(name),
                "{name} of {:?}: {error}",
                String::from_utf8_lossy(&content[..content.len().min(40)])
            );
        }
        let folder = good.folder()?;
        fs::remove_file(folder.path().join(name))?;
        let error = Transport::open(Some(folder.path())).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("cannot be read"), "{error}");
    }
    Ok(())
}

#[test]
fn files_that_do_not_belong_together_are_named() -> Result<()> {
    let (ring, other) = (Authority::new()?, Authority::new()?);
    let (good, twin) = (ring.worker()?, ring.worker()?);
    let table = [
        (Member { key: twin.key.clone(), ..good.clone() }, ["tls.key", "tls.crt"]),
        (Member { authority: other.worker()?.authority, ..good.clone() }, ["tls.crt", "ca.crt"]),
        (Member { authority: good.certificate.clone(), ..good.clone() }, ["tls.crt", "ca.crt"]),
    ];
    for (mixed, named) in table {
        let error = RingSecurity::open(mixed.folder()?.path()).unwrap_err().to_string();
        assert!(named.iter().all(|name| error.contains(name)), "{named:?}: {error}");
    }
    Ok(())
}

#[test]
fn a_thousand_damaged_files_are_errors_or_harmless() -> Result<()> {
    let good = Authority::new()?.worker()?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let folder = tempfile::tempdir()?;
    let originals = [&good.authority, &good.certificate, &good.key].map(|text| text.clone().into_bytes());
    for _ in 0..1000 {
        let mut files = originals.clone();
        for _ in 0..=random(3) {
            let file = &mut files[random(3)];
            match random(4) {
                0 => file.truncate(random(file.len() + 1)),
                1 if !file.is_empty() => {
                    let at = random(file.len());
                    file[at] = random(256) as u8;
                }
                2 if !file.is_empty() => {
                    let at = random(file.len());
                    file[at] ^= 1;
                }
                _ => {
                    let at = random(file.len() + 1);
                    file.insert(at, random(256) as u8);
                }
            }
        }
        for (name, bytes) in NAMES.iter().zip(&files) {
            fs::write(folder.path().join(name), bytes)?;
        }
        if let Err(error) = RingSecurity::open(folder.path()) {
            let said = error.to_string();
            assert!(NAMES.iter().any(|name| said.contains(name)), "{said}");
        }
    }
    Ok(())
}

#[test]
fn a_bad_rotation_is_told_of_once() -> Result<()> {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let ring = Authority::new()?;
    let folder = ring.worker()?.folder()?;
    let security = RingSecurity::open(folder.path())?;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || -> Result<()> {
        let foreign = Member { key: ring.worker()?.key, ..ring.worker()? };
        foreign.publish(folder.path())?;
        for _ in 0..5 {
            security.client();
            security.server();
        }
        ring.worker()?.publish(folder.path())?;
        security.client();
        security.client();
        Ok(())
    })?;
    let told = String::from_utf8(log.0.lock().unwrap().clone())?;
    assert_eq!(told.matches("WARN").count(), 1, "{told}");
    assert!(told.contains("tls.key"), "{told}");
    assert_eq!(told.matches("new connections use the new certificate").count(), 1, "{told}");
    Ok(())
}
