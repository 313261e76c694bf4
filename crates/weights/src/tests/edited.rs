//! A copy differs from its base in the edited tensors and in nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::torch::{archive, floats, one};
use super::{file, folder, good};
use crate::{Checkpoint, write_edited};

fn copy(base: &Path, to: &Path, names: &[&str], by: f32) -> crate::Result<()> {
    let base = Checkpoint::open(base)?;
    let names: BTreeSet<&str> = names.iter().copied().collect();
    let mut add = |_: &str, values: &mut [f32]| values.iter_mut().for_each(|value| *value += by);
    write_edited(to, &base, &names, &mut add, &["card.json"], &[], false)
}

/// A second shard: `c` F16 [2] = [1, 2].
fn second() -> Vec<u8> {
    file(
        r#"{"c":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}      "#,
        &[0x00, 0x3c, 0x00, 0x40],
    )
}

const INDEX: &str = r#"{"metadata":{"total_size":16},"weight_map":{"a":"model-1.safetensors","b":"model-1.safetensors","c":"model-2.safetensors"}}"#;

fn sharded() -> tempfile::TempDir {
    folder(&[
        ("model-1.safetensors", &good()),
        ("model-2.safetensors", &second()),
        ("model.safetensors.index.json", INDEX.as_bytes()),
        ("config.json", b"{}"),
        ("generation_config.json", b"{\"a\": 1}"),
        ("golden.safetensors", b"not looked at"),
        ("pytorch_model.bin", b"stale"),
        ("card.json", b"{}"),
    ])
}

#[test]
fn shards_formats_and_index_stay() {
    let base = sharded();
    let out = folder(&[]);
    let to = out.path().join("edited");
    copy(base.path(), &to, &["b"], 0.25).expect("writable");
    let mut names: Vec<_> = fs::read_dir(&to)
        .expect("was written")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "config.json",
            "generation_config.json",
            "model-1.safetensors",
            "model-2.safetensors",
            "model.safetensors.index.json"
        ]
    );
    let same = |name: &str| {
        let read = |dir: &Path| fs::read(dir.join(name)).expect("readable");
        assert_eq!(read(&to), read(base.path()), "{name}");
    };
    same("model-2.safetensors");
    same("model.safetensors.index.json");
    same("generation_config.json");
    let (old, new) = (Checkpoint::open(base.path()), Checkpoint::open(&to));
    let (old, new) = (old.expect("valid"), new.expect("valid"));
    assert_eq!(old.raw("a").expect("there"), new.raw("a").expect("there"));
    assert_eq!(old.info("b"), new.info("b"));
    assert_eq!(new.f32("b", &[1, 2]).expect("finite"), [0.75, 3.25]);
    assert_eq!(fs::read_dir(out.path()).expect("readable").count(), 1);
}

#[test]
fn values_are_rounded_to_the_stored_format() {
    let base = sharded();
    let out = folder(&[]);
    let to = out.path().join("edited");
    copy(base.path(), &to, &["a", "b", "c"], 0.001).expect("writable");
    let new = Checkpoint::open(&to).expect("valid");
    assert_eq!(new.f32("a", &[2]).expect("finite"), [1.001, -2.0 + 0.001]);
    // Between 0.5 and 1 a bf16 has steps of 1/256, between 2 and 4 of 1/64.
    assert_eq!(new.f32("b", &[1, 2]).expect("finite"), [0.5, 3.0]);
    // Above 1 an f16 has steps of 1/1024, above 2 of 1/512.
    assert_eq!(
        new.f32("c", &[2]).expect("finite"),
        [1.0 + 1.0 / 1024.0, 2.001_953_1]
    );
}

#[test]
fn pytorch_files_become_safetensors() {
    // A transposed view of four values: it has to be gathered.
    let pickle = one(("FloatStorage", "0", 4), (0, &[2, 2], &[1, 2]));
    let bin = archive(&pickle, &[&floats(&[1.0, 2.0, 3.0, 4.0])]);
    let base = folder(&[("pytorch_model.bin", &bin), ("config.json", b"{}")]);
    let out = folder(&[]);
    let to = out.path().join("edited");
    copy(base.path(), &to, &[], 0.0).expect("writable");
    let (old, new) = (Checkpoint::open(base.path()), Checkpoint::open(&to));
    let (old, new) = (old.expect("valid"), new.expect("valid"));
    assert!(to.join("model.safetensors").is_file() && !to.join("pytorch_model.bin").exists());
    assert!(old.names().eq(new.names()) && old.names().count() > 0);
    for name in old.names() {
        assert_eq!(
            old.shared(name).expect("there"),
            new.shared(name).expect("there")
        );
    }
    assert_eq!(
        old.digest().expect("readable"),
        new.digest().expect("readable")
    );
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let base = sharded();
    let out = folder(&[]);
    let to = out.path().join("edited");
    let refusal = |to: &Path, names: &[&str], by: f32| {
        let error = copy(base.path(), to, names, by).expect_err("refused");
        assert_eq!(fs::read_dir(out.path()).expect("readable").count(), 0);
        error.to_string()
    };
    assert!(refusal(&to, &["d"], 0.0).contains("tensor `d` is missing"));
    let text = refusal(&to, &["c"], 70_000.0);
    assert!(
        text.contains("tensor `c` holds inf at flat index 0"),
        "{text}"
    );
    assert!(refusal(&to, &["a"], f32::NAN).contains("holds NaN"));
    let text = refusal(base.path(), &[], 0.0);
    assert!(text.contains("is the checkpoint that is edited"), "{text}");
    let text = refusal(&to.join("deeper"), &[], 0.0);
    assert!(text.contains("the folder above it is missing"), "{text}");
    assert!(base.path().join("golden.safetensors").is_file());

    fs::create_dir(&to).expect("a folder");
    let error = copy(base.path(), &to, &[], 0.0).expect_err("refused");
    assert!(error.to_string().contains("exists already"), "{error}");
}

#[test]
fn a_checkpoint_of_several_folders_is_refused() {
    let base = sharded();
    let other = Checkpoint::open(base.path()).expect("valid");
    let mounted = Checkpoint::open(base.path())
        .expect("valid")
        .mount("x.", other);
    let mounted_file = Checkpoint::bare(base.path())
        .and_then(|bare| bare.mount_file("", "model-1.safetensors"))
        .expect("valid");
    let out = folder(&[]);
    let nothing = &mut |_: &str, _: &mut [f32]| {};
    let to = out.path().join("edited");
    let error = write_edited(
        &to,
        &mounted_file,
        &BTreeSet::new(),
        nothing,
        &[],
        &[],
        false,
    );
    assert!(
        error
            .expect_err("refused")
            .to_string()
            .contains("put together")
    );
    // The same folder twice is two sets of the same files.
    let error = write_edited(&to, &mounted, &BTreeSet::new(), nothing, &[], &[], false);
    assert!(error.is_err());
    assert_eq!(fs::read_dir(out.path()).expect("readable").count(), 0);
}

#[test]
fn code_templates_and_tokenizers_of_every_kind_come_along() {
    let base = sharded();
    let along = [
        "modeling_x.py",
        "qwen.tiktoken",
        "tokenizer.model",
        "vocab.bpe",
        "merges.txt",
        "processor_config.json",
        "parts/attention.py",
        "additional_chat_templates/tool.jinja",
    ];
    for file in along {
        let path = base.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "from .parts.attention import A\n").expect("written");
    }
    let out = folder(&[]);
    let to = out.path().join("edited");
    copy(base.path(), &to, &["b"], 0.25).expect("writable");
    for file in along {
        assert!(to.join(file).is_file(), "{file}");
    }
    // What was written here may be written again.
    let model = Checkpoint::open(base.path()).expect("a model");
    let again =
        |to: &Path| write_edited(to, &model, &BTreeSet::new(), &mut |_, _| (), &[], &[], true);
    again(&to).expect("replaced");
    fs::write(to.join("parts/mine.safetensors"), "").expect("written");
    assert!(again(&to).is_err());
}

#[test]
fn what_the_index_leaves_out_is_not_copied() {
    let index = r#"{"weight_map":{"a":"model-1.safetensors"}}"#;
    let base = folder(&[
        ("model-1.safetensors", &good()),
        ("model.safetensors.index.json", index.as_bytes()),
    ]);
    let out = folder(&[]);
    let to = out.path().join("edited");
    copy(base.path(), &to, &["a"], 1.0).expect("writable");
    let copied = Checkpoint::open(&to).expect("a checkpoint");
    assert_eq!(copied.names().collect::<Vec<_>>(), ["a"]);
    assert_eq!(copied.f32("a", &[2]).expect("is there"), [2.0, -1.0]);
    assert_eq!(copied.notes(), [] as [String; 0]);
}

#[test]
fn values_of_64_bits_stay_so() {
    let data: Vec<u8> = [0.5f64, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let header = r#"{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}"#;
    let base = folder(&[("model.safetensors", &file(header, &data))]);
    let out = folder(&[]);
    let to = out.path().join("edited");
    copy(base.path(), &to, &["a"], 0.25).expect("writable");
    let copied = Checkpoint::open(&to).expect("a checkpoint");
    assert_eq!(copied.info("a").expect("is there").dtype, crate::Dtype::F64);
    assert_eq!(copied.f32("a", &[2]).expect("is there"), [0.75, 3.25]);
}
