use std::fs;

use serde_json::json;

use super::*;

const BOS: &str = "<|begin_of_text|>";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, vec![("bos_token", BOS.to_owned())], "x", "x").expect("valid")
}

fn talk() -> [Message; 3] {
    [
        Message::text("system", "Be brief."),
        Message::text("user", "<image>\nWho is it? "),
        Message::text("assistant", "A nurse."),
    ]
}

const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != \
    'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}\
    {{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const LLAMA3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ \
    message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}\
    {% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
    {% if add_generation_prompt %}\
    {{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

/// Blocks on lines of their own, as in template files.
const VICUNA: &str = "{%- if messages[0].role == 'system' -%}
    {%- set system = messages[0].content.strip() + ' ' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set system = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{{ system }}
{%- for turn in turns -%}
    {%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('roles must alternate') }}
    {%- endif -%}
    {%- if turn['role'] == 'user' -%}
        {{ 'USER: ' + turn['content'].strip() + ' ' }}
    {%- else -%}
        {{ 'ASSISTANT: ' ~ turn['content'] ~ eos_token|default('</s>') }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ 'ASSISTANT:' }}
{%- endif -%}
";

const LLAVA: &str = "{% for message in messages %}{% if message['role'] != 'system' %}\
    {{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}\
    {{ '<image>\\n' }}{% endfor %}{% if message['role'] != 'assistant' %}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
    {{ content['text'] + ' '}}{% endfor %}{% else %}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
    {% generation %}{{ content['text'] + ' '}}{%- endgeneration %}{% endfor %}{% endif %}\
    {% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

#[test]
fn published_shapes_give_their_prompts() {
    let chatml = template(CHATML);
    assert!(!chatml.takes_parts());
    assert_eq!(
        chatml.render(&talk()[1..2], true).expect("a prompt"),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\n<image>\nWho is it? <|im_end|>\n<|im_start|>assistant\n"
    );
    let llama = template(LLAMA3).render(&talk(), true).expect("a prompt");
    assert_eq!(
        llama,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\n<image>\nWho is it?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nA nurse.<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    let vicuna = template(VICUNA);
    assert_eq!(
        vicuna.render(&talk(), false).expect("a prompt"),
        "Be brief. USER: <image>\nWho is it? ASSISTANT: A nurse.</s>"
    );
    let error = vicuna.render(&talk()[2..], false).expect_err("no user");
    assert!(
        error.to_string().contains("roles must alternate"),
        "{error}"
    );
}

#[test]
fn parts_are_for_templates_that_show_them() {
    let llava = template(LLAVA);
    assert!(llava.takes_parts());
    let turns = [
        Message::parts("user", vec![Part::text("Who is it?"), Part::Image]),
        Message::parts("assistant", vec![Part::text("A nurse.")]),
    ];
    assert_eq!(
        llava.render(&turns[..1], true).expect("a prompt"),
        "USER: <image>\nWho is it? ASSISTANT:"
    );
    assert_eq!(
        llava.render(&turns, false).expect("a prompt"),
        "USER: <image>\nWho is it? ASSISTANT: A nurse. "
    );
    // Shown as a list, it is not understood.
    assert!(!template("{{ messages[0].content }}").takes_parts());
    assert!(!template("{{ messages[0].content | tojson }}").takes_parts());
}

#[test]
fn what_published_templates_use_is_there() {
    let shown = |source: &str| template(source).render(&talk(), false).expect("text");
    for (source, expected) in [
        (
            "{{ messages[0] | tojson }}",
            r#"{"role": "system", "content": "Be brief."}"#,
        ),
        (
            "{{ ['é<', 1, none, true] | tojson }}",
            r#"["é<", 1, null, true]"#,
        ),
        ("{{ [1] | tojson(indent=4) }}", "[\n    1\n]"),
        (
            "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}",
            "aus",
        ),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}\
             {% break %}{% endfor %}",
            "user",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}\
             {% endfor %}{{ ns.n }}",
            "3",
        ),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) }}", "[1]"),
        ("{{ 'a</t>b'.split('</t>')[-1].rstrip('\\n') }}", "b"),
        (
            "{{ 'x' if strftime_now is defined else '26 Jul 2024' }}",
            "26 Jul 2024",
        ),
        (
            "{% if tools is none and not pad_token is defined %}ok{% endif %}\n",
            "ok",
        ),
        ("{{ '<&>' }}{{ missing }}", "<&>"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        (
            "{{ messages[0].get('name', 'n') }}{{ 'ab'.startswith('a') }}",
            "nTrue",
        ),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
}

#[test]
fn templates_are_kept_within_their_limits() {
    let loops = "{% for i in range(9999) %}{% for j in range(9999) %}{% set x = i %}{% endfor %}\
                 {% endfor %}";
    for (source, said) in [
        (loops, "fuel"),
        (
            "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
            "the template writes more than",
        ),
        ("{% include '/etc/passwd' %}", "template not found"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "recursion",
        ),
        ("{{ messages[0].role.nothing() }}", "nothing"),
    ] {
        let error = template(source)
            .render(&talk(), false)
            .expect_err("a limit");
        let message = error.to_string();
        assert!(message.contains(said), "{source}: {message}");
        assert!(message.starts_with("x: the chat template cannot be used: "));
        assert!(!message.contains('\n'));
    }
    for source in [
        "{% if %}",
        "{{ 'a",
        "{% for x in y %}",
        "{% generation %}",
        "{{ \"\n\" | |}}",
    ] {
        let error = ChatTemplate::new(source, Vec::new(), "x", "DIR").expect_err("malformed");
        let message = error.to_string();
        assert!(
            message.starts_with("DIR: the chat template cannot be used: "),
            "{message}"
        );
        assert!(!message.contains('\n'));
    }
    let long = ChatTemplate::new(&"a".repeat(LONGEST + 1), Vec::new(), "x", "x");
    assert!(
        long.expect_err("too long")
            .to_string()
            .contains("longer than")
    );
}

#[test]
fn a_folder_has_its_template_in_one_of_four_places() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |file: &str, content: &str| {
        fs::write(dir.path().join(file), content).expect("the folder is writable");
    };
    let open = || {
        let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
        ChatTemplate::open(&checkpoint)
    };
    let shown = || {
        let found = open().expect("valid").expect("a template");
        found.render(&[], false).expect("text")
    };
    write("model.safetensors", "\u{2}\0\0\0\0\0\0\0{}");
    assert!(open().expect("no file").is_none());
    write("tokenizer_config.json", r#"{"chat_template": null}"#);
    assert!(open().expect("no template").is_none());
    let named = json!([
        {"name": "rag", "template": "rag"},
        {"name": "default", "template": "{{ bos_token }}-{{ eos_token }}-{{ unk_token }}"},
    ]);
    let config = json!({
        "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "chat_template": named,
    });
    write("tokenizer_config.json", &config.to_string());
    write(
        "special_tokens_map.json",
        r#"{"unk_token": "<unk>", "bos_token": "no"}"#,
    );
    assert_eq!(shown(), "<s>-</s>-<unk>");
    let name = || {
        open()
            .expect("valid")
            .expect("a template")
            .name()
            .to_owned()
    };
    assert_eq!(name(), "tokenizer_config.json");
    write("processor_config.json", r#"{"chat_template": "processor"}"#);
    assert_eq!(
        (shown(), name()),
        ("processor".into(), "processor_config.json".into())
    );
    write(
        "chat_template.json",
        r#"{"chat_template": "json {{ eos_token }}"}"#,
    );
    assert_eq!(shown(), "json </s>");
    write("chat_template.jinja", "jinja {{ eos_token }}\n");
    assert_eq!(shown(), "jinja </s>");
    write("chat_template.jinja", "{% nothing %}");
    let error = open().expect_err("malformed").to_string();
    assert!(
        error.contains("chat_template.jinja: the chat template"),
        "{error}"
    );
    fs::remove_file(dir.path().join("chat_template.jinja")).expect("it is there");
    for json in [
        r#"{}"#,
        r#"{"chat_template": 1}"#,
        r#"{"chat_template": [{"name": "a"}]}"#,
    ] {
        write("chat_template.json", json);
        assert!(open().is_err(), "{json}");
    }
}
