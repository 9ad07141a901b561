//! What comes before the text that has a form: anything, up to a mark; then some space.

use crate::tokens::TokenText;

/// Tokens of space between the mark and the text.
const BLANKS: u32 = 4;

/// Where an answer is before its text begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The mark has not come.
    ForMark {
        mark: Vec<u8>,
        /// The end of what was said, one byte shorter than the mark at most.
        said: Vec<u8>,
    },
    /// It has: so many tokens of space may come yet.
    ForText { blanks: u32 },
    /// The text has begun.
    #[default]
    Over,
}

impl Waiting {
    pub(crate) fn for_mark(mark: &str) -> Self {
        Self::ForMark { mark: mark.into(), said: Vec::new() }
    }

    /// A token comes. Gives what of it belongs to the text; nothing where it all comes before.
    pub(crate) fn take(&mut self, token: &TokenText, blank: bool) -> Option<Vec<u8>> {
        let bytes = token.bytes();
        match self {
            Self::ForMark { mark, said } => {
                said.extend_from_slice(bytes);
                let Some(place) = said.windows(mark.len()).position(|window| window == mark) else {
                    let beyond = said.len().saturating_sub(mark.len().saturating_sub(1));
                    said.drain(..beyond);
                    return None;
                };
                let rest = said[place + mark.len()..].trim_ascii_start().to_vec();
                *self = if rest.is_empty() { Self::ForText { blanks: BLANKS } } else { Self::Over };
                (!rest.is_empty()).then_some(rest)
            }
            Self::ForText { blanks } if blank && *blanks > 0 => {
                *blanks -= 1;
                None
            }
            Self::ForText { .. } | Self::Over => {
                *self = Self::Over;
                Some(bytes.to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_begins_behind_mark_and_space_however_they_are_cut() {
        let text = |text: &str| TokenText::Text(text.into());
        let begins = |tokens: &[TokenText]| {
            let mut waiting = Waiting::for_mark("</t>");
            tokens.iter().find_map(|token| {
                let blank = matches!(token, TokenText::Text(bytes) if bytes.trim_ascii().is_empty());
                waiting.take(token, blank)
            })
        };
        for tokens in [
            vec![text("a </"), text("t>"), text("\n\n"), text("{x")],
            vec![text("<</t"), text(">  {x")],
            vec![TokenText::Mark("</t>".into()), text(" "), text("{x")],
            vec![text("</"), TokenText::Nothing, text("t"), text(">{x")],
        ] {
            assert_eq!(begins(&tokens).as_deref(), Some(b"{x".as_slice()), "{tokens:?}");
        }
        assert_eq!(begins(&[text("</t"), text("/t>")]), None);
        let blanks = [text("</t>"), text(" "), text(" "), text(" "), text(" "), text(" ")];
        assert_eq!(begins(&blanks).as_deref(), Some(b" ".as_slice()), "space has an end");
    }
}
