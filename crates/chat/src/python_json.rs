//! JSON in the layout of Python's `json.dumps`.

use std::io;

use minijinja::{Error, Value, value::ValueKind};
use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

/// The arguments of `json.dumps`.
pub(crate) struct Layout {
    /// Between items.
    pub(crate) item: String,
    /// Between a key and its value.
    pub(crate) key: String,
    /// One level of indentation; `None` writes everything on one line.
    pub(crate) indent: Option<String>,
    /// Escapes all characters outside ASCII.
    pub(crate) ensure_ascii: bool,
}

/// Writes a value as JSON.
///
/// # Errors
///
/// If the value is undefined.
pub(crate) fn dumps(value: &Value, layout: Layout) -> serde_json::Result<String> {
    if value.is_undefined() {
        return Err(serde::ser::Error::custom("the value is undefined"));
    }
    let mut json = Vec::new();
    let formatter = PythonFormatter { layout, depth: 0, is_empty: true };
    value.serialize(&mut Serializer::with_formatter(&mut json, formatter))?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// The value with the keys of its objects in ascending order.
pub(crate) fn sorted(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            keys.sort();
            let items: Result<Vec<(Value, Value)>, Error> =
                keys.into_iter().map(|key| Ok((key.clone(), sorted(&value.get_item(&key)?)?))).collect();
            Ok(Value::from_pairs(items?))
        }
        ValueKind::Seq => {
            value.try_iter()?.map(|item| sorted(&item)).collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        _ => Ok(value.clone()),
    }
}

struct PythonFormatter {
    layout: Layout,
    depth: usize,
    /// Whether the innermost list or object has no item yet.
    is_empty: bool,
}

impl PythonFormatter {
    fn begin(&mut self) {
        self.depth += 1;
        self.is_empty = true;
    }

    fn end(&mut self, out: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        self.depth -= 1;
        if !self.is_empty {
            self.new_line(out)?;
        }
        self.is_empty = false;
        Ok(())
    }

    fn begin_item(&mut self, out: &mut (impl io::Write + ?Sized), is_first: bool) -> io::Result<()> {
        if !is_first {
            out.write_all(self.layout.item.as_bytes())?;
        }
        self.is_empty = false;
        self.new_line(out)
    }

    fn new_line(&self, out: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        let Some(indent) = &self.layout.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        out.write_all(indent.repeat(self.depth).as_bytes())
    }
}

impl Formatter for PythonFormatter {
    fn begin_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin();
        out.write_all(b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out)?;
        out.write_all(b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, out: &mut W, is_first: bool) -> io::Result<()> {
        self.begin_item(out, is_first)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin();
        out.write_all(b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out)?;
        out.write_all(b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, out: &mut W, is_first: bool) -> io::Result<()> {
        self.begin_item(out, is_first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.layout.key.as_bytes())
    }

    /// Both languages print the fewest digits, and exponents from the same magnitudes on.
    fn write_f64<W: io::Write + ?Sized>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => out.write_all(text.as_bytes()),
            Some((digits, exponent)) => match exponent.strip_prefix('-') {
                Some(exponent) => write!(out, "{digits}e-{exponent:0>2}"),
                None => write!(out, "{digits}e+{exponent:0>2}"),
            },
        }
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !self.layout.ensure_ascii {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            if c.is_ascii() && c != '\x7f' {
                write!(out, "{c}")?;
            } else {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}
