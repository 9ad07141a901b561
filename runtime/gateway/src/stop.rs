//! Stop strings: found across tokens, and never shown in part.

/// Looks for stop strings in a text that comes in pieces.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text, as long as it may be the beginning of a stop string.
    held: String,
}

/// What may be shown after a piece.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Text that is no part of a stop string.
    pub(crate) text: String,
    /// The stop string that was found; nothing may come after.
    pub(crate) stopped: Option<String>,
}

impl StopMatcher {
    /// Looks for `stops`, none of which is empty.
    pub(crate) const fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: String) -> Shown {
        if self.stops.is_empty() {
            return Shown { text: piece, stopped: None };
        }
        self.held.push_str(&piece);
        // The one that is complete first counts, so that it does not matter how the text was cut into pieces.
        let found =
            self.stops.iter().filter_map(|stop| self.held.find(stop).map(|place| (place + stop.len(), place, stop)));
        if let Some((_, place, stop)) = found.min() {
            self.held.truncate(place);
            return Shown { text: std::mem::take(&mut self.held), stopped: Some(stop.clone()) };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Shown { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// The text is over: what was held back was no stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that begins `stop` without being all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len() - 1);
    let begins = |length: &usize| {
        let end = text.len() - length;
        text.is_char_boundary(end) && stop.as_bytes().starts_with(&text.as_bytes()[end..])
    };
    (1..=most).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let shown = matcher.push(piece.to_string());
            text.push_str(&shown.text);
            if shown.stopped.is_some() {
                return (text, true);
            }
        }
        text.push_str(&matcher.finish());
        (text, false)
    }

    #[test]
    fn stops_are_found_across_pieces() {
        let table: [(&[&str], &[&str], &str, bool); 8] = [
            (&["\n\n"], &["a\n", "\nb"], "a", true),
            (&["\n\n"], &["a\n", "b\n"], "a\nb\n", false),
            (&["END"], &["xE", "N", "E", "N", "D", "y"], "xEN", true),
            (&["bc", "abcd"], &["ab", "cd"], "a", true),
            (&["é"], &["caf", "é", "!"], "caf", true),
            (&["aab"], &["a", "a", "a", "b"], "a", true),
            (&[], &["a", "b"], "ab", false),
            (&["x"], &["x"], "", true),
        ];
        for (stops, pieces, text, stopped) in table {
            assert_eq!(run(stops, pieces), (text.to_owned(), stopped), "{stops:?} in {pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[abé]{0,20}", stops in proptest::collection::vec("[abé]{1,4}", 0..4), cuts in proptest::collection::vec(any::<bool>(), 20)) {
            let whole: Vec<String> = text.chars().zip(&cuts).fold(vec![String::new()], |mut pieces, (character, cut)| {
                if *cut { pieces.push(String::new()); }
                if let Some(last) = pieces.last_mut() { last.push(character); }
                pieces
            });
            let pieces: Vec<&str> = whole.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            // One character at a time is the definition: the text before the first stop string that is complete.
            let characters: Vec<String> = text.chars().map(String::from).collect();
            let singles: Vec<&str> = characters.iter().map(String::as_str).collect();
            let (shown, stopped) = run(&stops, &pieces);
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop)));
            prop_assert!(text.starts_with(&shown));
            prop_assert!(stops.iter().all(|stop| !shown.contains(stop)));
            if !stopped { prop_assert_eq!(&shown, &text); }
            prop_assert_eq!(run(&stops, &singles), (shown, stopped));
        }
    }
}
