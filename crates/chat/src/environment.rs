//! The Jinja environment of transformers' chat templates.

use jiff::{
    Zoned,
    civil::Date,
    fmt::strtime::{BrokenDownTime, Config},
    tz::TimeZone,
};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};

use crate::{
    error::Refusal,
    fuel::{BYTES_PER_FUEL, FUEL},
    generation_tag::{self, FILTER},
    python_json::{self, Layout},
    python_methods,
};

/// The function of templates that formats the current time.
pub(crate) const STRFTIME_NOW: &str = "strftime_now";

/// An environment with the settings, functions and filters of transformers, and no templates. With a date, the current
/// time is its midnight.
pub(crate) fn new_environment(date: Option<Date>) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are distinct"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_methods::call);
    environment.set_fuel(Some(FUEL));
    environment.add_function("raise_exception", raise_exception);
    environment.add_function(STRFTIME_NOW, move |format: &str| strftime_now(format, date));
    environment.add_filter("tojson", tojson);
    environment.add_filter(FILTER, generation_tag::mark);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
}

/// Whether Python can iterate over a value, which it cannot over `none`.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value.kind(), ValueKind::Iterable | ValueKind::Undefined)
}

/// Whether a value has a length and items, which in Python strings and dictionaries have too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
}

/// Formats midnight of a date, or the current time without one.
fn strftime_now(format: &str, date: Option<Date>) -> Result<String, Error> {
    // The time zone of the machine would change the text.
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC);
    let time = date.map_or_else(|| Ok(Zoned::now()), midnight);
    let time = time.map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    strftime(format, &time)
}

/// Formats a time as Python's `strftime`, which keeps unknown directives.
fn strftime(format: &str, time: &Zoned) -> Result<String, Error> {
    let config = Config::new().lenient(true);
    let text = BrokenDownTime::from(time).to_string_with_config(&config, format);
    text.map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
    })
}

/// Python's `json.dumps`, with the default arguments of transformers.
fn tojson(state: &State, value: &Value, ensure_ascii: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is_true(ensure_ascii.or(kwargs.get("ensure_ascii")?));
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys = is_true(kwargs.get("sort_keys")?);
    kwargs.assert_all_used()?;
    let invalid = |message: &str| Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"));
    let indent = match indent {
        None => None,
        Some(indent) => match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => Some(text.to_owned()),
            (_, Some(n_spaces @ ..=64)) => Some(" ".repeat(n_spaces)),
            _ => return Err(invalid("indent must be a string or a number of spaces up to 64")),
        },
    };
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("separators must be a pair of strings")),
    };
    let value = if sort_keys { python_json::sorted(value)? } else { value.clone() };
    let layout = Layout { item, key, indent, ensure_ascii };
    let text = python_json::dumps(&value, layout).map_err(|error| invalid(&error.to_string()))?;
    state.consume_fuel(text.len() as u64 / BYTES_PER_FUEL)?;
    Ok(Value::from(text))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn times_are_formatted_as_in_python() {
        let time = date(2024, 7, 6).at(5, 4, 3, 0).to_zoned(TimeZone::UTC).unwrap();
        assert_eq!(strftime("%d %b %Y", &time).unwrap(), "06 Jul 2024");
        assert_eq!(strftime("%A, %B %-d, %H:%M:%S %%", &time).unwrap(), "Saturday, July 6, 05:04:03 %");
        assert_eq!(strftime("%y %j %I %p %", &time).unwrap(), "24 188 05 AM %");
    }

    #[test]
    fn a_date_replaces_the_current_time() {
        let date = Some(date(2024, 7, 6));
        assert_eq!(strftime_now("%d %b %Y %H:%M", date).unwrap(), "06 Jul 2024 00:00");
        assert_eq!(strftime_now("%Y", None).unwrap(), Zoned::now().strftime("%Y").to_string());
    }
}
