//! Chat templates against transformers' `apply_chat_template`, and hostile ones.

use lime_text::{ChatTemplate, plain_prompt};
use serde_json::{Map, Value, json};

use crate::places::{fixture, json as read_json, shared};

fn renders_like_transformers(name: &str) {
    let Some(folder) = shared(&format!("tokenizers/{name}")) else { return };
    let template = ChatTemplate::open(folder).unwrap().unwrap();
    let cases = read_json(fixture(&format!("templates/{name}.json")));
    for case in cases.as_array().unwrap() {
        let label = case["name"].as_str().unwrap();
        let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let rendered = template.render(&case["messages"], prompt, tools, case["extra"].as_object().unwrap());
        match (&case["rendered"], rendered) {
            (Value::String(expected), Ok(rendered)) => assert_eq!(&rendered, expected, "{name}: {label}"),
            (Value::Null, Err(fault)) => {
                let theirs = case["error"].as_str().unwrap();
                if let Some(raised) = theirs.strip_prefix("TemplateError: ") {
                    assert_eq!(fault.to_string(), format!("chat template: {raised}"), "{name}: {label}");
                }
            }
            (expected, rendered) => panic!("{name}: {label}: {rendered:?}, transformers: {expected} {}", case["error"]),
        }
    }
}

#[test]
fn llama_renders_like_transformers() {
    renders_like_transformers("llama-3");
}

#[test]
fn qwen_renders_like_transformers() {
    renders_like_transformers("qwen3");
}

#[test]
fn mistral_renders_like_transformers() {
    renders_like_transformers("mistral-v0.3");
}

fn render(source: &str, messages: &Value) -> Result<String, String> {
    let special = Map::from_iter([("bos_token".to_owned(), Value::from("<s>"))]);
    let template = ChatTemplate::from_source(source, special).map_err(|fault| fault.to_string())?;
    template.render(messages, true, None, &Map::new()).map_err(|fault| fault.to_string())
}

#[test]
fn a_folder_without_a_template_has_none_and_a_plain_prompt() {
    assert!(ChatTemplate::open(fixture("models/bard-2m")).unwrap().is_none());
    let messages = json!([{"role": "system", "content": "ROMEO:"}, {"role": "user", "content": "But soft"}]);
    assert_eq!(plain_prompt(&messages).unwrap(), "ROMEO:\nBut soft");
}

#[test]
fn templates_are_found_in_every_place() {
    let folder = tempfile::tempdir().unwrap();
    let (config, file) = (folder.path().join("tokenizer_config.json"), folder.path().join("chat_template.jinja"));
    let messages = json!([{"role": "user", "content": "hi"}]);
    let render = |tools: Option<&Value>| {
        ChatTemplate::open(folder.path()).unwrap().unwrap().render(&messages, true, tools, &Map::new()).unwrap()
    };
    let named = json!({"eos_token": {"content": "</s>"}, "chat_template": [
        {"name": "default", "template": "plain{{ eos_token }}"}, {"name": "tool_use", "template": "tools"}]});
    std::fs::write(&config, named.to_string()).unwrap();
    assert_eq!(render(None), "plain</s>");
    assert_eq!(render(Some(&json!([]))), "tools");
    std::fs::write(&file, "from a file: {{ messages[0].content }}{{ eos_token }}").unwrap();
    assert_eq!(render(Some(&json!([]))), "from a file: hi</s>");
    let beside = folder.path().join("additional_chat_templates");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("tool_use.jinja"), "tools beside").unwrap();
    assert_eq!((render(None).as_str(), render(Some(&json!([]))).as_str()), ("from a file: hi</s>", "tools beside"));
    std::fs::remove_dir_all(&beside).unwrap();
    std::fs::remove_file(&file).unwrap();
    let older = folder.path().join("chat_template.json");
    std::fs::write(&older, r#"{"chat_template": "a processor's: {{ messages[0].content }}"}"#).unwrap();
    assert_eq!(render(None), "a processor's: hi");
    std::fs::remove_file(&older).unwrap();
    let own = json!({"extra_special_tokens": {"image_token": "<image>"}, "chat_template": "{{ image_token }}"});
    std::fs::write(&config, own.to_string()).unwrap();
    assert_eq!(render(None), "<image>");
    std::fs::write(&config, r#"{"chat_template": 5}"#).unwrap();
    assert!(ChatTemplate::open(folder.path()).err().unwrap().to_string().contains("chat_template"));
    std::fs::write(&config, r#"{"chat_template": "{% if %}"}"#).unwrap();
    assert!(ChatTemplate::open(folder.path()).err().unwrap().to_string().contains("does not compile"));
}

#[test]
fn what_templates_use_of_python_works() {
    let messages = json!([{"role": "user", "content": " Hello world ", "n": 1.0, "list": [1, "a", true, null]}]);
    let cases = [
        ("{{ bos_token }}{{ messages[0]['content'].strip() }}", "<s>Hello world"),
        ("{{ messages[-1].content.split(' ')[1].upper() }}", "HELLO"),
        ("{{ messages[0].content[1:6] }}{{ messages | length }}", "Hello1"),
        ("{%- for m in messages %}\n  {%- if loop.first %}x{% endif %}\n{%- endfor %}", "x"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}", "2"),
        ("{{ messages[0].list | tojson }}", "[1, \"a\", true, null]"),
        (
            "{{ messages[0] | tojson(indent=2) }}",
            "{\n  \"role\": \"user\",\n  \"content\": \" Hello world \",\n  \"n\": 1.0,\n  \"list\": [\n    1,\n    \"a\",\n    true,\n    null\n  ]\n}",
        ),
        (
            "{{ {'b': 1, 'a': '<é>'} | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}",
            "{\"a\":\"<\\u00e9>\",\"b\":1}",
        ),
        ("{{ none }} {{ true }} {{ 1.0 }} {{ undefined_thing }}", "None True 1.0 "),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{{ messages[0].get('missing', 'default') }}", "default"),
        ("{% for k, v in messages[0].items() %}{{ k }},{% endfor %}", "role,content,n,list,"),
        ("{{ 'x' if messages[0].content is string else 'y' }}", "x"),
        ("{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}z{% endfor %}", ""),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ messages[0].content | replace('Hello', '<b>') | trim }}", "<b> world"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source, &messages).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn hostile_templates_end() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for a in range(9999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 100000000000 }}",
        "{{ messages | tojson(indent=100000000000) }}",
        "{{ range(100000000000) | list }}",
        "{{ messages.__class__.__mro__ }}{{ ''.__class__() }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{{ messages[99].content.x }}",
        "{{ 1 / 0 }}",
        "{{ '%99999999999d' | format(1) }}",
    ] {
        let fault = render(source, &messages).expect_err(source);
        assert!(fault.starts_with("chat template: "), "{fault}");
    }
    let nested = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(render(&format!("{{{{ {nested} }}}}"), &messages).is_err());
}

#[test]
fn messages_that_are_none_are_refused() {
    for wrong in [json!([]), json!({}), json!(["text"]), json!(null)] {
        assert!(render("x", &wrong).is_err(), "{wrong}");
    }
}
