//! A template's source, with what minijinja does not know written in what it knows.
//!
//! `{% generation %}` marks matter to training only: they become `{% if true %}`. `a % b` is a number's remainder there,
//! and in Jinja a text's formatting too: it becomes a filter that tells the two apart. Everything else stays as it is.

/// Brackets within brackets that are looked into; the parser has a limit of its own.
const DEEPEST: usize = 64;

/// `%` signs that are looked at; real templates have a handful.
const MOST: usize = 256;

/// The filter that `%` becomes.
pub(crate) const PERCENT: &str = "__percent";

/// The source in words that minijinja knows.
pub(crate) fn adapted(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    let mut left = MOST;
    while let Some(start) = rest.find('{') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = match rest.as_bytes().get(1) {
            Some(b'#') => rest.find("#}").map(|at| at + 2),
            Some(b'%' | b'{') => tag(rest),
            _ => Some(1),
        };
        // What does not end is the parser's to refuse.
        let Some(mut end) = end else { break };
        let whole = &rest[..end];
        match (whole.starts_with("{%"), whole.get(2..).map_or("", first_word)) {
            (true, word @ "generation") if is_alone(whole, word) => text.push_str(&whole.replacen(word, "if true", 1)),
            (true, word @ "endgeneration") if is_alone(whole, word) => text.push_str(&whole.replacen(word, "endif", 1)),
            (true, "raw") => {
                end = end_of_raw(rest).unwrap_or(rest.len());
                text.push_str(&rest[..end]);
            }
            _ if end > 4 && whole.contains('%') => percent_as_filter(whole, &mut left, &mut text),
            _ => text.push_str(whole),
        }
        rest = &rest[end..];
    }
    text.push_str(rest);
    text
}

/// The first word inside a tag.
fn first_word(inside: &str) -> &str {
    let inside = inside.trim_start_matches(['-', '+']).trim_start();
    &inside[..inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len())]
}

fn is_alone(tag: &str, word: &str) -> bool {
    tag.trim_matches(['{', '}', '%', '-', '+', ' ', '\t', '\n', '\r']) == word
}

/// Where a `{% raw %}` that `text` begins with is closed.
fn end_of_raw(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = text[at..].find("{%") {
        let begin = at + found;
        let end = begin + text[begin..].find("%}")? + 2;
        if first_word(&text[begin + 2..end]) == "endraw" {
            return Some(end);
        }
        at = begin + 2;
    }
    None
}

/// Where the tag that `text` begins with ends; quotes and braces inside it are minded.
fn tag(text: &str) -> Option<usize> {
    let statement = text.starts_with("{%");
    let mut at = 2;
    let mut braces = 0usize;
    while at < text.len() {
        let rest = &text[at..];
        if statement && rest.starts_with("%}") || !statement && braces == 0 && rest.starts_with("}}") {
            return Some(at + 2);
        }
        let token = token(rest);
        match token {
            "{" => braces += 1,
            "}" => braces = braces.saturating_sub(1),
            _ => {}
        }
        at += token.len();
    }
    None
}

/// The first token of an expression's text; white space is one too.
fn token(text: &str) -> &str {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return "" };
    let run = |belongs: fn(char) -> bool| text.find(|c| !belongs(c)).unwrap_or(text.len());
    let length = match first {
        '\'' | '"' => {
            let mut escaped = false;
            let end = text[1..].find(|character| {
                let ends = !escaped && character == first;
                escaped = !escaped && character == '\\';
                ends
            });
            end.map_or(text.len(), |end| end + 2)
        }
        c if c.is_whitespace() => run(char::is_whitespace),
        c if c.is_alphanumeric() || c == '_' => run(|c| c.is_alphanumeric() || c == '_'),
        '*' if text.starts_with("**") => 2,
        '/' if text.starts_with("//") => 2,
        other => other.len_utf8(),
    };
    &text[..length]
}

fn percent_as_filter(whole: &str, left: &mut usize, text: &mut String) {
    let (open, inside) = whole.split_at(2);
    let (inside, close) = inside.split_at(inside.len() - 2);
    let mut tokens = Vec::new();
    let mut rest = inside;
    while !rest.is_empty() {
        let next = token(rest);
        tokens.push(next);
        rest = &rest[next.len()..];
    }
    text.push_str(open);
    rewrite(&tokens, left, 0).iter().for_each(|token| text.push_str(token));
    text.push_str(close);
}

fn rewrite<'a>(tokens: &[&'a str], left: &mut usize, depth: usize) -> Vec<&'a str> {
    let mut written: Vec<&str> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if *token != "%" || *left == 0 || depth == DEEPEST {
            written.push(token);
            continue;
        }
        *left -= 1;
        let Some(end) = operand(&tokens[at..]).filter(|_| may_be_text(&written)) else {
            written.push(token);
            continue;
        };
        let right = rewrite(&tokens[at..at + end], left, depth + 1);
        written.extend(["|", PERCENT, "("]);
        written.extend(right);
        written.push(")");
        at += end;
    }
    written
}

fn is_space(token: &str) -> bool {
    token.starts_with(char::is_whitespace)
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'' || c == '"')
}

/// Whether the operand at the end of `tokens` may be a text to format, to which a filter binds as `%` does.
fn may_be_text(tokens: &[&str]) -> bool {
    let significant = |end: usize| (0..end).rev().find(|at| !is_space(tokens[*at]));
    let mut end = tokens.len();
    loop {
        let Some(last) = significant(end) else { return false };
        let token = tokens[last];
        let (begin, closes) = match token {
            ")" | "]" | "}" => match opening(tokens, last) {
                Some(open) => (open, true),
                None => return false,
            },
            word if is_word(word) => (last, false),
            _ => return false,
        };
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            return false;
        }
        match significant(begin).map(|before| (before, tokens[before])) {
            // An attribute or a filter of what stands before.
            Some((before, "." | "|")) => end = before,
            // A call, a subscript, or texts one after another; a keyword begins another operand.
            Some((before, word))
                if !is_keyword(word)
                    && (closes && (is_word(word) || matches!(word, ")" | "]" | "}"))
                        || !closes && word.starts_with(['\'', '"'])) =>
            {
                end = before + 1;
            }
            Some((_, "*" | "/" | "//" | "**" | "%" | "-" | "+")) if precedes_tightly(tokens, begin) => return false,
            _ => return true,
        }
    }
}

/// Whether what stands before `begin` binds at least as tightly as `%`: a product, or a sign.
fn precedes_tightly(tokens: &[&str], begin: usize) -> bool {
    let mut before = tokens[..begin].iter().rev().filter(|token| !is_space(token));
    match before.next().copied() {
        // A sum binds less tightly than `%`; a sign has no operand before it.
        Some("-" | "+") => before
            .next()
            .is_none_or(|token| is_keyword(token) || !(is_word(token) || matches!(*token, ")" | "]" | "}"))),
        Some(_) => true,
        None => false,
    }
}

fn is_keyword(token: &str) -> bool {
    matches!(token, "if" | "else" | "and" | "or" | "not" | "in" | "is" | "set" | "elif" | "print" | "for" | "recursive")
}

/// The place of the bracket that the one at `close` closes.
fn opening(tokens: &[&str], close: usize) -> Option<usize> {
    let mut depth = 0usize;
    for at in (0..=close).rev() {
        match tokens[at] {
            ")" | "]" | "}" => depth += 1,
            "(" | "[" | "{" => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// How many tokens the operand has that `tokens` begin with: a value, its attributes, calls, subscripts and filters.
fn operand(tokens: &[&str]) -> Option<usize> {
    let significant = |from: usize| (from..tokens.len()).find(|at| !is_space(tokens[*at]));
    let mut at = significant(0)?;
    if tokens[at] == "-" {
        at = significant(at + 1)?;
    }
    at = match tokens[at] {
        "(" | "[" | "{" => closing(tokens, at)? + 1,
        word if is_word(word) && !is_keyword(word) => at + 1,
        _ => return None,
    };
    loop {
        let Some(next) = significant(at) else { return Some(at) };
        match tokens[next] {
            "." | "|" => at = significant(next + 1)? + 1,
            "(" | "[" => at = closing(tokens, next)? + 1,
            "**" => return None,
            _ => return Some(at),
        }
    }
}

/// The place of the bracket that closes the one at `open`.
fn closing(tokens: &[&str], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_marks_go_and_nothing_else() {
        let source = "{%- generation -%}a{% endgeneration %}{% if generation %}b{% endif %}{{ x }} {% open";
        let expected = "{%- if true -%}a{% endif %}{% if generation %}b{% endif %}{{ x }} {% open";
        assert_eq!(adapted(source), expected);
        for same in ["{%}", "é{%%}{%", "{{ '{% generation %}' }}", "{# {% generation %} #}", "{", "{{ {'a': {}}}}"] {
            assert_eq!(adapted(same), same);
        }
        let raw = "{%- raw %}{% generation %}{{ '%s' % 1 }}{% endraw -%}x";
        assert_eq!(adapted(raw), raw);
    }

    #[test]
    fn a_percent_sign_between_operands_becomes_a_filter() {
        for (source, expected) in [
            ("{{ '%s' % x }}", "{{ '%s' |__percent( x) }}"),
            ("{{ f(a)[0].b % (1, 2) + c }}", "{{ f(a)[0].b |__percent( (1, 2)) + c }}"),
            ("{% set x = 'a' + y % z|upper %}", "{% set x = 'a' + y |__percent( z|upper) %}"),
            ("{{ x % y % z }}", "{{ x |__percent( y) |__percent( z) }}"),
            ("{{ x if y % ('%s' % z) }}", "{{ x if y |__percent( ('%s' |__percent( z))) }}"),
        ] {
            assert_eq!(adapted(source), expected);
        }
        for same in
            ["{{ 2 * x % 3 }}", "{{ 7 % 3 }}", "{{ -x % 3 }}", "{{ '%' }}", "{{ % }}", "{{ x % }}", "{{ x % 2 ** 3 }}"]
        {
            assert_eq!(adapted(same), same);
        }
    }

    #[test]
    fn hostile_sources_take_no_time_and_no_stack() {
        for pattern in ["(a % ", "a % ", "{{ a % ", "{{ '", "{% raw ", "a.b % {", "[", "x|y % "] {
            adapted(&format!("{{{{ {} }}}}", pattern.repeat(20_000)));
        }
    }
}
