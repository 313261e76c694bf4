//! Chat templates.

use minijinja::{Environment, ErrorKind, context};

use super::*;

fn render(template: &str, turns: &[(&str, &str)], prompt: bool) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.add_function("raise_exception", |words: String| -> Result<(), _> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, words))
    });
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    let messages: Vec<minijinja::Value> = turns
        .iter()
        .map(|(role, content)| context! { role => *role, content => *content })
        .collect();
    let given = context! {
        messages => messages, add_generation_prompt => prompt, bos_token => "<s>", eos_token => "</s>",
    };
    environment
        .render_str(template, given)
        .map_err(|error| error.to_string())
}

type Result<T, E> = std::result::Result<T, E>;

fn named(name: &str) -> String {
    chat_template(name, &[])
        .expect("a template")
        .expect("a template")
}

const TALK: [(&str, &str); 4] = [
    ("system", "Be kind."),
    ("user", "Hi"),
    ("assistant", "Hello!"),
    ("user", "Bye"),
];

#[test]
fn named_templates_are_the_published_formats() {
    let shown = |name: &str, prompt| render(&named(name), &TALK, prompt).expect("text");
    assert_eq!(
        shown("chatml", true),
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    assert_eq!(
        shown("llama3", true),
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(
        shown("alpaca", true),
        "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello!\n\n\
         ### Instruction:\nBye\n\n### Response:\n"
    );
    assert_eq!(
        shown("mistral", true),
        "<s> [INST] Be kind.\n\nHi [/INST] Hello!</s> [INST] Bye [/INST]"
    );
    assert!(shown("chatml", false).ends_with("Bye<|im_end|>\n"));
    assert!(shown("alpaca", false).ends_with("Bye"));
    let twice = [("user", "Hi"), ("user", "Hi")];
    let error = render(&named("mistral"), &twice, true).expect_err("no turns");
    assert!(error.contains("take turns"), "{error}");
}

#[test]
fn other_names_are_refused_and_templates_taken() {
    for name in ["exaone", "chat-ml", ""] {
        let error = chat_template(name, &[]).expect_err(name).to_string();
        assert!(
            error.contains("not offered") && error.contains("chatml"),
            "{error}"
        );
    }
    let literal = "{{ messages[0].content }}";
    assert_eq!(named(literal), literal);
}

#[test]
fn auto_is_what_most_models_have() {
    let config = |template: Json| json!({"chat_template": template}).to_string();
    let with =
        |template: Json| Model::bare("m", 1).file("tokenizer_config.json", &config(template));
    let several = json!([{"name": "tool", "template": "T"}, {"name": "default", "template": "A "}]);
    let models = [
        with(json!("B")),
        with(several),
        Model::bare("m", 1)
            .file("chat_template.jinja", "A\n")
            .file("tokenizer_config.json", "{"),
        Model::bare("m", 1),
    ];
    let speakers: Vec<Speaker> = models.iter().map(Model::speaker).collect();
    let auto = |speakers: &[Speaker]| chat_template("auto", speakers).expect("no error");
    assert_eq!(auto(&speakers).as_deref(), Some("A"));
    assert_eq!(auto(&speakers[..2]).as_deref(), Some("B"));
    assert_eq!(auto(&speakers[3..]), None);
}

#[test]
fn a_template_is_put_where_it_is_read() {
    let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    let mut files = vec![
        file(
            "tokenizer_config.json",
            r#"{"a": 1, "chat_template": "old"}"#,
        ),
        file("chat_template.jinja", "old"),
        file("vocab.json", "old"),
    ];
    put_chat_template(&mut files, "new {", "m").expect("stored");
    let config: Json = serde_json::from_slice(&files[0].1).expect("JSON");
    assert_eq!(config, json!({"a": 1, "chat_template": "new {"}));
    assert_eq!(
        files[1..],
        [
            file("chat_template.jinja", "new {"),
            file("vocab.json", "old")
        ]
    );
    let mut none = Vec::new();
    put_chat_template(&mut none, "new", "m").expect("stored");
    assert_eq!(none, [file("chat_template.jinja", "new")]);
    let mut broken = vec![file("tokenizer_config.json", "[]")];
    let error = put_chat_template(&mut broken, "new", "m").expect_err("no object");
    assert!(error.to_string().contains("model `m`"), "{error}");
}
