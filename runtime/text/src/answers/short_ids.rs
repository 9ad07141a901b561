//! Names of calls, for templates that take none but short ones.

use serde_json::Value;

const LENGTH: usize = 9;

/// Gives every call a name of nine letters and digits: Mistral's templates refuse others, and other servers' clients have others. Equal
/// names stay equal.
pub fn short_call_ids(messages: &mut Value) {
    for message in messages.as_array_mut().into_iter().flatten() {
        if let Some(id) = message.get_mut("tool_call_id") {
            shorten(id);
        }
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        calls.into_iter().flatten().filter_map(|call| call.get_mut("id")).for_each(shorten);
    }
}

fn shorten(id: &mut Value) {
    let Some(text) = id.as_str() else { return };
    if text.len() != LENGTH || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        // FNV-1a: a name, not a seal.
        let mut hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let digits = (0..LENGTH).map(|_| {
            let digit = (hash % 36) as u32;
            hash /= 36;
            char::from_digit(digit, 36).unwrap_or('0')
        });
        *id = digits.collect::<String>().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_names_stay_equal_and_good_ones_as_they_are() {
        let mut messages = json!([
            {"role": "assistant", "tool_calls": [{"id": "call_abc"}, {"id": "abcDEF123"}, {}]},
            {"role": "tool", "tool_call_id": "call_abc"},
            {"role": "tool", "tool_call_id": "call_abd"},
        ]);
        short_call_ids(&mut messages);
        let short = messages[0]["tool_calls"][0]["id"].as_str().unwrap();
        assert!(short.len() == 9 && short.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{short}");
        assert_eq!(messages[1]["tool_call_id"], short);
        assert_ne!(messages[2]["tool_call_id"], short);
        assert_eq!(messages[0]["tool_calls"][1]["id"], "abcDEF123");
    }
}
