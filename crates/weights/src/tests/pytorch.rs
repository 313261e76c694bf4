//! PyTorch files that are as they should be.

use super::torch::{Pickle, archive, beside, entries, floats, legacy, of_class, one};
use super::torch::{with_state, zip};
use super::{file, fixtures, folder, good};
use crate::{Checkpoint, Dtype, Error};

/// The checkpoint of this content.
fn read(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::from_bytes("x.bin", bytes).expect("the file is valid")
}

#[test]
fn the_files_of_minigpt4_hold_what_torch_says() {
    let Some(dir) = fixtures() else { return };
    let dir = dir.join("models/minigpt4");
    // File, tensors, then one of them: name, dtype, shape, first two values, sum of all.
    type Known<'a> = (&'a str, Dtype, &'a [usize], [f32; 2], f64);
    let known: [(&str, usize, &[Known]); 3] = [
        (
            "minigpt4.pth",
            2,
            &[
                (
                    "llama_proj.weight",
                    Dtype::F32,
                    &[48, 36],
                    [-0.255_817_44, 0.071_379_45],
                    -12.333_733_363_142_528,
                ),
                (
                    "llama_proj.bias",
                    Dtype::F32,
                    &[48],
                    [-0.226_731_05, -0.035_125_76],
                    0.359_155_880_985_781_55,
                ),
            ],
        ),
        (
            "eva_vit_g.pth",
            46,
            &[(
                "patch_embed.proj.weight",
                Dtype::F16,
                &[44, 3, 14, 14],
                [0.036_621_094, 0.039_245_605],
                -5.948_326_885_700_226,
            )],
        ),
        (
            "blip2_pretrained.pth",
            96,
            &[(
                "query_tokens",
                Dtype::F32,
                &[1, 6, 36],
                [0.033_969_857, -0.127_531_63],
                -3.923_280_835_384_503,
            )],
        ),
    ];
    for (file, count, tensors) in known {
        let checkpoint = Checkpoint::open_file(&dir.join(file)).expect("written by torch");
        assert_eq!(checkpoint.names().count(), count, "{file}");
        for (name, dtype, shape, first, sum) in tensors {
            let stored = checkpoint.checked(name, shape).expect("finite");
            assert_eq!(stored.dtype, *dtype, "{name}");
            let values = checkpoint.f32(name, shape).expect("finite");
            assert_eq!(values[..2], *first, "{name}");
            let total: f64 = values.iter().map(|value| f64::from(*value)).sum();
            assert!((total - sum).abs() < 1e-9, "{name}: {total}");
        }
    }
    let bare = Checkpoint::bare(&dir).expect("a folder");
    assert_eq!(bare.names().count(), 0);
    let model = ["eva_vit_g.pth", "blip2_pretrained.pth", "minigpt4.pth"]
        .iter()
        .zip(["visual_encoder.", "", ""])
        .try_fold(bare, |model, (file, prefix)| model.mount_file(prefix, file))
        .and_then(|model| Ok(model.mount("llama_model.", Checkpoint::open(&dir.join("llm"))?)))
        .expect("the original release");
    assert!(model.contains("visual_encoder.blocks.0.attn.qkv.weight"));
    assert!(model.contains("llama_proj.weight") && model.contains("query_tokens"));
    assert!(
        model
            .names()
            .any(|name| name.starts_with("llama_model.model.layers.0."))
    );
}

#[test]
fn both_containers_and_every_wrapper_give_the_same_tensors() {
    let data = floats(&[1.0, 2.0, 3.0, 4.0]);
    let storage = ("FloatStorage", "0", 4);
    let state = |pickle: Pickle| {
        let begun = pickle.global("collections", "OrderedDict").op(b")R(");
        begun
            .text("w")
            .tensor(storage, (0, &[2, 2], &[2, 1]))
            .text("note")
            .op(b"N")
            .op(b"u}")
            .text("_metadata")
            .op(b"}sb")
    };
    let bare = state(Pickle::new()).stop();
    let scalar = |pickle: Pickle| pickle.text("alpha").tensor(storage, (0, &[], &[]));
    let wrapped = |keys: &[&str]| {
        let open = keys
            .iter()
            .fold(Pickle::new(), |p, key| scalar(p.op(b"}(")).text(key));
        keys.iter().fold(state(open), |p, _| p.op(b"u")).stop()
    };
    for pickle in [
        bare,
        wrapped(&["model"]),
        wrapped(&["state_dict"]),
        wrapped(&["module"]),
        wrapped(&["model", "module"]),
    ] {
        for bytes in [
            archive(&pickle, &[&data]),
            zip(&entries(&pickle, &[&data]), true),
            legacy(&pickle, &[("0", 4, &data)]),
        ] {
            let checkpoint = read(bytes);
            assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
            let values = checkpoint.f32("w", &[2, 2]).expect("is there");
            assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
        }
    }
}

#[test]
fn views_are_gathered_and_rows_shared() {
    let data = floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let view = |offset, shape: &[i64], strides: &[i64]| {
        let pickle = one(("FloatStorage", "0", 6), (offset, shape, strides));
        let sides: Vec<usize> = shape.iter().map(|side| *side as usize).collect();
        (read(archive(&pickle, &[&data])), sides)
    };
    for (offset, shape, strides, expected) in [
        (
            0,
            &[2, 3][..],
            &[3, 1][..],
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..],
        ),
        (4, &[2], &[1], &[4.0, 5.0]),
        (3, &[], &[], &[3.0]),
        (2, &[1, 1, 3], &[77, 5, 1], &[2.0, 3.0, 4.0]),
        (6, &[0, 3], &[3, 1], &[]),
    ] {
        let (checkpoint, sides) = view(offset, shape, strides);
        assert_eq!(checkpoint.f32("w", &sides).expect("valid"), expected);
        let (raw, shared) = (checkpoint.raw("w"), checkpoint.shared("w"));
        assert_eq!(raw.expect("row-major").bytes, shared.expect("valid").bytes);
    }
    for (offset, shape, strides, expected) in [
        (
            0,
            &[3, 2][..],
            &[1, 3][..],
            &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0][..],
        ),
        (1, &[2], &[3], &[1.0, 4.0]),
        (0, &[2, 2], &[3, 2], &[0.0, 2.0, 3.0, 5.0]),
        (0, &[3, 1, 2], &[1, 9, 3], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        (1, &[2, 2], &[1, 1], &[1.0, 2.0, 2.0, 3.0]),
    ] {
        let (checkpoint, sides) = view(offset, shape, strides);
        assert_eq!(checkpoint.f32("w", &sides).expect("valid"), expected);
        assert!(matches!(checkpoint.raw("w"), Err(Error::Strided { .. })));
        assert!(checkpoint.digest().is_ok());
    }
}

#[test]
fn every_type_of_storage_is_known() {
    for (kind, dtype) in [
        ("FloatStorage", Dtype::F32),
        ("DoubleStorage", Dtype::F64),
        ("HalfStorage", Dtype::F16),
        ("BFloat16Storage", Dtype::BF16),
        ("LongStorage", Dtype::I64),
        ("IntStorage", Dtype::I32),
        ("ShortStorage", Dtype::I16),
        ("CharStorage", Dtype::I8),
        ("ByteStorage", Dtype::U8),
        ("BoolStorage", Dtype::BOOL),
    ] {
        let data = vec![1; 3 * dtype.bitsize() / 8];
        let pickle = one((kind, "k", 3), (1, &[2], &[1]));
        let checkpoint = read(legacy(&pickle, &[("k", 3, &data)]));
        let tensor = checkpoint.shared("w").expect("valid");
        assert_eq!(
            (tensor.dtype, tensor.bytes.len()),
            (dtype, 2 * dtype.bitsize() / 8)
        );
    }
}

#[test]
fn folders_of_pytorch_files_open() {
    let index = "pytorch_model.bin.index.json";
    let data = floats(&[7.0]);
    let bin = archive(&one(("FloatStorage", "0", 1), (0, &[1], &[1])), &[&data]);
    let dir = folder(&[("pytorch_model.bin", &bin)]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    assert_eq!(checkpoint.f32("w", &[1]).expect("valid"), [7.0]);
    let claims = br#"{"weight_map":{"w":"1.bin","a":"2.bin"}}"#;
    // The shards' formats are told by their content.
    let dir = folder(&[(index, claims), ("1.bin", &bin), ("2.bin", &good())]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "w"]);
    let dir = folder(&[(index, claims), ("1.bin", &bin)]);
    let error = Checkpoint::open(dir.path()).expect_err("a shard is missing");
    assert!(error.to_string().contains("2.bin is missing"), "{error}");
    let dir = folder(&[
        ("model.safetensors", &good()),
        ("pytorch_model.bin", b"never read"),
    ]);
    assert!(!Checkpoint::open(dir.path()).expect("valid").contains("w"));
}

#[test]
fn a_mounted_file_replaces_earlier_tensors() {
    let single = |name: &str, value: f32| {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        file(&header, &value.to_le_bytes())
    };
    let (first, second) = (single("a", 1.0), single("a", 2.0));
    let dir = folder(&[("1.pth", &first), ("2.pth", &second), ("note.json", b"[3]")]);
    let mounted = Checkpoint::bare(dir.path())
        .and_then(|model| model.mount_file("x.", "1.pth"))
        .and_then(|model| model.mount_file("y.", "1.pth"))
        .and_then(|model| model.mount_file("x.", "2.pth"))
        .expect("valid");
    assert_eq!(mounted.names().collect::<Vec<_>>(), ["x.a", "y.a"]);
    assert_eq!(mounted.f32("x.a", &[1]).expect("valid"), [2.0]);
    assert_eq!(mounted.f32("y.a", &[1]).expect("valid"), [1.0]);
    assert_eq!(mounted.json::<Vec<u8>>("note.json").expect("valid"), [3]);
    let error = mounted.checked("x.a", &[2]).expect_err("another shape");
    let place = dir.path().join("2.pth").display().to_string();
    assert!(error.to_string().starts_with(&place), "{error}");
    let shared = mounted.shared("x.a").expect("valid");
    drop(mounted);
    assert_eq!(shared.bytes, 2.0f32.to_le_bytes()[..]);
    for file in ["3.pth", "../2.pth"] {
        let bare = Checkpoint::bare(dir.path()).expect("a folder");
        assert!(bare.mount_file("", file).is_err(), "{file}");
    }
    let digest = |files: &[(&str, &[u8])]| {
        let dir = folder(files);
        let bare = Checkpoint::bare(dir.path()).expect("a folder");
        bare.digest().expect("readable")
    };
    assert_ne!(digest(&[]), digest(&[("minigpt4.json", b"{}")]));
}

#[test]
fn a_header_length_that_looks_like_a_pickle_is_a_length() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    // 640 is 0x0280, and a pickle of protocol 2 begins with 80 02.
    let padded = format!("{header:640}");
    let bytes = file(&padded, &1.0f32.to_le_bytes());
    assert_eq!(bytes[..2], [0x80, 0x02]);
    assert_eq!(read(bytes).f32("a", &[1]).expect("valid"), [1.0]);
}

#[test]
fn tensors_with_python_attributes_and_what_lies_beside_them_are_read() {
    let data = floats(&[1.5, -2.0]);
    for pickle in [
        of_class(("torch", "Tensor")),
        of_class(("torch.nn.parameter", "Parameter")),
        with_state(),
        beside(("torch", "device")),
        beside(("__builtin__", "set")),
        beside(("_codecs", "encode")),
    ] {
        let checkpoint = read(archive(&pickle, &[&data]));
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
        assert_eq!(checkpoint.f32("w", &[2]).expect("is there"), [1.5, -2.0]);
    }
    // Only tensors are rebuilt, and only as tensors.
    let foreign = |rebuild: (&str, &str), class: (&str, &str)| {
        Pickle::new()
            .op(b"}")
            .text("w")
            .global("torch._tensor", "_rebuild_from_type_v2")
            .op(b"(")
            .global(rebuild.0, rebuild.1)
            .global(class.0, class.1)
            .op(b")}tRs")
            .stop()
    };
    for pickle in [
        foreign(("collections", "OrderedDict"), ("torch", "Tensor")),
        foreign(("torch._utils", "_rebuild_tensor_v2"), ("torch", "Tensor")),
        of_class(("os", "system")),
        beside(("os", "system")),
    ] {
        let error = Checkpoint::from_bytes("x.bin", archive(&pickle, &[&data]));
        assert!(matches!(error, Err(Error::Pickle { .. })), "{error:?}");
    }
}
