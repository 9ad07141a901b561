//! The gateway's pod goes while answers are under way: it ends them, and whoever asks meanwhile waits in the gateway after it. What takes
//! longer than `endpoint.drainSeconds` ends with an error that clients may retry.

use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deployed::{Deployed, PATIENCE, condition, text};
use crate::ring::question;
use crate::story::Story;
use crate::streams::{long_question, stream};

/// More than there are places for: some of them wait in the queue when their gateway goes.
const STREAMS: usize = 48;

type Stream = JoinHandle<(anyhow::Result<String>, Duration)>;

/// Asks for long answers, and waits until the first are under way.
fn begin(bard: &Deployed<'_>) -> Vec<Stream> {
    let at = bard.endpoint();
    let ask = |at: String| {
        let begun = Instant::now();
        (stream(&at, &long_question(0.0), &mut Duration::default()), begun.elapsed())
    };
    let streams = (0..STREAMS).map(|_| (at.clone(), ask)).map(|(at, ask)| spawn(move || ask(at))).collect();
    std::thread::sleep(Duration::from_millis(500));
    streams
}

/// Deletes the gateway's pod; returns where the one after it is asked, as soon as clients are sent there.
fn goes(bard: &Deployed<'_>) -> String {
    let before = bard.endpoint();
    let gateway = bard.gateway().unwrap().unwrap()["targetRef"]["name"].as_str().unwrap().to_owned();
    bard.run(&["delete", "pod", &gateway, "--wait=false"]).unwrap();
    let after = bard.cluster.eventually("clients are sent to another gateway", PATIENCE, || {
        let found = bard.gateway()?;
        let at = found.and_then(|found| Some(format!("{}:8000", found["addresses"][0].as_str()?)));
        Ok(at.filter(|at| *at != before))
    });
    after.unwrap()
}

/// Answers under way end whole, and one that is asked for meanwhile comes after them.
pub(crate) fn keeps_answers(bard: &Deployed<'_>, long: &Value) {
    let expected = bard.ask(&question());
    let plan = bard.served(None);
    let story = Story::begin(bard);
    let began = Instant::now();
    let streams = begin(bard);
    let after = goes(bard);
    let asked = Instant::now();
    let waited = stream(&after, &question(), &mut Duration::default()).unwrap();
    println!(
        "the next gateway took a request {:.1} s after the first streams began, and answered it {:.1} s later",
        (asked - began).as_secs_f64(),
        asked.elapsed().as_secs_f64()
    );
    assert_eq!(waited, *text(&expected));
    let mut longest = Duration::ZERO;
    for stream in streams {
        let (answer, took) = stream.join().unwrap();
        assert_eq!(answer.unwrap(), *long, "an answer under way is whole");
        longest = longest.max(took);
    }
    println!("{STREAMS} streams were whole, the longest after {:.1} s", longest.as_secs_f64());
    assert_eq!(bard.served(None), plan, "another gateway is no other plan");
    let told = story.tell(began, "Ready");
    print!("{told}");
    assert!(told.contains("HandingOver") && told.contains("leaves and ends"), "it is told: {told}");
}

/// With a second of time long answers are cut, by name, and the next gateway serves.
pub(crate) fn cuts_what_takes_too_long(bard: &Deployed<'_>) {
    let shorter = r#"{"spec":{"endpoint":{"drainSeconds":1}}}"#;
    bard.run(&["patch", "limedeployment", bard.name, "--type=merge", "-p", shorter]).unwrap();
    // The gateway first, the workers after it.
    let made = bard.cluster.eventually("all pods have another time to leave", PATIENCE, || {
        let pods = bard.list(&["pods", "-l", &format!("lime.dev/deployment={}", bard.name)])?;
        let new = |pod: &Value| pod["spec"]["terminationGracePeriodSeconds"] == 11;
        let ready = condition(&bard.object()?, "Ready").status == "True";
        Ok((ready && pods.len() >= 3 && pods.iter().all(new)).then_some(()))
    });
    made.unwrap_or_else(|error| panic!("{error}\n{}", bard.told()));
    let streams = begin(bard);
    let after = goes(bard);
    let cut: Vec<String> = streams
        .into_iter()
        .filter_map(|stream| stream.join().unwrap().0.err().map(|error| error.to_string()))
        .collect();
    println!("{} of {STREAMS} streams were cut: {}", cut.len(), cut.first().map_or("", String::as_str));
    assert!(!cut.is_empty() && cut.iter().all(|error| error.contains("server_shutdown")), "{cut:?}");
    bard.eventually("served by the next gateway", PATIENCE, |it| {
        (condition(it, "Ready").status == "True").then_some(())
    });
    assert!(stream(&after, &question(), &mut Duration::default()).is_ok());
}
