//! Sampling options of a request.

use std::collections::BTreeMap;

use engine::Model;
use sampler::Options;
use serde_json::{Number, Value};

use super::body::Fields;
use crate::error::ApiError;

/// The largest `max_tokens`, unless the model's context is larger.
const MAX_TOKENS: usize = 4096;

const MAX_STOPS: usize = 256;
const MAX_STOP_BYTES: usize = 1024;

/// Number of tokens that can be sampled, without the padding of the vocabulary.
pub(crate) fn n_tokens(model: &Model) -> usize {
    model.tokenizer.vocab_size().min(model.gpt.config().vocab_size)
}

/// The options of a request, apart from the seed ([`seed`]). `max_tokens` is checked here.
///
/// # Errors
///
/// 400 for a value of a wrong type or out of range.
pub(crate) fn options(fields: &Fields, model: &Model, max_tokens: usize) -> Result<Options, ApiError> {
    let repetition_penalty = fields.get("repetition_penalty")?.or(fields.get("repeat_penalty")?);
    let ignores_eos = fields.get("ignore_eos")?.unwrap_or(false);
    let options = Options {
        max_tokens: check_max_tokens(max_tokens, model)?,
        temperature: fields.get("temperature")?.unwrap_or(1.0),
        top_k: top_k(fields)?,
        top_p: fields.get("top_p")?,
        min_p: fields.get("min_p")?,
        typical_p: fields.get("typical_p")?,
        repetition_penalty: repetition_penalty.unwrap_or(1.0),
        frequency_penalty: fields.get("frequency_penalty")?.unwrap_or(0.0),
        presence_penalty: fields.get("presence_penalty")?.unwrap_or(0.0),
        logit_bias: logit_bias(fields, n_tokens(model))?,
        logprobs: false,
        stop: stop_strings(fields)?,
        stop_tokens: if ignores_eos { Vec::new() } else { eos_tokens(model) },
        seed: 0,
    };
    options.check().map_err(|error| ApiError::invalid(error.to_string(), param(&error)))?;
    Ok(options)
}

/// The seed, which may be any integer; `None` for a random one, which -1 means too, as in llama.cpp.
pub(crate) fn seed(fields: &Fields) -> Result<Option<u64>, ApiError> {
    let Some(seed) = fields.get::<Number>("seed")?.filter(|seed| seed.as_i64() != Some(-1)) else {
        return Ok(None);
    };
    let negative = || seed.as_i64().map(i64::cast_unsigned);
    let error =
        || ApiError::invalid(format!("`seed` must be an integer of 64 bits (got {seed})"), Some("seed"));
    seed.as_u64().or_else(negative).map(Some).ok_or_else(error)
}

/// The number of samples for each prompt, at least 1.
pub(crate) fn n_samples(fields: &Fields) -> Result<usize, ApiError> {
    match fields.get("n")? {
        Some(0) => Err(ApiError::invalid("`n` must be at least 1 (got 0)", Some("n"))),
        n => Ok(n.unwrap_or(1)),
    }
}

/// The EOS tokens of a model.
pub(crate) fn eos_tokens(model: &Model) -> Vec<u32> {
    model.special_tokens.eos.iter().copied().chain(model.tokenizer.end_of_text()).collect()
}

fn check_max_tokens(max_tokens: usize, model: &Model) -> Result<usize, ApiError> {
    let limit = MAX_TOKENS.max(model.gpt.config().block_size);
    if max_tokens > limit {
        let message = format!("`max_tokens` must be at most {limit} for this model (got {max_tokens})");
        return Err(ApiError::invalid(message, Some("max_tokens")));
    }
    Ok(max_tokens)
}

/// 0 and -1 are off, as in other servers.
fn top_k(fields: &Fields) -> Result<Option<usize>, ApiError> {
    match fields.get::<i64>("top_k")? {
        None | Some(0 | -1) => Ok(None),
        Some(k) => match usize::try_from(k) {
            Ok(k) => Ok(Some(k)),
            Err(_) => Err(ApiError::invalid(
                format!("`top_k` must be at least 1, or 0 or -1 for every token (got {k})"),
                Some("top_k"),
            )),
        },
    }
}

/// A string or a list of strings. OpenAI's limit is 4, but lm-eval sends more. Each sample searches for all of them.
fn stop_strings(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let stops = match fields.value("stop") {
        Value::String(stop) => vec![stop.clone()],
        _ => fields.get::<Vec<String>>("stop")?.unwrap_or_default(),
    };
    if stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let message =
            format!("`stop` must be at most {MAX_STOPS} strings of at most {MAX_STOP_BYTES} bytes each");
        return Err(ApiError::invalid(message, Some("stop")));
    }
    Ok(stops)
}

/// The keys are ids.
fn logit_bias(fields: &Fields, n_tokens: usize) -> Result<BTreeMap<u32, f32>, ApiError> {
    const NAME: &str = "logit_bias";
    let by_id = |(key, bias): (String, f32)| match key.parse::<u32>() {
        Ok(id) if (id as usize) < n_tokens => Ok((id, bias)),
        _ => {
            let message = format!("`logit_bias`: {key:?} must be a token id, from 0 to {}", n_tokens - 1);
            Err(ApiError::invalid(message, Some(NAME)))
        }
    };
    fields.get::<BTreeMap<String, f32>>(NAME)?.unwrap_or_default().into_iter().map(by_id).collect()
}

/// The field that an error is about.
fn param(error: &sampler::Error) -> Option<&'static str> {
    use sampler::Error;
    Some(match error {
        Error::Temperature(_) => "temperature",
        Error::TopK => "top_k",
        Error::TopP(_) => "top_p",
        Error::MinP(_) => "min_p",
        Error::TypicalP(_) => "typical_p",
        Error::RepetitionPenalty(_) => "repetition_penalty",
        Error::FrequencyPenalty(_) => "frequency_penalty",
        Error::PresencePenalty(_) => "presence_penalty",
        Error::LogitBias { .. } => "logit_bias",
        Error::EmptyStop { .. } => "stop",
        _ => return None,
    })
}
