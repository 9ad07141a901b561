//! A timeline as a picture: three rows for each device (compute, load, send), waits hatched, an axis in round numbers.

use std::fmt::Write as _;

use crate::timeline::{Activity, Timeline};
use lime_plan::Nanos;

const WIDTH: f64 = 1180.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const ROW: f64 = 13.0;
const GAP: f64 = 10.0;

/// Width of a letter of a device's name, about, and of the names of its rows.
const LETTER: f64 = 7.0;
const ROW_NAMES: f64 = 52.0;
/// A longer name is cut.
const NAME_LETTERS: usize = 28;
/// Thin spans stay visible.
const THINNEST: f64 = 1.2;

const COMPUTE: &str = "#2f6fb2";
const LOAD: &str = "#e08a2b";
const SEND: &str = "#3f9a57";

impl Timeline {
    /// The picture, self-contained.
    pub fn to_svg(&self) -> String {
        let lanes = self.lanes.len() as f64;
        let names: Vec<String> = self.lanes.iter().map(|lane| shortened(&lane.name)).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
        let left = ROW_NAMES + 12.0 + longest as f64 * LETTER;
        let plot = WIDTH - left - RIGHT;
        let height = TOP + lanes * (3.0 * ROW + GAP) + 40.0;
        let period = (self.period.0 as f64).max(1.0);
        let x = |at: Nanos| left + at.0 as f64 / period * plot;
        let mut svg = String::new();
        let _ = write!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">
<defs><pattern id="wait" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" fill="#fbe3e0"/><line x1="0" y1="0" x2="0" y2="5" stroke="#c0392b" stroke-width="2"/></pattern></defs>
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="{left}" y="18" font-size="14" font-weight="bold">{}</text>
<text x="{left}" y="35" fill="#444">one pass in steady state: {}</text>
"##,
            escaped(&self.title),
            self.period
        );
        legend(&mut svg, left);
        let bottom = TOP + lanes * (3.0 * ROW + GAP);
        for tick in ticks(self.period) {
            let at = x(tick);
            let _ = writeln!(
                svg,
                r##"<line x1="{at:.2}" y1="{TOP}" x2="{at:.2}" y2="{bottom}" stroke="#dddddd"/><text x="{at:.2}" y="{:.1}" text-anchor="middle" fill="#444">{}</text>"##,
                bottom + 16.0,
                tick
            );
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let top = TOP + index as f64 * (3.0 * ROW + GAP);
            let _ = writeln!(
                svg,
                r##"<rect x="{left}" y="{top}" width="{plot}" height="{}" fill="#f6f6f6"/><text x="{}" y="{}" text-anchor="end" font-weight="bold">{}</text>"##,
                3.0 * ROW,
                left - ROW_NAMES,
                top + 1.5 * ROW + 4.0,
                escaped(&names[index])
            );
            for (row, name) in ["compute", "load", "send"].iter().enumerate() {
                let _ = writeln!(
                    svg,
                    r##"<text x="{}" y="{}" text-anchor="end" font-size="9" fill="#666">{name}</text>"##,
                    left - 5.0,
                    top + row as f64 * ROW + 10.0
                );
            }
            for span in &lane.spans {
                let (row, fill) = match span.activity {
                    Activity::Compute => (0.0, COMPUTE),
                    Activity::Wait => (0.0, "url(#wait)"),
                    Activity::Load => (1.0, LOAD),
                    Activity::Send => (2.0, SEND),
                };
                let (start, end) = (x(span.start), x(span.end));
                // A white edge keeps neighbours apart where there is room for it.
                let width = (end - start).max(THINNEST);
                let edge = if width > 4.0 { r##" stroke="#ffffff" stroke-width="0.5""## } else { "" };
                let _ = writeln!(
                    svg,
                    r##"<rect x="{start:.2}" y="{:.1}" width="{width:.2}" height="{:.1}" fill="{fill}"{edge}/>"##,
                    top + row * ROW + 1.0,
                    ROW - 2.0
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn legend(svg: &mut String, left: f64) {
    let entries = [("compute", COMPUTE), ("waits for weights", "url(#wait)"), ("load", LOAD), ("send", SEND)];
    let mut at = left;
    for (name, fill) in entries {
        let _ = writeln!(
            svg,
            r##"<rect x="{at}" y="44" width="14" height="10" fill="{fill}"/><text x="{}" y="53" fill="#222">{name}</text>"##,
            at + 19.0
        );
        at += 40.0 + 7.0 * name.len() as f64;
    }
}

/// Five to ten round times from zero up to the period.
fn ticks(period: Nanos) -> impl Iterator<Item = Nanos> {
    let mut step = 1_u64;
    while period.0 / step > 100 {
        step *= 10;
    }
    let step = [1, 2, 5, 10, 20]
        .map(|factor| factor * step)
        .into_iter()
        .find(|step| period.0 / step <= 9)
        .unwrap_or(step * 20);
    (0..=period.0 / step).map(move |index| Nanos(index * step))
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME_LETTERS) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
