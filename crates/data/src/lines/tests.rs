//! Every form in which people give lines, and how each may be broken.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Line and value of every entry.
fn entries(bytes: &[u8]) -> std::result::Result<Vec<(usize, Value)>, String> {
    let said = |error: Error| error.to_string();
    let mut lines = Lines::over(Path::new("in"), bytes, Content::Json).map_err(said)?;
    let mut found = Vec::new();
    while let Some(entry) = lines.next_entry().map_err(said)? {
        let value = entry.parse();
        let value = value.map_err(|problem| format!("in: line {}: {problem}", entry.line))?;
        found.push((entry.line, value));
    }
    Ok(found)
}

#[test]
fn every_form_of_lines_is_read() {
    let (a, b) = (
        json!({"id": 1, "text": "]},\" \n{"}),
        json!({"id": 2, "of": [{"x": []}]}),
    );
    let pretty = |value: &Value| format!("{value:#}");
    let both = |first, second| Ok(vec![(first, a.clone()), (second, b.clone())]);
    for (text, expected) in [
        (format!("{a}\n{b}\n"), both(1, 2)),
        (format!("\n \n{a}\r\n\r\n{b}"), both(3, 5)),
        (format!("{}\n{}\n", pretty(&a), pretty(&b)), both(1, 5)),
        (format!("\n{}{}", pretty(&a), pretty(&b)), both(2, 5)),
        (format!("[{a},{b}]"), both(1, 1)),
        (format!("\n[\n{a}\n,\n{b}\n]\n\n"), both(3, 5)),
        (pretty(&json!([a, b])), both(2, 6)),
        ("[]".to_owned(), Ok(vec![])),
        ("".to_owned(), Ok(vec![])),
        ("\n \n".to_owned(), Ok(vec![])),
    ] {
        assert_eq!(entries(text.as_bytes()), expected, "{text}");
        let marked = format!("\u{feff}{text}");
        assert_eq!(entries(marked.as_bytes()), expected, "{text}");
        let units: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(entries(&units), expected, "{text}");
    }
    // One object is one entry, on one line or on several.
    assert_eq!(entries(pretty(&a).as_bytes()), Ok(vec![(1, a.clone())]));
    assert_eq!(entries(a.to_string().as_bytes()), Ok(vec![(1, a)]));
}

#[test]
fn what_is_broken_is_named_with_its_line() {
    for (text, said) in [
        ("[{\"a\": 1}", "in: line 1: the list does not end"),
        ("[{\"a\": 1},\n", "in: line 2: the list does not end"),
        (
            "[{\"a\": 1},\n{\"b\":",
            "in: line 2: what begins here does not end",
        ),
        ("[{\"a\": 1}\n{\"b\": 1}]", "in: line 2: a comma is missing"),
        (
            "[{\"a\": 1},\n]",
            "in: line 2: an entry of the list is missing",
        ),
        ("[{\"a\": 1}]\n{}", "in: line 2: text stands behind the end"),
        ("{\n\"a\": 1\n", "in: line 1: what begins here does not end"),
        (
            "{\n\"a\": 1\n\"b\": 2}",
            "in: line 1: not JSON: expected `,` or `}` (line 3, column 1)",
        ),
        (
            "{\"a\": NaN}",
            "in: line 1: not JSON: `NaN`, as Python writes a missing value",
        ),
        (
            "{\"a\": -Infinity}",
            "in: line 1: not JSON: `-Infinity`, as Python writes",
        ),
        (
            "{\"a\": 1}\n{\"a\": None}",
            "in: line 2: not JSON: `None`, as Python writes",
        ),
        // A line that lacks its brace is broken alone: the next one is an object again.
        (
            "{\"a\": 1\n{\"a\": 2}\n",
            "in: line 1: not JSON: EOF while parsing an object",
        ),
        ("id,prompt\n1,a\n", "in: line 1: not JSON"),
        ("<!doctype html>\n", "in: is an HTML page"),
        (
            "version https://git-lfs.github.com/spec/v1\noid",
            "in: is a Git LFS pointer",
        ),
        (
            "{\0\"\0",
            "in: not text, or UTF-16 without its byte order mark",
        ),
    ] {
        let error = entries(text.as_bytes()).expect_err(text);
        assert!(error.starts_with(said), "{text}: {error}");
        assert!(
            !error.contains('\n') && !error.contains("at line"),
            "{error}"
        );
    }
}

#[test]
fn entries_without_an_end_are_refused_before_they_fill_memory() {
    let endless = |start: &str| {
        let text = start
            .as_bytes()
            .chain(std::io::repeat(b'a').take(2 * LONGEST));
        let reader = std::io::BufReader::new(text);
        let mut lines = Lines::over(Path::new("in"), reader, Content::Json)?;
        while lines.next_entry()?.is_some() {}
        Ok(())
    };
    for (start, line) in [
        ("", 1),
        ("{\"a\": \"", 1),
        ("[\n\"", 2),
        ("{\n\"a\": \"", 2),
    ] {
        let refused: Result<()> = endless(start);
        let error = refused.expect_err("refused").to_string();
        let said = format!("in: line {line}: longer than 8 MiB; each entry is one JSON object");
        assert_eq!(error, said, "{start}");
    }
}

#[test]
fn text_is_told_from_json() {
    let texts = |text: &str| {
        let reader = text.as_bytes();
        let mut lines = Lines::over(Path::new("in"), reader, Content::JsonOrText).expect("text");
        let mut found = Vec::new();
        while let Some(entry) = lines.next_entry().expect("text") {
            let bytes = String::from_utf8(entry.bytes.to_vec()).expect("UTF-8");
            found.push((entry.is_text, bytes));
        }
        found
    };
    let text = |line: &str| (true, line.to_owned());
    let json = |line: &str| (false, line.to_owned());
    assert_eq!(texts("\u{feff} a \r\n{b}"), [text(" a "), text("{b}")]);
    assert_eq!(texts("[laughs]\nb"), [text("[laughs]"), text("b")]);
    assert_eq!(texts("{\"a\": 1}\n\n{}"), [json("{\"a\": 1}"), json("{}")]);
    assert_eq!(texts("[\n\n{\"a\": 1}]"), [json("{\"a\": 1}")]);
}

#[test]
fn a_field_is_found_as_it_is_written() {
    let object =
        br#" {"a": {"id": 1}, "t": "\"id\": 2", "id" : 12345678901234567890123, "z": [1]} "#;
    assert_eq!(
        raw_field(object, "id"),
        Some(&b"12345678901234567890123"[..])
    );
    assert_eq!(raw_field(object, "t"), Some(&br#""\"id\": 2""#[..]));
    assert_eq!(raw_field(object, "z"), Some(&b"[1]"[..]));
    assert_eq!(raw_field(object, "b"), None);
    assert_eq!(raw_field(br#"{"\u0069d": 1.50}"#, "id"), Some(&b"1.50"[..]));
    assert_eq!(raw_field(br#"{"id": 1, "id": 2}"#, "id"), Some(&b"2"[..]));
    for broken in [
        &b""[..],
        b"{",
        b"[1]",
        b"{\"id\"",
        b"{\"id\":",
        b"{\"id\": 1",
        b"{id: 1}",
    ] {
        assert_eq!(raw_field(broken, "id"), None, "{broken:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(prop_oneof![
        any::<u8>(), Just(b'['), Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\n'), Just(b','), Just(b'\\'),
    ], 0..60)) {
        let _ = entries(&bytes);
        let _ = raw_field(&bytes, "id");
    }
}
