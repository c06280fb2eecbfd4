//! Metadata values.

use std::fmt;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    /// The arrays may be of different types.
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// The types' numbers in a file.
pub(crate) mod code {
    pub(crate) const U8: u32 = 0;
    pub(crate) const I8: u32 = 1;
    pub(crate) const U16: u32 = 2;
    pub(crate) const I16: u32 = 3;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
    pub(crate) const I64: u32 = 11;
    pub(crate) const F64: u32 = 12;
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer of any type.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(number) => Some(number.into()),
            Self::U16(number) => Some(number.into()),
            Self::U32(number) => Some(number.into()),
            Self::U64(number) => Some(number),
            Self::I8(number) => number.try_into().ok(),
            Self::I16(number) => number.try_into().ok(),
            Self::I32(number) => number.try_into().ok(),
            Self::I64(number) => number.try_into().ok(),
            _ => None,
        }
    }

    /// A floating-point number of any type.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(number) => Some(number.into()),
            Self::F64(number) => Some(number),
            _ => None,
        }
    }

    /// A bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }
}

impl Array {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Array(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether the array is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings of an array of strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Self::String(strings) => Some(strings),
            _ => None,
        }
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::U32(number)
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        Self::F32(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Vec<i32>> for Value {
    fn from(numbers: Vec<i32>) -> Self {
        Self::Array(Array::I32(numbers))
    }
}

impl From<Vec<String>> for Value {
    fn from(strings: Vec<String>) -> Self {
        Self::Array(Array::String(strings))
    }
}

/// Maximum number of characters of a string that are shown.
const SHOWN_CHARS: usize = 60;
/// Maximum number of array values that are shown.
const SHOWN_VALUES: usize = 8;

/// The type and the value, such as `u32 12` or `[str; 3] "a" "b" "c"`. Long values are shortened.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(number) => write!(f, "u8 {number}"),
            Self::I8(number) => write!(f, "i8 {number}"),
            Self::U16(number) => write!(f, "u16 {number}"),
            Self::I16(number) => write!(f, "i16 {number}"),
            Self::U32(number) => write!(f, "u32 {number}"),
            Self::I32(number) => write!(f, "i32 {number}"),
            Self::F32(number) => write!(f, "f32 {number:?}"),
            Self::Bool(value) => write!(f, "bool {value}"),
            Self::String(text) => write!(f, "str {:?}", shortened(text)),
            Self::Array(array) => array.fmt(f),
            Self::U64(number) => write!(f, "u64 {number}"),
            Self::I64(number) => write!(f, "i64 {number}"),
            Self::F64(number) => write!(f, "f64 {number:?}"),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(values) => list(f, "u8", values, u8::to_string),
            Self::I8(values) => list(f, "i8", values, i8::to_string),
            Self::U16(values) => list(f, "u16", values, u16::to_string),
            Self::I16(values) => list(f, "i16", values, i16::to_string),
            Self::U32(values) => list(f, "u32", values, u32::to_string),
            Self::I32(values) => list(f, "i32", values, i32::to_string),
            Self::F32(values) => list(f, "f32", values, |number| format!("{number:?}")),
            Self::Bool(values) => list(f, "bool", values, bool::to_string),
            Self::String(values) => list(f, "str", values, |text| format!("{:?}", shortened(text))),
            Self::Array(values) => list(f, "array", values, |array| format!("({array})")),
            Self::U64(values) => list(f, "u64", values, u64::to_string),
            Self::I64(values) => list(f, "i64", values, i64::to_string),
            Self::F64(values) => list(f, "f64", values, |number| format!("{number:?}")),
        }
    }
}

fn list<T>(f: &mut fmt::Formatter<'_>, ty: &str, values: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    write!(f, "[{ty}; {}]", values.len())?;
    for value in values.iter().take(SHOWN_VALUES) {
        write!(f, " {}", show(value))?;
    }
    if values.len() > SHOWN_VALUES { f.write_str(" ...") } else { Ok(()) }
}

/// `text`, shortened if it is long.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_negative_integers_of_any_type_convert_to_u64() {
        for value in [Value::U8(7), Value::I16(7), Value::U32(7), Value::I64(7), Value::U64(7)] {
            assert_eq!(value.as_u64(), Some(7));
        }
        assert_eq!(Value::I32(-1).as_u64(), None);
        assert_eq!(Value::F32(7.0).as_u64(), None);
        assert_eq!(Value::F32(0.5).as_f64(), Some(0.5));
    }

    #[test]
    fn long_values_are_shortened() {
        let words = vec!["a".to_owned(), "é".repeat(100), "c".to_owned()];
        let shown = Value::from(words).to_string();
        assert_eq!(shown, format!("[str; 3] \"a\" \"{}...\" \"c\"", "é".repeat(60)));
        assert_eq!(Value::from((0..9).collect::<Vec<i32>>()).to_string(), "[i32; 9] 0 1 2 3 4 5 6 7 ...");
        let nested = Array::Array(vec![Array::U8(vec![1, 2]), Array::Bool(vec![])]);
        assert_eq!(nested.to_string(), "[array; 2] ([u8; 2] 1 2) ([bool; 0])");
    }
}
