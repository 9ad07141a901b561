//! Suffix lookup: what followed when the text ended like this before. A suffix automaton over the tokens so far finds the longest end of the
//! text that it has seen earlier, in amortized constant time a token, however the text repeats itself.

use std::collections::HashMap;

/// Where the longest end of a text was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Its length in tokens; 0: the last token is new.
    pub(crate) length: u32,
    /// The position after it, from which the text may repeat itself.
    pub(crate) next: u32,
}

/// A text, and which of its parts were seen where.
#[derive(Debug)]
pub(crate) struct SuffixLookup {
    text: Vec<u32>,
    states: Vec<State>,
    steps: HashMap<(u32, u32), u32>,
    /// Tokens that lead out of a state: what a copy of it needs.
    outs: Vec<Vec<u32>>,
    last: u32,
}

/// Parts of the text that end at the same positions.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Tokens of the longest of them.
    length: u32,
    /// The longest end of these that ends at more positions.
    link: u32,
    /// A position after one of those ends that was seen: the first, or the one at which it was last looked up.
    next: u32,
}

const ROOT: u32 = 0;

impl Default for SuffixLookup {
    fn default() -> Self {
        let root = State { length: 0, link: ROOT, next: 0 };
        Self { text: Vec::new(), states: vec![root], steps: HashMap::new(), outs: vec![Vec::new()], last: ROOT }
    }
}

impl SuffixLookup {
    /// The text goes on with `token`; where its longest end was seen before, that is.
    pub(crate) fn push(&mut self, token: u32) -> Match {
        self.text.push(token);
        let end = self.text.len() as u32;
        let length = self.states[self.last as usize].length + 1;
        let added = self.add(State { length, link: ROOT, next: end }, Vec::new());
        let mut at = Some(self.last);
        let mut met = None;
        while let Some(state) = at {
            if let Some(to) = self.steps.get(&(state, token)) {
                met = Some((state, *to));
                break;
            }
            self.step(state, token, added);
            at = (state != ROOT).then(|| self.states[state as usize].link);
        }
        if let Some((from, to)) = met {
            self.states[added as usize].link = self.state_for(from, to, token);
        }
        self.last = added;
        let link = self.states[added as usize].link;
        let seen = &mut self.states[link as usize];
        let found = Match { length: seen.length, next: seen.next };
        if link != ROOT {
            // Of what is looked up again, the latest is the likeliest to go on in the same way.
            seen.next = end;
        }
        found
    }

    /// The text from `next` on, `most` tokens of it; a text that overlaps itself goes on repeating.
    pub(crate) fn following(&self, found: Match, most: usize) -> Vec<u32> {
        let (next, length) = (found.next as usize, self.text.len());
        if found.length == 0 || next >= length {
            return Vec::new();
        }
        let period = length - next;
        (0..most).map(|ahead| self.text[next + ahead % period]).collect()
    }

    /// The state of the parts that a step by `token` from `from` means, which leads to `to`: that one, or a copy of it where longer parts
    /// end there as well.
    fn state_for(&mut self, from: u32, to: u32, token: u32) -> u32 {
        let length = self.states[from as usize].length + 1;
        let found = self.states[to as usize];
        if found.length == length {
            return to;
        }
        let copy = self.add(State { length, ..found }, Vec::new());
        for out in self.outs[to as usize].clone() {
            let target = self.steps[&(to, out)];
            self.step(copy, out, target);
        }
        self.states[to as usize].link = copy;
        let mut at = Some(from);
        while let Some(state) = at.filter(|state| self.steps.get(&(*state, token)) == Some(&to)) {
            self.steps.insert((state, token), copy);
            at = (state != ROOT).then(|| self.states[state as usize].link);
        }
        copy
    }

    /// States and steps that there are.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.states.len(), self.steps.len())
    }

    fn add(&mut self, state: State, outs: Vec<u32>) -> u32 {
        self.states.push(state);
        self.outs.push(outs);
        self.states.len() as u32 - 1
    }

    fn step(&mut self, from: u32, token: u32, to: u32) {
        if self.steps.insert((from, token), to).is_none() {
            self.outs[from as usize].push(token);
        }
    }
}
