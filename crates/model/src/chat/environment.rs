//! Where templates run: what Hugging Face's renderer offers, within limits.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Template, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Instructions per conversation; a published template needs some dozens per turn.
const FUEL: u64 = 2_000_000;

/// Longest output in bytes.
const LONGEST: usize = 8 << 20;

/// An environment without a loader, so that templates reach no file, and without a clock, so that
/// the same conversation always gives the same text: templates that want the date fall back to
/// their own.
pub(super) fn sandbox() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// The reference's treatment of white space around blocks.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the delimiters are the usual ones")
}

/// Runs a template; what it writes is limited.
pub(super) fn run(template: &Template, given: Value) -> Result<String, Error> {
    let mut output = Limited(Vec::new());
    template
        .render_captured_to(given, &mut output)
        .map_err(|error| match error.kind() {
            // Nothing else fails to write, and the cause is not part of the error's message.
            ErrorKind::WriteFailure => Error::new(
                ErrorKind::InvalidOperation,
                format!("the template writes more than {LONGEST} bytes"),
            ),
            _ => error,
        })?;
    String::from_utf8(output.0)
        .map_err(|_| Error::new(ErrorKind::WriteFailure, "the output is not UTF-8"))
}

/// `source` without its `{% generation %}` marks, which tell trainers what the model said and have
/// no counterpart here. A block that is always taken treats white space alike.
pub(super) fn without_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, block)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let inside = block.trim_start_matches(['-', '+']).trim_start();
        let word = inside
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next();
        let plain = match word {
            Some("generation") => "if true",
            Some("endgeneration") => "endif",
            _ => {
                rest = block;
                continue;
            }
        };
        let name = word.map_or(0, str::len);
        out.push_str(&block[..block.len() - inside.len()]);
        out.push_str(plain);
        rest = &inside[name..];
    }
    out + rest
}

/// JSON as Python writes it, other characters than ASCII kept, nothing escaped for HTML. Messages
/// keep the order of their keys; maps written in the template itself are sorted.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted, because false is what the reference does.
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson(ensure_ascii=true) is not supported",
        ));
    }
    options.assert_all_used()?;
    let mut out = Vec::new();
    let indentation = " ".repeat(indent.unwrap_or(0).min(16));
    let done = if indent.is_some() {
        let formatter = PrettyFormatter::with_indent(indentation.as_bytes());
        value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut out, Spaced))
    };
    let text = done.map(|()| String::from_utf8(out));
    match text {
        Ok(Ok(text)) => Ok(text),
        _ => Err(Error::new(
            ErrorKind::BadSerialization,
            "the value has no JSON form",
        )),
    }
}

/// One line, with a space after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// Bytes up to [`LONGEST`].
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
