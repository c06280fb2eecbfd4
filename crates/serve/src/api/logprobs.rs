//! Log-probabilities in OpenAI's two forms.

use engine::ScoredToken;
use serde::{Serialize, Serializer};

use super::{choice::Token, token_texts::TokenTexts};

/// Replaces -inf, which JSON does not have, as in OpenAI's API.
const IMPOSSIBLE: f32 = -9999.0;

/// `logprobs` of a completion: lists with an entry for each token.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<TopLogprobs>>,
    text_offset: Vec<usize>,
}

/// An object from token to log-probability: the most probable ones in order, and the actual token.
#[derive(Debug)]
struct TopLogprobs(Vec<(String, f32)>);

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(token, logprob)| (token, logprob)))
    }
}

impl CompletionLogprobs {
    pub(crate) fn push(&mut self, token: &Token, texts: &TokenTexts) {
        self.tokens.push(texts.key(token.id));
        self.token_logprobs.push(token.score.as_ref().map(|score| printable(score.logprob)));
        self.top_logprobs.push(token.score.as_ref().map(|score| TopLogprobs::new(score, texts)));
        self.text_offset.push(token.text_offset);
    }
}

impl TopLogprobs {
    fn new(score: &ScoredToken, texts: &TokenTexts) -> Self {
        let actual = (score.id, score.logprob);
        let others = score.top.iter().copied();
        let actual = Some(actual).filter(|_| score.top.iter().all(|&(id, _)| id != score.id));
        Self(others.chain(actual).map(|(id, logprob)| (texts.key(id), printable(logprob))).collect())
    }
}

/// `logprobs` of a chat completion.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ChatLogprobs {
    content: Vec<ChatToken>,
    /// Always null.
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct ChatToken {
    #[serde(flatten)]
    token: TokenLogprob,
    top_logprobs: Vec<TokenLogprob>,
}

#[derive(Debug, Serialize)]
struct TokenLogprob {
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

impl ChatLogprobs {
    pub(crate) fn push(&mut self, score: &ScoredToken, texts: &TokenTexts) {
        let top = score.top.iter().map(|&(id, logprob)| TokenLogprob::new(id, logprob, texts));
        self.content.push(ChatToken {
            token: TokenLogprob::new(score.id, score.logprob, texts),
            top_logprobs: top.collect(),
        });
    }
}

impl TokenLogprob {
    fn new(id: u32, logprob: f32, texts: &TokenTexts) -> Self {
        Self { token: texts.text(id), bytes: texts.bytes(id).to_vec(), logprob: printable(logprob) }
    }
}

fn printable(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokenizer::Tokenizer;

    use super::*;

    fn texts() -> TokenTexts {
        TokenTexts::new(&Tokenizer::from_chars("abc".chars()).unwrap())
    }

    fn completion(score: ScoredToken) -> Value {
        let mut logprobs = CompletionLogprobs::default();
        logprobs.push(&Token { id: score.id, score: Some(score), text_offset: 7 }, &texts());
        // Through text, since a JSON value has no f32.
        serde_json::from_str(&serde_json::to_string(&logprobs).unwrap()).unwrap()
    }

    #[test]
    fn the_actual_token_is_among_the_top_ones_once() {
        let score = |id| ScoredToken { id, logprob: -0.3, top: vec![(1, -0.3), (0, -2.5)] };
        let expected = |top: Value| json!([top]);
        assert_eq!(completion(score(1))["top_logprobs"], expected(json!({ "a": -2.5, "b": -0.3 })));
        assert_eq!(
            completion(score(2))["top_logprobs"],
            expected(json!({ "a": -2.5, "b": -0.3, "c": -0.3 }))
        );
    }

    #[test]
    fn an_impossible_token_has_a_finite_number() {
        let logprobs =
            completion(ScoredToken { id: 2, logprob: f32::NEG_INFINITY, top: vec![(0, f32::NAN)] });
        assert_eq!(logprobs["token_logprobs"], json!([-9999.0]));
        assert_eq!(logprobs["top_logprobs"], json!([{ "a": -9999.0, "c": -9999.0 }]));
    }
}
