//! A server on loopback that holds the fixtures as the hub does, counts what it sends, and fails on demand.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What is done to a request instead of answering it.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Another status, with `x-error-code` and `retry-after` where they are not empty.
    Status(u16, &'static str, &'static str),
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// So many bytes fewer than promised in `Content-Range`, and a length that agrees with what comes.
    Shorter(usize),
    /// `Content-Range` so many bytes further on.
    Shifted(u64),
    /// 200 with the whole file, whatever was asked for.
    NoRanges,
    /// Another ETag.
    OtherEtag,
    /// A file that is said to be larger.
    OtherSize,
    /// No answer, for so long.
    Silent(Duration),
    /// So many bytes a second, in small steps.
    Slow(u64),
    /// To the same path on another server.
    Redirect(String),
    /// To itself.
    Loop,
    /// A bit in the middle of what is sent is another.
    Flip,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<Range<u64>>,
    pub(crate) token: Option<String>,
    pub(crate) sent: u64,
}

/// When a fault strikes: requests for parts of weights files, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strikes {
    Weights,
    Anything,
    /// Requests for bytes of a file.
    File(&'static str),
}

#[derive(Default)]
struct State {
    faults: VecDeque<(Strikes, Fault)>,
    always: Option<(Strikes, Fault)>,
    seen: Vec<Seen>,
    token: Option<String>,
    etag_suffix: String,
    /// ETags of files, and whether the hub gives them for a file elsewhere.
    promised: BTreeMap<String, (String, bool)>,
    /// Of requests for weights, one in so many is answered.
    one_in: usize,
    asked: usize,
}

/// The server; it ends with the test process.
#[derive(Clone)]
pub(crate) struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Server {
    /// Serves the folder `models`, of which each subfolder is a model: as `/lime/NAME/resolve/main/FILE` and as `/plain/NAME/FILE`.
    pub(crate) fn start(models: PathBuf) -> Self {
        Self::start_at("127.0.0.1", models)
    }

    /// The same on another of this machine's addresses.
    pub(crate) fn start_at(host: &str, models: PathBuf) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, state: Arc::default() };
        let own = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, models) = (own.clone(), models.clone());
                thread::spawn(move || server.converse(&stream, &models));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.address
    }

    /// The next requests of this kind meet these faults, one each.
    pub(crate) fn next(&self, strikes: Strikes, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults.into_iter().map(|fault| (strikes, fault)));
    }

    /// Every request of this kind meets this fault.
    pub(crate) fn always(&self, strikes: Strikes, fault: Fault) {
        self.state.lock().unwrap().always = Some((strikes, fault));
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.always = None;
    }

    pub(crate) fn want_token(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    /// From now on a file of this name has this ETag; as the hub gives it for a file elsewhere where it is `linked`.
    pub(crate) fn promise(&self, file: &str, etag: &str, linked: bool) {
        self.state.lock().unwrap().promised.insert(file.to_owned(), (etag.to_owned(), linked));
    }

    /// Of requests for parts of weights, one in so many is answered.
    pub(crate) fn refuse_but_every(&self, one_in: usize) {
        self.state.lock().unwrap().one_in = one_in;
    }

    /// From now on every file has another ETag.
    pub(crate) fn change(&self) {
        self.state.lock().unwrap().etag_suffix.push('x');
    }

    /// Every request since the last time this was asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// The same, and they are seen the next time too.
    #[allow(dead_code, reason = "not everyone who starts a server looks at it while it sends")]
    pub(crate) fn peek(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    fn converse(&self, stream: &TcpStream, models: &std::path::Path) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line.trim().is_empty() => break,
                    Ok(_) => lines.push(line.trim().to_owned()),
                }
            }
            if !self.answer(stream, models, &lines) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }

    /// Answers one request; whether the connection goes on.
    fn answer(&self, mut stream: &TcpStream, models: &std::path::Path, lines: &[String]) -> bool {
        let mut words = lines[0].split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let header = |name: &str| {
            lines[1..].iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let range = header("range").map(|text| {
            let (from, last) = text.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            from.parse::<u64>().unwrap()..last.parse::<u64>().unwrap() + 1
        });
        let token = header("authorization").and_then(|text| text.strip_prefix("Bearer ").map(str::to_owned));
        let is_weights = path.ends_with(".safetensors") || path.ends_with(".gguf");
        let weights = is_weights && range.as_ref().is_some_and(|range| range.start > 0);
        let (fault, wanted, suffix, index) = {
            let mut state = self.state.lock().unwrap();
            let hits = |strikes: Strikes| match strikes {
                Strikes::Anything => true,
                Strikes::Weights => weights,
                Strikes::File(name) => range.is_some() && path.ends_with(name),
            };
            let next = state.faults.iter().position(|(strikes, _)| hits(*strikes));
            let next = next.and_then(|index| state.faults.remove(index)).map(|(_, fault)| fault);
            let always = state.always.clone().filter(|(strikes, _)| hits(*strikes)).map(|(_, fault)| fault);
            let (method, path, range, token) = (method.clone(), path.clone(), range.clone(), token.clone());
            state.asked += usize::from(weights);
            let refused = (weights && state.one_in > 0 && !state.asked.is_multiple_of(state.one_in))
                .then_some(Fault::Status(503, "", "0"));
            state.seen.push(Seen { method, path, range, token, sent: 0 });
            (next.or(always).or(refused), state.token.clone(), state.etag_suffix.clone(), state.seen.len() - 1)
        };
        let status =
            |code: u16, more: &str| format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\n{more}\r\n").into_bytes();
        if wanted.is_some() && token != wanted {
            return stream.write_all(&status(401, "")).is_ok();
        }
        match &fault {
            Some(Fault::Status(code, error, wait)) => {
                let more = [("x-error-code", error), ("retry-after", wait)];
                let more: String =
                    more.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}: {v}\r\n")).collect();
                return stream.write_all(&status(*code, &more)).is_ok();
            }
            Some(Fault::Silent(time)) => {
                thread::sleep(*time);
                return false;
            }
            Some(Fault::Redirect(other)) => {
                return stream.write_all(&status(302, &format!("location: {other}{path}\r\n"))).is_ok();
            }
            Some(Fault::Loop) => return stream.write_all(&status(302, &format!("location: {path}\r\n"))).is_ok(),
            _ => {}
        }
        if let Some(model) = path.strip_prefix("/api/models/lime/").and_then(|rest| rest.split_once("/revision/")) {
            let body = listing(&models.join(model.0));
            let Some(body) = body.filter(|_| fault.is_none()) else {
                return stream.write_all(&status(404, "x-error-code: RepoNotFound\r\n")).is_ok();
            };
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", body.len());
            return stream.write_all(format!("{head}{body}").as_bytes()).is_ok();
        }
        let relative = path.strip_prefix("/lime/").map(|rest| rest.replacen("/resolve/main/", "/", 1));
        let relative = relative.map(|rest| rest.replacen(&format!("/resolve/{COMMIT}/"), "/", 1));
        let relative = relative.or_else(|| path.strip_prefix("/plain/").map(str::to_owned)).unwrap_or_default();
        let Some(body) =
            Some(relative).filter(|text| !text.contains("..")).and_then(|text| fs::read(models.join(text)).ok())
        else {
            return stream.write_all(&status(404, "x-error-code: EntryNotFound\r\n")).is_ok();
        };
        let file = path.rsplit('/').next().unwrap_or_default();
        let promised = self.state.lock().unwrap().promised.get(file).cloned();
        let mut etag = format!("\"{}{suffix}\"", body.len());
        let mut total = body.len() as u64;
        let mut linked = String::new();
        match promised {
            Some((promised, true)) => {
                linked = format!("X-Linked-ETag: {promised}\r\nX-Linked-Size: {total}\r\n");
                etag = promised;
            }
            Some((promised, false)) => etag = promised,
            None => {}
        }
        match fault {
            Some(Fault::OtherEtag) => etag = "\"other\"".into(),
            Some(Fault::OtherSize) => total += 4096,
            _ => {}
        }
        let unchanged = header("if-range").is_none_or(|wanted| wanted == etag);
        let range = range.filter(|_| unchanged && !matches!(fault, Some(Fault::NoRanges)));
        if range.as_ref().is_some_and(|range| range.end > body.len() as u64) {
            return stream.write_all(&status(416, "")).is_ok();
        }
        let mut part = range.clone().map_or(&body[..], |range| &body[range.start as usize..range.end as usize]);
        let mut flipped = part.to_vec();
        if matches!(fault, Some(Fault::Flip)) {
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            part = &flipped;
        }
        let mut head = format!("{linked}ETag: {etag}\r\nX-Repo-Commit: {COMMIT}\r\nAccept-Ranges: bytes\r\n");
        let code = if let Some(range) = range {
            let shift = if let Some(Fault::Shifted(shift)) = fault { shift } else { 0 };
            head += &format!("Content-Range: bytes {}-{}/{total}\r\n", range.start + shift, range.end - 1 + shift);
            206
        } else {
            200
        };
        if let Some(Fault::Shorter(bytes)) = fault {
            part = &part[..part.len() - bytes];
        }
        head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n{head}\r\n", part.len());
        if stream.write_all(head.as_bytes()).is_err() {
            return false;
        }
        if method == "HEAD" {
            return true;
        }
        let (part, goes_on) = match fault {
            Some(Fault::CutAfter(bytes)) => (&part[..bytes.min(part.len())], bytes >= part.len()),
            _ => (part, true),
        };
        let step = if let Some(Fault::Slow(rate)) = fault { (rate / 50).max(1) as usize } else { 64 << 10 };
        for piece in part.chunks(step) {
            if stream.write_all(piece).is_err() {
                return false;
            }
            if let Some(seen) = self.state.lock().unwrap().seen.get_mut(index) {
                seen.sent += piece.len() as u64;
            }
            if matches!(fault, Some(Fault::Slow(_))) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        goes_on
    }
}

/// What the hub says that a repository has: a commit, and the files with their sizes.
fn listing(model: &std::path::Path) -> Option<String> {
    fn files(folder: &std::path::Path, under: &str, found: &mut Vec<String>) -> Option<()> {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let name = format!("{under}{}", entry.file_name().to_string_lossy());
            match entry.metadata().ok()? {
                data if data.is_dir() => files(&entry.path(), &format!("{name}/"), found)?,
                data => found.push(format!("{{\"rfilename\": {name:?}, \"size\": {}}}", data.len())),
            }
        }
        Some(())
    }
    let mut found = Vec::new();
    files(model, "", &mut found)?;
    Some(format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", found.join(", ")))
}
