//! JSON as clients write it: with a byte order mark, or with halves of characters that were cut in two.

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// U+FFFD, which stands where a character cannot be told: as it is escaped, and as it is.
const ESCAPED: &[u8; 6] = br"\ufffd";
const PLAIN: &[u8; 3] = b"\xef\xbf\xbd";
const HIGH: std::ops::RangeInclusive<u16> = 0xd800..=0xdbff;
const LOW: std::ops::RangeInclusive<u16> = 0xdc00..=0xdfff;

/// The JSON in a body, mended in place: the mark is skipped, and a surrogate without its other half becomes U+FFFD. Such halves come of
/// texts that were cut by UTF-16 units; no text can hold them.
pub(super) fn mended(bytes: &mut [u8]) -> &[u8] {
    let start = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let text = &mut bytes[start..];
    let mut at = 0;
    while at < text.len() {
        at += match text[at] {
            b'\\' => mend_escape(&mut text[at..]),
            // As some write surrogates in UTF-8: three bytes each, which are none.
            0xed if matches!(text[at..], [_, 0xa0..=0xbf, 0x80..=0xbf, ..]) => {
                text[at..at + PLAIN.len()].copy_from_slice(PLAIN);
                PLAIN.len()
            }
            _ => 1,
        };
    }
    text
}

/// Looks at the escape that `text` begins with; says how many bytes were looked at.
fn mend_escape(text: &mut [u8]) -> usize {
    match unit(text) {
        Some(first) if HIGH.contains(&first) && unit(&text[6..]).is_some_and(|second| LOW.contains(&second)) => 12,
        Some(alone) if HIGH.contains(&alone) || LOW.contains(&alone) => {
            text[..ESCAPED.len()].copy_from_slice(ESCAPED);
            ESCAPED.len()
        }
        // The character after a backslash is none that begins an escape.
        _ => 2,
    }
}

/// The UTF-16 unit of an escape `\uXXXX`.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit: u16, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> String {
        let mut bytes = bytes.to_vec();
        serde_json::from_slice(mended(&mut bytes)).unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn halves_of_characters_become_one_that_says_so() {
        for (json, text) in [
            (r#""\ud83d\ude00""#, "😀"),
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\ud83d x""#, "\u{fffd} x"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\uD83D\n""#, "\u{fffd}\n"),
            (r#""\\ud83d""#, r"\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
        ] {
            assert_eq!(read(json.as_bytes()), text, "{json}");
        }
        assert_eq!(read(b"\"a\xed\xa0\xbdb\""), "a\u{fffd}b");
        assert_eq!(read(b"\xef\xbb\xbf\"a\""), "a");
    }

    proptest! {
        #[test]
        fn what_is_whole_stays_as_it_is(text in any::<String>(), escaped in any::<bool>()) {
            let json = serde_json::to_string(&text).unwrap();
            let units = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            let json = if escaped { format!("\"{}\"", text.chars().map(units).collect::<String>()) } else { json };
            prop_assert_eq!(read(json.as_bytes()), text);
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut mended_bytes = bytes.clone();
            prop_assert!(mended(&mut mended_bytes).len() + 3 >= bytes.len());
        }
    }
}
