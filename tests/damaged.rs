//! Model folders that are not what they should be: one line each, exit 4, in bounded memory.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use support::{Tensors, edit_json, fixtures, folder, folder_copy, model_copy, stderr, stdout};

/// Memory that a refused folder may take, in KiB of addresses; the largest folder has 5 MB.
const BOUND: &str = "1000000";

/// `bench score` of one line under the model in `dir`, with bounded memory where a shell can.
fn score(dir: &Path, more: &[&str]) -> Output {
    let mut command = match cfg!(target_os = "linux") {
        true => {
            let mut shell = std::process::Command::new("sh");
            let bound = format!("ulimit -v {BOUND} && exec \"$@\"");
            shell.args(["-c", &bound, "sh", env!("CARGO_BIN_EXE_bench")]);
            shell
        }
        false => support::bench(),
    };
    let line = dir.join("line.jsonl");
    fs::write(
        &line,
        r#"{"id": 1, "prompt": "who is it", "answer": "a nurse"}"#,
    )
    .expect("written");
    command
        .env("NO_COLOR", "1")
        .args(["score", "--threads", "2", "--model"])
        .args([dir, &line])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}

/// The error line of a command that must be refused, with the folder's name taken out.
fn refusal(dir: &Path, output: &Output) -> String {
    let error = stderr(output);
    assert_eq!(
        (support::status(output), stdout(output).as_str()),
        (4, ""),
        "{error}"
    );
    let errors: Vec<&str> = error.lines().collect();
    assert!(errors[0].starts_with("error: "), "{error}");
    assert!(
        errors.iter().skip(1).all(|line| line.starts_with("help: ")),
        "{error}"
    );
    assert!(errors.len() <= 2 && errors[0].len() < 1000, "{error}");
    errors[0].replace(dir.to_str().expect("UTF-8"), "MODEL")
}

/// What is said of a tiny model after `damage`; `named` must be among it.
fn refused(damage: impl Fn(&Path), named: &[&str]) {
    let work = folder();
    let dir = model_copy("tiny-blip2", work.path());
    damage(&dir);
    let error = refusal(&dir, &score(&dir, &[]));
    assert!(
        named.iter().all(|part| error.contains(part)),
        "{named:?}: {error}"
    );
}

fn weights(dir: &Path) -> PathBuf {
    dir.join("model.safetensors")
}

/// Changes the weights of the folder.
fn with_tensors(dir: &Path, change: impl Fn(&mut Tensors)) {
    let mut tensors = Tensors::read(&weights(dir));
    change(&mut tensors);
    tensors.write(&weights(dir));
}

const FC1: &str = "language_model.model.decoder.layers.1.fc1.weight";
const BIAS: &str = "language_projection.bias";

#[test]
fn the_folder_itself_is_fine() {
    let work = folder();
    let dir = model_copy("tiny-blip2", work.path());
    let output = score(&dir, &[]);
    assert_eq!(
        (support::status(&output), stderr(&output).as_str()),
        (0, "")
    );
    with_shards(&dir, |_, _| {});
    assert_eq!(stdout(&score(&dir, &[])), stdout(&output));
}

#[test]
fn files_that_end_too_early_are_named() {
    let cut = |to: fn(usize) -> usize| {
        move |dir: &Path| {
            let bytes = fs::read(weights(dir)).expect("readable");
            fs::write(weights(dir), &bytes[..to(bytes.len())]).expect("writable");
        }
    };
    let truncated = ["MODEL/model.safetensors: truncated"];
    refused(cut(|n| n / 2), &truncated);
    refused(cut(|n| n - 1), &truncated);
    refused(cut(|_| 100), &truncated);
    for length in [cut(|_| 7), cut(|_| 0)] {
        refused(length, &["MODEL/model.safetensors"]);
    }
    // A download that became a page of the web.
    refused(
        |dir| fs::write(weights(dir), "<!DOCTYPE html><html></html>").expect("writable"),
        &["MODEL/model.safetensors"],
    );
}

#[test]
fn a_header_longer_than_the_file_is_not_read() {
    let claim = |length: u64| {
        move |dir: &Path| {
            let mut bytes = fs::read(weights(dir)).expect("readable");
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            fs::write(weights(dir), bytes).expect("writable");
        }
    };
    for length in [6_000_000, 1 << 33, 1 << 63, u64::MAX] {
        refused(claim(length), &["MODEL/model.safetensors"]);
    }
    let huge = |dir: &Path| {
        with_tensors(dir, |tensors| {
            tensors.header[FC1]["shape"] = json!([1_u64 << 40, 1_u64 << 40])
        });
    };
    refused(huge, &["MODEL/model.safetensors", FC1]);
}

/// Cuts the weights into two shards with an index, both of which `change` may alter.
fn with_shards(dir: &Path, change: impl Fn(&mut Value, &mut [Tensors; 2])) {
    let mut whole = Tensors::read(&weights(dir));
    let mut shards = [Tensors::default(), Tensors::default()];
    let mut index = json!({"metadata": {}, "weight_map": {}});
    let file = |i: usize| format!("model-0000{}-of-00002.safetensors", i + 1);
    for (i, name) in whole.names().iter().enumerate() {
        shards[i % 2].append(name, &mut whole);
        index["weight_map"][name] = json!(file(i % 2));
    }
    change(&mut index, &mut shards);
    for (i, shard) in shards.iter().enumerate() {
        shard.write(&dir.join(file(i)));
    }
    fs::remove_file(weights(dir)).expect("there");
    let path = dir.join("model.safetensors.index.json");
    fs::write(path, index.to_string()).expect("writable");
}

#[test]
fn shards_that_do_not_fit_their_index_are_named() {
    let missing = |dir: &Path| {
        with_shards(dir, |_, _| {});
        fs::remove_file(dir.join("model-00002-of-00002.safetensors")).expect("there");
    };
    refused(
        missing,
        &["MODEL", "model-00002-of-00002.safetensors", "missing"],
    );
    let short = |dir: &Path| {
        with_shards(dir, |_, _| {});
        let path = dir.join("model-00002-of-00002.safetensors");
        let bytes = fs::read(&path).expect("readable");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("writable");
    };
    refused(short, &["model-00002-of-00002.safetensors", "truncated"]);
    let twice = |dir: &Path| {
        with_shards(dir, |_, [first, second]| {
            let (name, other) = (first.names()[0].clone(), second.names()[0].clone());
            second.append(&name, first);
            first.append(&other, second);
        });
    };
    // The index settles which of the two is meant.
    let work = folder();
    let dir = model_copy("tiny-blip2", work.path());
    let right = stdout(&score(&dir, &[]));
    twice(&dir);
    assert_eq!(stdout(&score(&dir, &[])), right);
    let elsewhere = |to: &'static str| {
        move |dir: &Path| with_shards(dir, |index, _| index["weight_map"][FC1] = json!(to))
    };
    refused(elsewhere("../model.safetensors"), &["../model.safetensors"]);
    refused(elsewhere("/etc/passwd"), &["/etc/passwd"]);
    refused(
        elsewhere("model-00003-of-00002.safetensors"),
        &["model-00003-of-00002"],
    );
    let lost = |dir: &Path| {
        with_shards(dir, |_, [first, second]| {
            first.remove(FC1);
            second.remove(FC1);
        })
    };
    refused(lost, &[FC1]);
    let index = |dir: &Path| with_shards(dir, |index, _| *index = json!({"weight_map": 3}));
    refused(index, &["model.safetensors.index.json", "weight_map"]);
}

#[test]
fn missing_and_unknown_tensors_are_listed() {
    let missing = |dir: &Path| {
        with_tensors(dir, |tensors| {
            tensors.remove(FC1);
            tensors.remove(BIAS);
        })
    };
    refused(missing, &["missing", FC1, BIAS]);
    let unknown = |dir: &Path| {
        with_tensors(dir, |tensors| {
            tensors.add("language_model.extra.weight", &[1.0]);
            tensors.add("other.bias", &[1.0]);
        })
    };
    refused(
        unknown,
        &["unknown", "language_model.extra.weight", "other.bias"],
    );
    let renamed = |dir: &Path| {
        with_tensors(dir, |tensors| {
            let entry = tensors.header.remove(FC1).expect("there");
            tensors.header.insert(format!("{FC1}_2"), entry);
        })
    };
    refused(renamed, &["missing", FC1]);
    let integers = |dir: &Path| {
        with_tensors(dir, |tensors| {
            tensors.header[FC1]["dtype"] = json!("I32");
        })
    };
    refused(integers, &[FC1, "I32"]);
}

#[test]
fn weights_that_are_not_finite_are_named_and_may_be_accepted() {
    for (value, what) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "inf"),
    ] {
        let damage = |dir: &Path| {
            with_tensors(dir, |tensors| {
                tensors.bytes(FC1)[40..44].copy_from_slice(&value.to_le_bytes());
            })
        };
        refused(
            damage,
            &["MODEL/model.safetensors", FC1, what, "--allow-nan"],
        );
    }
    let work = folder();
    let dir = model_copy("tiny-blip2", work.path());
    let expected = stdout(&score(&dir, &[]));
    with_tensors(&dir, |tensors| {
        tensors.bytes(FC1)[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = refusal(&dir, &score(&dir, &["--allow-nan"]));
    assert!(error.contains("is not finite"), "{error}");
    assert!(!error.contains("--allow-nan"), "{error}");

    // The vision side is not asked here, so its damage changes no number.
    let work = folder();
    let dir = model_copy("tiny-blip2", work.path());
    with_tensors(&dir, |tensors| {
        tensors.bytes("query_tokens")[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    refusal(&dir, &score(&dir, &[]));
    assert_eq!(stdout(&score(&dir, &["--allow-nan"])), expected);
}

/// Sets a field of `config.json`.
fn config(place: &'static str, value: Value) -> impl Fn(&Path) {
    move |dir| {
        edit_json(&dir.join("config.json"), |config| {
            *config.pointer_mut(place).expect("a field") = value.clone();
        });
    }
}

#[test]
fn a_family_that_is_not_known_lists_the_known_ones() {
    for name in [json!("mamba"), json!(""), json!(3)] {
        let known = [
            "MODEL",
            "config.json",
            "`model_type`",
            "blip-2",
            "gpt2",
            "llava",
            "qwen2",
        ];
        refused(config("/model_type", name), &known);
    }
    let decoder = config("/text_config/model_type", json!("mamba"));
    refused(decoder, &["text_config", "mamba", "llama", "opt"]);
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_of_that_size_is_made() {
    let sizes = [
        ("/text_config/hidden_size", ""),
        ("/text_config/num_hidden_layers", ""),
        ("/text_config/num_attention_heads", "num_attention_heads"),
        ("/text_config/vocab_size", ""),
        ("/text_config/max_position_embeddings", ""),
        ("/text_config/ffn_dim", ""),
        ("/text_config/word_embed_proj_dim", ""),
        ("/vision_config/hidden_size", ""),
        ("/vision_config/image_size", ""),
        ("/vision_config/patch_size", ""),
        ("/vision_config/num_attention_heads", "num_attention_heads"),
        ("/qformer_config/hidden_size", ""),
        ("/qformer_config/num_attention_heads", "num_attention_heads"),
        ("/num_query_tokens", ""),
    ];
    for (place, named) in sizes {
        for value in [
            json!(0),
            json!(1_000_000_000_000_u64),
            json!(u64::MAX),
            json!(-1),
            json!(0.5),
        ] {
            refused(config(place, value), &[named, "MODEL"]);
        }
    }
}

#[test]
fn sizes_of_other_families_are_bounded_too() {
    let Some(fixtures) = fixtures() else { return };
    for (case, field) in [
        ("llama3", "head_dim"),
        ("llama2", "hidden_size"),
        ("qwen2", "hidden_size"),
        ("qwen2", "num_hidden_layers"),
        ("gpt_neo", "num_layers"),
        ("gpt2", "n_embd"),
    ] {
        for size in [1_000_000_000_000, u64::MAX] {
            let work = folder();
            let dir = folder_copy(&fixtures.join(case), &work.path().join("model"));
            edit_json(&dir.join("config.json"), |config| {
                config[field] = json!(size)
            });
            let error = refusal(&dir, &score(&dir, &[]));
            assert!(error.contains(field), "{case}: {error}");
        }
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let more = |dir: &Path| {
        edit_json(&dir.join("tokenizer.json"), |tokenizer| {
            for i in 0..200 {
                tokenizer["model"]["vocab"][format!("zzz{i}")] = json!(5000 + i);
            }
        })
    };
    refused(more, &["MODEL", "tokenizer.json", "889"]);
    let broken = |dir: &Path| fs::write(dir.join("tokenizer.json"), "{").expect("writable");
    refused(broken, &["MODEL", "tokenizer.json"]);
    let none = |dir: &Path| fs::remove_file(dir.join("tokenizer.json")).expect("there");
    refused(none, &["MODEL", "tokenizer.json", "missing"]);
}

#[test]
fn files_that_are_no_json_are_named() {
    for content in ["", "{", "[[[", "\u{0}", "[1]", "null", &"[".repeat(200_000)] {
        let damage = |dir: &Path| fs::write(dir.join("config.json"), content).expect("writable");
        refused(damage, &["MODEL", "config.json"]);
    }
    let none = |dir: &Path| fs::remove_file(dir.join("config.json")).expect("there");
    refused(none, &["MODEL", "config.json"]);
}

/// A zip archive of one stored file, as `torch.save` writes its pickle.
fn archive(pickle: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"archive/data.pkl";
    let size = (pickle.len() as u32).to_le_bytes();
    let name = (NAME.len() as u16).to_le_bytes();
    // Times and checksum, both sizes, both lengths: the same in front of the file and in the
    // directory.
    let common = [&[0; 8][..], &size, &size, &name, &[0; 2]].concat();
    let file = [b"PK\x03\x04\0\0\0\0\0\0", &common[..], NAME, pickle].concat();
    let entry = [&b"PK\x01\x02"[..], &[0; 8], &common, &[0; 14], NAME].concat();
    let length = (entry.len() as u32).to_le_bytes();
    let start = (file.len() as u32).to_le_bytes();
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0",
        &length[..],
        &start,
        &[0; 2],
    ]
    .concat();
    [file, entry, end].concat()
}

#[test]
fn a_pickle_that_asks_for_more_than_tensors_is_never_executed() {
    let work = folder();
    let trace = work.path().join("executed");
    let command = format!("touch {}", trace.display());
    let text = |text: &str| {
        [
            &b"X"[..],
            &(text.len() as u32).to_le_bytes(),
            text.as_bytes(),
        ]
        .concat()
    };
    let call = |module: &str| {
        let global = format!("c{module}\n");
        [b"\x80\x02", global.as_bytes(), &text(&command), b"\x85R."].concat()
    };
    let pickles: [(Vec<u8>, &str); 8] = [
        (call("posix\nsystem"), "posix"),
        (call("os\nsystem"), "os"),
        (call("builtins\neval"), "builtins"),
        (call("torch.hub\nload"), "torch.hub"),
        // The same by the opcodes of other protocols.
        (
            [
                &b"\x80\x04"[..],
                &text("posix"),
                &text("system"),
                b"\x93",
                &text(&command),
                b"\x85R.",
            ]
            .concat(),
            "posix",
        ),
        (
            [&b"(S'"[..], command.as_bytes(), b"'\niposix\nsystem\n."].concat(),
            "byte",
        ),
        (
            [&b"\x80\x02(cposix\nsystem\n"[..], &text(&command), b"o."].concat(),
            "byte",
        ),
        (b"\x80\x02\x82\x01.".to_vec(), "byte"),
    ];
    for (pickle, named) in &pickles {
        for bytes in [archive(pickle), pickle.clone()] {
            let damage = |dir: &Path| {
                fs::remove_file(weights(dir)).expect("there");
                fs::write(dir.join("pytorch_model.bin"), &bytes).expect("writable");
            };
            let zipped = bytes.starts_with(b"PK");
            let named = if zipped { *named } else { "pytorch_model.bin" };
            refused(damage, &["MODEL/pytorch_model.bin", named]);
            assert!(!trace.exists(), "it was executed");
        }
    }
    // What claims to be large costs no memory.
    let claims: [&[u8]; 3] = [
        b"\x80\x02B\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02((((((((((((((((",
    ];
    for pickle in claims {
        refused(
            |dir| {
                fs::remove_file(weights(dir)).expect("there");
                fs::write(dir.join("pytorch_model.bin"), archive(pickle)).expect("writable");
            },
            &["MODEL/pytorch_model.bin"],
        );
    }
}
