//! The template language against jinja2 itself, set up as transformers sets it up.

use lime_text::ChatTemplate;
use serde_json::{Map, Value, json};

use crate::places::{fixture, json as read_json};

/// Where this differs, knowingly: nothing that a chat template was seen to use.
const UNLIKE: [&str; 31] = [
    // A view is a list here, a range too, and a namespace a dictionary.
    "{{ d.items() is sequence }}",
    "{{ namespace(a=1) is iterable }}",
    "{{ namespace(a=1) is sequence }}",
    "{{ namespace(a=1) is mapping }}",
    "{% for x in range(3) %}{{ x }}{% endfor %} {% for x in range(5, 0, -2) %}{{ x }}{% endfor %} {{ range(3) | list }} {{ range(3) }} {{ range(0) | list }}",
    // Rendered here, an exception there.
    "{{ ', '.join(list) }}",
    "{% for x in nothing %}a{% endfor %}",
    "{{ missing < 1 }}",
    "{{ 'a' > 1 }}",
    "{{ none > 1 }}",
    "{{ d | dictsort(by='value') | length }}",
    // Written in another way.
    "{% for x in list %}{{ loop }}{% endfor %}",
    "{{ people | map(attribute='role') | list }}",
    "{{ d | pprint }}",
    "{{ 1e20 }}",
    "{{ 1e16 }}",
    "{{ 1e-7 }}",
    "{{ d | attr('a') }}",
    "{{ n.real }}",
    "{{ self is defined }}",
    // Refused here.
    "{{ 'a\\tb'.expandtabs(4) }}",
    "{{ 'é'.encode('utf-8') | length }}",
    "{{ '{!r}'.format('a') }}",
    "{{ 'abc def' | truncate(5) }}",
    "{{ 'abc def ghi' | wordwrap(4) }}",
    "{{ list | random | string | length }}",
    "{{ d | xmlattr }}",
    "{{ 'a b' | urlencode }}",
    "{{ +n }}",
    "{{ 'a'.format.__globals__ }}",
    "{% macro m(a) %}[{{ a }}]{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
];

#[test]
fn templates_mean_what_jinja2_says() {
    let table = read_json(fixture("templates/jinja2.json"));
    let variables = table["variables"].as_object().unwrap();
    let messages = json!([{"role": "user", "content": "hi"}]);
    let cases = table["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let source = case["template"].as_str().unwrap();
        let rendered = ChatTemplate::from_source(source, Map::new())
            .and_then(|template| template.render(&messages, true, None, variables));
        let right = match (&case["rendered"], &rendered) {
            (Value::String(expected), Ok(rendered)) => rendered == expected,
            (_, Err(_)) => case["rendered"].is_null(),
            _ => false,
        };
        // One that has come to agree leaves the list.
        if right == UNLIKE.contains(&source) {
            let theirs = case["rendered"].as_str().unwrap_or(case["error"].as_str().unwrap_or_default());
            wrong.push(format!("{source}\n  jinja2: {theirs:?}\n  here:   {rendered:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
