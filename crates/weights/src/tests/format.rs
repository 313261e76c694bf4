//! Every rule of the safetensors format, broken once.

use proptest::prelude::*;
use safetensors::Dtype;

use super::{file, good};
use crate::header::parse;
use crate::{Error, float};

/// The message with which `bytes` is refused.
fn refused(bytes: &[u8]) -> String {
    parse(bytes, "x.safetensors")
        .expect_err("the file breaks a rule")
        .to_string()
}

#[test]
fn a_good_file_gives_its_tensors_in_data_order() {
    let bytes = good();
    let entries = parse(&bytes, "x").expect("the file is valid");
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(entries[1].info.shape, [1, 2]);
    assert_eq!(entries[1].end, bytes.len());
    let values = float::widen(Dtype::BF16, &bytes[entries[1].start..entries[1].end]);
    assert_eq!(values, Some(vec![0.5, 3.0]));
}

#[test]
fn every_truncation_says_how_many_bytes_are_there_and_promised() {
    let bytes = good();
    for length in 0..bytes.len() {
        let error = parse(&bytes[..length], "x").expect_err("a truncated file");
        let Error::Truncated {
            found, promised, ..
        } = error
        else {
            panic!("{length} bytes: {error}");
        };
        assert_eq!(found, length as u64);
        if length < 8 {
            assert_eq!(promised, 8);
        } else if length >= bytes.len() - 12 {
            assert_eq!(promised, bytes.len() as u64);
        } else {
            assert_eq!(promised, bytes.len() as u64 - 12);
        }
    }
}

#[test]
fn header_lengths_are_bounded_before_anything_is_allocated() {
    let mut bytes = good();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refused(&bytes).contains("the limit is 100000000"));
    bytes[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    assert!(refused(&bytes).contains("the limit is 100000000"));
    bytes[..8].copy_from_slice(&100_000_000u64.to_le_bytes());
    assert!(refused(&bytes).contains("the header promises 100000008"));
}

#[test]
fn malformed_headers_are_refused() {
    for (header, data, said) in [
        ("", 0, "does not begin with `{`"),
        (" {}", 0, "does not begin with `{`"),
        ("[]", 0, "does not begin with `{`"),
        ("{", 0, "malformed"),
        ("{}x", 0, "malformed"),
        ("{} ", 1, "1 bytes follow the last tensor"),
        (r#"{"a":1}"#, 0, "malformed"),
        (
            r#"{"a":{"dtype":"F32","shape":[1]}}"#,
            4,
            "missing field `data_offsets`",
        ),
        (
            r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#,
            4,
            "F33",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            4,
            "malformed",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#,
            4,
            "malformed",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
            4,
            "malformed",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#,
            4,
            "unknown field `x`",
        ),
        (
            r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4,
            "duplicate field `dtype`",
        ),
        (
            r#"{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4,
            "no name for a tensor",
        ),
        (
            r#"{"a\n":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4,
            "no name for a tensor",
        ),
        (r#"{"__metadata__":{"format":1}}"#, 0, "malformed"),
        (
            r#"{"__metadata__":{"f":"a","f":"b"}}"#,
            0,
            "`f` is written twice",
        ),
        (
            r#"{"__metadata__":{},"__metadata__":{}}"#,
            0,
            "`__metadata__` is written twice",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "`a` is written twice",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            4,
            "spans 4 bytes, its dtype and shape ask for 8",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            4,
            "ends before it begins",
        ),
        (
            r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#,
            1,
            "does not fill whole bytes",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#,
            0,
            "overflows",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "leaves a gap before it",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
            12,
            "tensor `b` leaves a gap before it: it begins at 8, expected 4",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "tensor `b` overlaps the tensor before it",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            5,
            "1 bytes follow the last tensor",
        ),
    ] {
        let message = refused(&file(header, &vec![0; data]));
        assert!(message.contains(said), "{header}\n{message}");
        assert!(!message.contains('\n') && message.starts_with("x.safetensors: "));
    }
}

#[test]
fn offsets_near_the_end_of_the_number_range_do_not_overflow() {
    let header = format!(
        r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}},"b":{{"dtype":"U8","shape":[{0}],"data_offsets":[{0},{1}]}}}}"#,
        u64::MAX / 8,
        u64::MAX / 8 * 2
    );
    assert!(refused(&file(&header, &[0; 4])).contains("truncated"));
    let end = u64::MAX;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[0],"data_offsets":[{end},{end}]}}}}"#);
    assert!(refused(&file(&header, &[])).contains("leaves a gap"));
}

#[test]
fn header_bytes_that_are_not_text_are_refused() {
    let mut bytes = file(
        r#"{"aa":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        &[0; 4],
    );
    bytes[10] = 0xff;
    assert!(refused(&bytes).contains("malformed"));
}

#[test]
fn empty_files_scalars_and_empty_tensors_are_valid() {
    assert!(parse(&file("{}", &[]), "x").expect("no tensors").is_empty());
    let bytes = file(
        r#"{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"z":{"dtype":"I64","shape":[0],"data_offsets":[4,4]}}   "#,
        &1.5f32.to_le_bytes(),
    );
    let entries = parse(&bytes, "x").expect("the file is valid");
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["e", "s", "z"]);
}

#[test]
fn long_hostile_texts_do_not_fill_the_message() {
    let name = "n".repeat(5000);
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    assert!(refused(&file(&header, &[0; 4])).len() < 700);
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Length(u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        8 => (at(), any::<u8>()).prop_map(|(i, b)| Damage::Set(i, b)),
        8 => (at(), prop::sample::select(b"0123456789[]{},:\"".to_vec())).prop_map(|(i, b)| Damage::Set(i, b)),
        1 => at().prop_map(Damage::Cut),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(i, b)| Damage::Insert(i, b)),
        2 => (at(), 1usize..9).prop_map(|(i, n)| Damage::Remove(i, n)),
        1 => (0u64..300).prop_map(Damage::Length),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    match damage {
        Damage::Set(at, value) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Damage::Insert(at, new) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, new.iter().copied());
        }
        Damage::Remove(at, count) => {
            let at = at.index(bytes.len() + 1);
            let end = (at + count).min(bytes.len());
            bytes.drain(at..end);
        }
        Damage::Length(value) if bytes.len() >= 8 => {
            bytes[..8].copy_from_slice(&value.to_le_bytes());
        }
        Damage::Set(..) | Damage::Length(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to a file, it is refused, or every tensor lies inside it, the tensors
    /// cover the data exactly, and their values can be read.
    #[test]
    fn damaged_files_never_panic_nor_reach_outside(damages in prop::collection::vec(damage(), 1..6)) {
        let mut bytes = good();
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        if let Ok(entries) = parse(&bytes, "x") {
            let mut covered = 0;
            for entry in &entries {
                let data = &bytes[entry.start..entry.end];
                covered += data.len();
                let count: usize = entry.info.shape.iter().product();
                prop_assert_eq!(data.len() * 8, count * entry.info.dtype.bitsize());
                if let Some(values) = float::widen(entry.info.dtype, data) {
                    prop_assert_eq!(values.len(), count);
                }
            }
            let header = u64::from_le_bytes(*bytes.first_chunk().expect("a parsed file has a prefix"));
            prop_assert_eq!(8 + header as usize + covered, bytes.len());
            // What passes here passes the reference reader, except for what it does not know.
            prop_assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, "x");
    }

    /// The block conversion equals the scalar one for every bit pattern and any alignment.
    #[test]
    fn f16_widens_like_the_scalar_definition(bits in prop::collection::vec(any::<u16>(), 0..2100)) {
        let bytes: Vec<u8> = std::iter::once(0).chain(bits.iter().flat_map(|b| b.to_le_bytes())).collect();
        let wide = float::widen(Dtype::F16, &bytes[1..]).expect("F16 is a float format");
        for (bits, value) in bits.iter().zip(wide) {
            let expected = half::f16::from_bits(*bits).to_f32();
            prop_assert!(expected == value || expected.is_nan() && value.is_nan());
        }
    }
}
