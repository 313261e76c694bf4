//! PyTorch files that want to be more than weights, or less: each is refused with one line.

use super::torch::{Pickle, Stored, archive, entries, floats, legacy, one, stored, zip};
use super::{file, folder};
use crate::{Checkpoint, Error};

/// The one line with which `bytes` is refused.
fn refused(bytes: Vec<u8>) -> String {
    let message = Checkpoint::from_bytes("x.bin", bytes)
        .expect_err("the file breaks a rule")
        .to_string();
    assert!(message.starts_with("x.bin: "), "{message}");
    assert!(!message.contains('\n') && message.len() < 700, "{message}");
    message
}

/// The same for a pickle in each container; the two messages differ at most in the offset.
fn refused_pickle(pickle: &[u8], said: &str) {
    let stored: &[(&str, i64, &[u8])] = &[("0", 2, &[0; 8])];
    // The older layout lists no storage that the pickle does not name.
    let named = pickle.windows(7).any(|text| text == b"storage");
    for bytes in [
        archive(pickle, &[&[0; 8]]),
        legacy(pickle, if named { stored } else { &[] }),
    ] {
        let message = refused(bytes);
        assert!(message.contains(said), "{said}\n{message}");
    }
}

#[test]
fn calls_are_refused_by_name() {
    let call = |module: &str, name: &str| {
        let pickle = Pickle::new().global(module, name);
        pickle.op(b"(").text("true").op(b"tR").stop()
    };
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "getattr"),
        ("torch", "load"),
        ("torch", "OrderedDict"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch.nn.modules.linear", "Linear"),
    ] {
        let said = format!("a pickle that calls `{module}.{name}` is refused (byte ");
        refused_pickle(&call(module, name), &said);
        let modern = Pickle(vec![0x80, 4]).text(module).text(name).op(b"\x93)R");
        refused_pickle(&modern.stop(), &said);
    }
    let message = refused(archive(&call("os", "system"), &[]));
    assert_eq!(
        message,
        "x.bin: a pickle that calls `os.system` is refused (byte 2 of the pickle); convert the \
         file to safetensors where you trust it"
    );
    let storage = Pickle::new().global("torch", "FloatStorage").op(b")R");
    refused_pickle(&storage.stop(), "calls the type of a storage");
    let text = Pickle::new().text("x").op(b")R").stop();
    refused_pickle(&text, "calls an object");
    let build = Pickle::new().op(b"}}b").stop();
    refused_pickle(&build, "sets attributes");
}

#[test]
fn opcodes_outside_the_table_are_refused_with_their_place() {
    let allowed = b".(012NJKMGXUTCB)t]laed}sucRbQqrhj\
        \x80\x88\x89\x8a\x8b\x8c\x8d\x8e\x85\x86\x87\x93\x94\x95";
    let mut count = 0;
    for opcode in (0..=u8::MAX).filter(|opcode| !allowed.contains(opcode)) {
        let pickle = Pickle::new()
            .op(b"N")
            .op(&[opcode])
            .op(b"os\nsystem\n")
            .stop();
        let message = refused(archive(&pickle, &[]));
        let said = format!("pickle opcode {opcode:#04x}");
        assert!(message.contains(&said), "{message}");
        assert!(
            message.contains("is refused (byte 3 of the pickle)"),
            "{message}"
        );
        count += 1;
    }
    assert_eq!(count, 256 - allowed.len());
    let inst = Pickle::new().op(b"(ios\nsystem\n").stop();
    refused_pickle(&inst, "pickle opcode 0x69 (INST) is refused");
    refused_pickle(&[0x80, 1, b'N', b'.'], "pickle protocol 1");
    refused_pickle(&[0x80, 9, b'N', b'.'], "pickle protocol 9");
}

#[test]
fn pickles_without_sense_are_refused() {
    for (ops, said) in [
        (&b""[..], "takes a value from an empty stack"),
        (b"0", "empty stack"),
        (b"(", "empty stack"),
        (b"N(2", "empty stack"),
        (b"N(a", "empty stack"),
        (b"N(q\0", "empty stack"),
        (b"t", "closes a mark"),
        (b"NN", "unused values"),
        (b"(N", "unused values"),
        (b"h\x07", "recalls a value"),
        (b"NNa", "no list"),
        (b"NNNs", "no dictionary"),
        (b"}(Nu", "without a value"),
        (b"NQ", "names no storage"),
        (b"X\x02\0\0\0\xff\xff", "not UTF-8"),
        (b"NN\x93", "no text"),
        (b"cos", "no line of text"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "other arguments"),
        (
            b"ctorch._utils\n_rebuild_parameter\n(NNNtR",
            "other arguments",
        ),
        (b"ctorch\nSize\n)R", "other arguments"),
        (b"ccollections\nOrderedDict\n(](NetR", "other arguments"),
        (b"N", "holds no dictionary"),
        (b"}", "holds no tensor"),
        (b"}(X\x01\0\0\0aNu", "(its keys: a)"),
    ] {
        refused_pickle(&Pickle::new().op(ops).stop(), said);
    }
    for ops in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"B\xff\xff\xff\x7f",
        b"N",
    ] {
        let message = refused(archive(&Pickle::new().op(ops).0, &[]));
        assert!(message.contains("ends before its STOP"), "{message}");
    }
    let twice = Pickle::new().op(b"}(");
    let twice = ["w", "w"].iter().fold(twice, |p, name| {
        p.text(name)
            .tensor(("FloatStorage", "0", 2), (0, &[2], &[1]))
    });
    refused_pickle(&twice.op(b"u").stop(), "tensor `w` is stored twice");
}

#[test]
fn views_outside_their_storage_are_refused() {
    let max = i64::MAX;
    for (count, view, said) in [
        (
            3,
            (0, &[2][..], &[1][..]),
            "holds 2 values, the pickle promises 3",
        ),
        (
            2,
            (0, &[3], &[1]),
            "reaches outside its storage of 2 values",
        ),
        (2, (1, &[2], &[1]), "reaches outside"),
        (2, (2, &[1], &[1]), "reaches outside"),
        (2, (2, &[], &[]), "reaches outside"),
        (2, (max, &[1], &[1]), "reaches outside"),
        (2, (0, &[2], &[max]), "reaches outside"),
        (2, (max, &[2], &[max]), "reaches outside"),
        (2, (0, &[2, 2], &[max, max]), "reaches outside"),
        (2, (0, &[3, 2], &[max, 1]), "overflows"),
        (2, (0, &[max, max], &[1, 1]), "overflows"),
        (2, (0, &[max, max], &[0, 0]), "overflows"),
        (2, (0, &[max], &[0]), "repeats values of its storage"),
        (2, (0, &[3], &[0]), "repeats values"),
        (2, (0, &[2], &[-1]), "other arguments"),
        (2, (1, &[2], &[-1]), "other arguments"),
        (2, (0, &[-2], &[1]), "other arguments"),
        (2, (-1, &[1], &[1]), "other arguments"),
        (2, (0, &[1, 2], &[1]), "other arguments"),
        (2, (0, &[1; 17], &[1; 17]), "other arguments"),
        (-2, (0, &[1], &[1]), "no size"),
        (max, (0, &[1], &[1]), "the pickle promises"),
    ] {
        refused_pickle(&one(("FloatStorage", "0", count), view), said);
    }
    let absent = one(("FloatStorage", "9", 2), (0, &[2], &[1]));
    let message = refused(archive(&absent, &[&[0; 8]]));
    assert!(
        message.contains("storage `9` of tensor `w` is missing"),
        "{message}"
    );
}

/// What a test does to the entries of a good archive.
type Change<'a> = &'a dyn Fn(&mut Vec<Stored>);

#[test]
fn archives_that_could_be_read_in_two_ways_are_refused() {
    let pickle = one(("FloatStorage", "0", 2), (0, &[2], &[1]));
    let base = entries(&pickle, &[&[0; 8]]);
    let changed = |change: Change| {
        let mut entries = base.clone();
        change(&mut entries);
        [zip(&entries, false), zip(&entries, true)].map(refused)
    };
    let cases: [(Change, &str); 18] = [
        (
            &|e| e[0].method = 8,
            "entry `x/data.pkl` of the archive is compressed",
        ),
        (
            &|e| e[3].method = 8,
            "`x/version` of the archive is compressed",
        ),
        (
            &|e| e[2].flags |= 1,
            "`x/data/0` of the archive is encrypted",
        ),
        (&|e| e[2].shift = 1, "not where its directory says"),
        (&|e| e[2].shift = 1 << 31, "beyond its end"),
        (
            &|e| e[2].local = "x/data/1".into(),
            "not where its directory says",
        ),
        (&|e| e[0].longer = 1000, "does not end in it"),
        (&|e| e[2].longer = 1, "two entries of the archive overlap"),
        (&|e| e.push(e[2].clone()), "holds entry `data/0` twice"),
        (&|e| e.push(e[0].clone()), "holds entry `data.pkl` twice"),
        (&|e| drop(e.remove(0)), "holds no data.pkl"),
        (
            &|e| drop(e.remove(2)),
            "the storage `0` of tensor `w` is missing",
        ),
        (
            &|e| e[2].data.truncate(4),
            "holds 1 values, the pickle promises 2",
        ),
        (&|e| e[1].data = b"big".to_vec(), "not little-endian"),
        (&|e| e.push(stored("y/data/1", b"")), "in a second folder"),
        (&|e| e.push(stored("top", b"")), "lies in no folder"),
        (
            &|e| e.push(stored("x/../../etc/passwd", b"")),
            "no name for an entry",
        ),
        (&|e| e.push(stored("/x", b"")), "no name for an entry"),
    ];
    for (change, said) in cases {
        for message in changed(change) {
            assert!(message.contains(said), "{said}\n{message}");
        }
    }
    for bytes in [zip(&base, false), zip(&base, true)] {
        for length in 9..bytes.len() {
            let message = refused(bytes[..length].to_vec());
            assert!(message.contains("truncated"), "{length}: {message}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(refused(longer).contains("no end record"));
    }
}

#[test]
fn every_truncation_of_the_older_layout_is_refused() {
    let pickle = one(("FloatStorage", "0", 2), (0, &[2], &[1]));
    let bytes = legacy(&pickle, &[("0", 2, &[0; 8])]);
    for length in 9..bytes.len() {
        refused(bytes[..length].to_vec());
    }
    for (storages, said) in [
        (
            vec![("0", 3, &[0; 8][..])],
            "truncated: the file ends inside storage `0`",
        ),
        (vec![("0", -1, &[0; 8])], "truncated"),
        (vec![("0", i64::MAX, &[0; 8])], "truncated"),
        (
            vec![("0", 1, &[0; 8])],
            "holds 1 values, the pickle promises 2",
        ),
        (
            vec![("1", 2, &[0; 8])],
            "no tensor tells the type of storage `1`",
        ),
        (
            vec![("0", 2, &[0; 8]), ("0", 2, &[0; 8])],
            "`0` is listed twice",
        ),
        (vec![], "the storage `0` of tensor `w` is missing"),
    ] {
        let message = refused(legacy(&pickle, &storages));
        assert!(message.contains(said), "{said}\n{message}");
    }
    let none = Pickle::new().op(b"NNN").stop();
    assert!(refused(none).contains("unused values"));
    let other = Pickle::new().int(5).stop();
    assert!(refused(other).contains("torch.save did not write it"));
}

#[test]
fn bombs_are_defused() {
    // Each list holds the one before it twice: 2^40,000 values, if anybody counted.
    let first = Pickle::new().op(b"}]r\0\0\0\x000");
    let doubling = (0..40_000u32).fold(first, |p, level| {
        let (from, to) = (level.to_le_bytes(), (level + 1).to_le_bytes());
        let twice = p.op(b"](j").op(&from).op(b"j").op(&from);
        twice.op(b"er").op(&to).op(b"0")
    });
    let last = doubling.text("w").op(b"j").op(&40_000u32.to_le_bytes());
    refused_pickle(&last.op(b"s").stop(), "holds no tensor");

    // A list that is appended to itself without end, beyond what is allowed.
    let mut appends = Pickle::new().op(b"]q\0").0;
    appends.extend(b"h\0a".repeat(2_500_000));
    refused_pickle(&Pickle(appends).stop(), "more than 4000000 steps");

    // One list of pairs, copied into many dictionaries.
    let pairs = (0..1000).fold(Pickle::new().op(b"]("), |p, _| p.op(b"NN\x86"));
    let mut copies = pairs.op(b"eq\0").0;
    copies.extend(b"ccollections\nOrderedDict\nh\0\x85R".repeat(5000));
    refused_pickle(&Pickle(copies).stop(), "more than 4000000 steps");

    // A million levels: neither reading nor dropping them may recurse.
    let deep = [
        [b"]".repeat(1_000_000), b"a".repeat(999_999)].concat(),
        [b")".to_vec(), b"\x85".repeat(1_000_000)].concat(),
        [b"(".repeat(1_000_000), b"l".repeat(1_000_000)].concat(),
        [
            b"}N".repeat(1_000_000),
            b"}".to_vec(),
            b"s".repeat(1_000_000),
        ]
        .concat(),
    ];
    for ops in deep {
        let pickle = Pickle::new().op(b"}").text("model").op(&ops).op(b"s");
        refused_pickle(&pickle.stop(), "holds no tensor");
    }
    let wrappers = (0..100_000).fold(Pickle::new(), |p, _| p.op(b"}").text("model"));
    let wrapped = wrappers.op(b"N").op(&b"s".repeat(100_000));
    refused_pickle(&wrapped.stop(), "holds no tensor");
}

#[test]
fn odd_values_are_named_in_every_format() {
    let limits = [
        ("F32", 4, 0x7f80_0000u32),
        ("F16", 2, 0x7c00),
        ("BF16", 2, 0x7f80),
    ];
    for (dtype, size, infinity) in limits {
        for bits in [infinity, infinity + 1, infinity | 1 << (size * 8 - 1)] {
            // Beyond the first stretch that is checked at a time.
            let (count, index) = (700_001, 700_000);
            let mut data = vec![0x11; count * size];
            data[index * size..].copy_from_slice(&bits.to_le_bytes()[..size]);
            let header = format!(
                r#"{{"w":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[0,{}]}}}}"#,
                count * size
            );
            let dir = folder(&[("model.safetensors", &file(&header, &data))]);
            let checkpoint = Checkpoint::open(dir.path()).expect("valid");
            let error = checkpoint.checked("w", &[count]).expect_err("not finite");
            assert!(matches!(error, Error::NotFinite { .. }));
            let message = error.to_string();
            let said = format!(
                "tensor `w` holds {} at flat index {index}",
                match bits & 1 {
                    1 => "NaN",
                    _ if bits == infinity => "inf",
                    _ => "-inf",
                }
            );
            assert!(message.contains(&said), "{dtype}: {message}");
            assert!(message.contains("--allow-nan") && !message.contains('\n'));
            let allowed = checkpoint.allow_nan(true);
            assert!(allowed.checked("w", &[count]).is_ok());
            assert_eq!(allowed.f32("w", &[count]).expect("allowed").len(), count);
        }
    }
    let data = floats(&[0.0, f32::NAN, 1.0, f32::NAN]);
    let pickle = one(("FloatStorage", "0", 4), (0, &[2, 2], &[1, 2]));
    let checkpoint = Checkpoint::from_bytes("x.bin", archive(&pickle, &[&data])).expect("valid");
    let error = checkpoint.checked("w", &[2, 2]).expect_err("not finite");
    // Row-major in the tensor, not in the file.
    assert!(error.to_string().contains("at flat index 2"), "{error}");
}
