//! [`Grammar`]: a description of the text to generate.

use std::{io, panic::AssertUnwindSafe, thread};

use llguidance::{
    api::{GrammarInit, ParserLimits, TopLevelGrammar},
    derivre::RegexBuilder,
    panic_utils::catch_unwind,
};
use serde_json::{Value, json};

use crate::{
    Error, Result, Vocabulary, constraint::GrammarConstraint, error::message, schema_path::schema_path,
};

/// White space between the parts of JSON: a space, or a line break and indentation. It is bounded, so that a model
/// can't generate white space forever.
const JSON_WHITESPACE: &str = r"[ ]|\n[ ]{0,32}|\n\t{1,8}";

/// Longest source of a grammar. Schemas are measured as compact JSON.
const MAX_BYTES: usize = 32 << 10;

/// Deepest nesting of a schema, which is also the limit of JSON parsers.
const MAX_DEPTH: usize = 128;

/// Most significant digits of `multipleOf`. The library takes time proportional to the divisor.
const MAX_DIVISOR_DIGITS: usize = 4;

/// Address space for the recursion of the library. Only the used part takes memory.
const STACK_BYTES: usize = 256 << 20;

/// A description of the text to generate.
///
/// ```
/// let schema = serde_json::json!({ "type": "object", "properties": { "age": { "type": "whole" } } });
/// let error = grammar::Grammar::json_schema(&schema).check().unwrap_err().to_string();
/// assert_eq!(error, "invalid JSON schema at #/properties/age: Invalid type: whole");
/// ```
#[derive(Debug, Clone)]
pub struct Grammar(Source);

#[derive(Debug, Clone)]
enum Source {
    JsonSchema(Value),
    Regex(String),
    Lark(String),
}

impl Grammar {
    /// Any JSON object.
    pub fn json_object() -> Self {
        Self::json_schema(&json!({ "type": "object" }))
    }

    /// JSON that is valid by a JSON schema (draft 4 to 2020-12), with the keys of an object in the order of the schema.
    ///
    /// White space is a space, or a line break with indentation. The keyword `x-guidance` of `llguidance` sets another
    /// format.
    pub fn json_schema(schema: &Value) -> Self {
        Self(Source::JsonSchema(schema.clone()))
    }

    /// Text that matches a regular expression from its first to its last character. Look-around and back-references are
    /// not supported.
    pub fn regex(expression: &str) -> Self {
        Self(Source::Regex(expression.to_owned()))
    }

    /// Text that the rule `start` of a grammar derives, in the variant of [Lark](https://lark-parser.readthedocs.io)
    /// that `llguidance` reads.
    pub fn lark(grammar: &str) -> Self {
        Self(Source::Lark(grammar.to_owned()))
    }

    /// Checks the syntax, without a vocabulary. [`constraint`](Self::constraint) checks it too.
    ///
    /// # Errors
    ///
    /// If the grammar is invalid, uses an unsupported feature, or is too long.
    pub fn check(&self) -> Result<()> {
        self.check_size()?;
        on_large_stack(|| {
            self.check_regex()?;
            syntax_error(self.top_level()).map_or(Ok(()), |reason| Err(self.error(reason)))
        })?
    }

    /// Compiles the grammar for a vocabulary.
    ///
    /// # Errors
    ///
    /// If the grammar is invalid, matches no text of the vocabulary, uses an unsupported feature, or is too large.
    pub fn constraint(&self, vocabulary: &Vocabulary) -> Result<Box<dyn sampler::Constraint>> {
        self.check_size()?;
        on_large_stack(|| {
            self.check_regex()?;
            let parser = vocabulary.factory().create_parser(self.top_level());
            let parser = parser.map_err(|error| self.error(message(&error)))?;
            let constraint = GrammarConstraint::new(parser, vocabulary.clone())?;
            Ok(Box::new(constraint) as Box<dyn sampler::Constraint>)
        })?
    }

    fn check_size(&self) -> Result<()> {
        let n_bytes = match &self.0 {
            Source::JsonSchema(schema) => {
                if is_deeper_than(schema, MAX_DEPTH) {
                    return Err(Error::TooDeep { max: MAX_DEPTH });
                }
                if let Some(divisor) = large_divisor(schema) {
                    return Err(Error::Divisor { divisor, max_digits: MAX_DIVISOR_DIGITS });
                }
                schema.to_string().len()
            }
            Source::Regex(text) | Source::Lark(text) => text.len(),
        };
        if n_bytes > MAX_BYTES { Err(Error::TooLong { n_bytes, max: MAX_BYTES }) } else { Ok(()) }
    }

    /// Checks a regular expression before it becomes part of a Lark grammar, so that errors are about the expression.
    fn check_regex(&self) -> Result<()> {
        let Source::Regex(expression) = &self.0 else { return Ok(()) };
        let parsed = catch_unwind(AssertUnwindSafe(|| RegexBuilder::new().mk_regex(expression)));
        parsed.map_or_else(|error| Err(self.error(message(&error))), |_| Ok(()))
    }

    fn top_level(&self) -> TopLevelGrammar {
        match &self.0 {
            Source::JsonSchema(schema) => json_grammar(schema),
            Source::Regex(expression) => TopLevelGrammar::from_regex(expression),
            Source::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        }
    }

    fn error(&self, reason: String) -> Error {
        match &self.0 {
            Source::JsonSchema(schema) => {
                // The library may append how it got to the part.
                let fails_alike = |part: &Value| {
                    syntax_error(json_grammar(part)).is_some_and(|error| reason.starts_with(&error))
                };
                Error::JsonSchema { path: schema_path(schema, fails_alike), reason }
            }
            Source::Regex(_) => Error::Regex(reason),
            Source::Lark(_) => Error::Lark(reason),
        }
    }
}

/// Runs `work` where the library's recursion has room: at most about 20 KiB for each of [`MAX_BYTES`] / 6 rules.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let finished = worker.map_err(Error::Thread)?.join();
        finished.map_err(|_| Error::Thread(io::Error::other("it panicked")))
    })
}

fn is_deeper_than(value: &Value, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else { return true };
    match value {
        Value::Array(parts) => parts.iter().any(|part| is_deeper_than(part, below)),
        Value::Object(parts) => parts.values().any(|part| is_deeper_than(part, below)),
        _ => false,
    }
}

/// A `multipleOf` with too many digits.
fn large_divisor(schema: &Value) -> Option<String> {
    match schema {
        Value::Array(parts) => parts.iter().find_map(large_divisor),
        Value::Object(parts) => parts.iter().find_map(|(key, part)| match part {
            Value::Number(number) if key == "multipleOf" => {
                let text = number.to_string();
                let digits = text.replace('.', "");
                let n_digits = digits.trim_matches('0').len();
                (n_digits > MAX_DIVISOR_DIGITS || text.contains('e')).then_some(text)
            }
            _ => large_divisor(part),
        }),
        _ => None,
    }
}

fn json_grammar(schema: &Value) -> TopLevelGrammar {
    let mut schema = if *schema == Value::Bool(true) { json!({}) } else { schema.clone() };
    if let Value::Object(keys) = &mut schema {
        keys.entry("x-guidance").or_insert(json!({ "whitespace_pattern": JSON_WHITESPACE }));
    }
    TopLevelGrammar::from_json_schema(schema)
}

fn syntax_error(grammar: TopLevelGrammar) -> Option<String> {
    let parse = || GrammarInit::Serialized(grammar).to_internal(None, ParserLimits::default());
    catch_unwind(AssertUnwindSafe(parse)).err().map(|error| message(&error))
}
