//! Constrained output: `response_format` and `grammar`.

#[cfg(feature = "grammar")]
use std::sync::OnceLock;

use engine::Model;
#[cfg(feature = "grammar")]
use grammar::{Grammar, Vocabulary};
use sampler::Constraint;
use serde_json::Value;

use super::body::Fields;
use crate::error::ApiError;

const FORMAT: &str = "response_format";
const GRAMMAR: &str = "grammar";

/// A model's vocabulary, prepared for grammars when a request first needs it.
#[derive(Debug, Default)]
pub(crate) struct Grammars {
    #[cfg(feature = "grammar")]
    vocabulary: OnceLock<Result<Vocabulary, String>>,
}

/// A description of the text to generate, and the field that it comes from.
#[derive(Debug, Clone, PartialEq)]
struct Description<'a> {
    field: &'static str,
    language: Language<'a>,
}

#[derive(Debug, Clone, PartialEq)]
enum Language<'a> {
    JsonObject,
    JsonSchema(&'a Value),
    Regex(&'a str),
    Lark(&'a str),
}

impl Grammars {
    /// The constraint of a request, or `None` if its text is free.
    ///
    /// # Errors
    ///
    /// 400 for an invalid or unsupported description, and if the build lacks the feature.
    pub(crate) fn constraint(
        &self,
        fields: &Fields,
        model: &Model,
    ) -> Result<Option<Box<dyn Constraint>>, ApiError> {
        match (of_format(fields)?, of_grammar(fields)?) {
            (Some(_), Some(_)) => {
                let message = "`response_format` and `grammar` can't be combined; give one of them";
                Err(ApiError::invalid(message, Some(GRAMMAR)))
            }
            (description, other) => {
                description.or(other).map(|description| self.compile(&description, model)).transpose()
            }
        }
    }

    #[cfg(feature = "grammar")]
    fn compile(&self, description: &Description<'_>, model: &Model) -> Result<Box<dyn Constraint>, ApiError> {
        let invalid = |message: &str| ApiError::invalid(message, Some(description.field));
        let prepare = || {
            let eos = super::options::eos_tokens(model);
            Vocabulary::new(&model.tokenizer, &eos).map_err(|error| error.to_string())
        };
        let vocabulary =
            self.vocabulary.get_or_init(prepare).as_ref().map_err(|message| invalid(message.as_str()))?;
        let grammar = match description.language {
            Language::JsonObject => Grammar::json_object(),
            Language::JsonSchema(schema) => Grammar::json_schema(schema),
            Language::Regex(expression) => Grammar::regex(expression),
            Language::Lark(rules) => Grammar::lark(rules),
        };
        grammar.constraint(vocabulary).map_err(|error| invalid(&error.to_string()))
    }

    #[cfg(not(feature = "grammar"))]
    fn compile(&self, description: &Description<'_>, _: &Model) -> Result<Box<dyn Constraint>, ApiError> {
        let field = description.field;
        let message = format!(
            "this build can't constrain text, so `{field}` is not supported; build it with `--features grammar`"
        );
        Err(ApiError::invalid(message, Some(field)))
    }
}

/// The description in `response_format`. The type `text` is the default.
fn of_format(fields: &Fields) -> Result<Option<Description<'_>>, ApiError> {
    let format = fields.value(FORMAT);
    let invalid = |message: &str| Err(ApiError::invalid(message, Some(FORMAT)));
    let language = match format["type"].as_str() {
        None if format.is_null() => return Ok(None),
        Some("text") => return Ok(None),
        Some("json_object") => Language::JsonObject,
        Some("json_schema") => match &format["json_schema"]["schema"] {
            schema @ (Value::Object(_) | Value::Bool(_)) => Language::JsonSchema(schema),
            _ => return invalid("`response_format.json_schema.schema` must be a JSON schema"),
        },
        _ => return invalid("`response_format.type` must be text, json_object or json_schema"),
    };
    Ok(Some(Description { field: FORMAT, language }))
}

/// The description in `grammar`: the rules of a Lark grammar, or `{"type": "regex" or "lark", "value": …}`.
fn of_grammar(fields: &Fields) -> Result<Option<Description<'_>>, ApiError> {
    let grammar = fields.value(GRAMMAR);
    let language = match (grammar, grammar["type"].as_str(), grammar["value"].as_str()) {
        (Value::Null, ..) => return Ok(None),
        (Value::String(rules), ..) => Language::Lark(rules),
        (_, Some("lark"), Some(rules)) => Language::Lark(rules),
        (_, Some("regex"), Some(expression)) => Language::Regex(expression),
        _ => {
            let message =
                "`grammar` must be a Lark grammar, or an object with the `type` regex or lark and a `value`";
            return Err(ApiError::invalid(message, Some(GRAMMAR)));
        }
    };
    Ok(Some(Description { field: GRAMMAR, language }))
}
