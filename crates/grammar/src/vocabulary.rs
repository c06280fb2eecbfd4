//! [`Vocabulary`]: the bytes of a model's tokens as a trie.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use llguidance::{
    ParserFactory,
    earley::SlicedBiasComputer,
    panic_utils::catch_unwind,
    toktrie::{INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv},
};
use tokenizer::Tokenizer;

use crate::{Error, Result, error::message};

/// Longest token in bytes. The trie allows 1,024.
const MAX_TOKEN_BYTES: usize = 1_000;

/// The tokens of a model, prepared for constraints.
///
/// Clones are cheap and may be shared between threads.
#[derive(Clone)]
pub struct Vocabulary(Arc<Inner>);

struct Inner {
    factory: ParserFactory,
    n_tokens: usize,
    has_eos: bool,
}

impl Vocabulary {
    /// Prepares the tokens of a model. It takes about 0.4 seconds for 50,000 tokens, so do it once per model.
    ///
    /// `eos` are the EOS tokens, which are allowed where a text may end. Ids outside the vocabulary are never allowed.
    /// If `eos` is empty, a sample ends only where the grammar allows no further text.
    ///
    /// # Errors
    ///
    /// If decoding does more than [join the bytes](Tokenizer::joins_bytes) of tokens, or the vocabulary is too large.
    pub fn new(tokenizer: &Tokenizer, eos: &[u32]) -> Result<Self> {
        if !tokenizer.joins_bytes() {
            return Err(Error::Decoder);
        }
        let n_tokens = tokenizer.vocab_size();
        let factory = catch_unwind(AssertUnwindSafe(|| {
            let n_tokens = u32::try_from(n_tokens)?;
            let eos: Vec<u32> = eos.iter().copied().filter(|&id| id < n_tokens).collect();
            let words: Vec<Vec<u8>> = (0..n_tokens).map(|id| word(tokenizer, &eos, id)).collect();
            let mut trie = TokTrie::from(&TokRxInfo::new(n_tokens, INVALID_TOKEN), &words);
            if !eos.is_empty() {
                trie = trie.with_eos_tokens(&eos);
            }
            let environment = Environment::shared(tokenizer, trie);
            let slices = SlicedBiasComputer::json_slices();
            let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)?;
            // Errors leave out the generated text.
            let limits = factory.quiet().limits_mut();
            limits.verbose_errors = false;
            limits.precompute_large_lexemes = false;
            Ok(factory)
        }));
        let factory = factory.map_err(|error| Error::Vocabulary { n_tokens, reason: message(&error) })?;
        let has_eos = eos.iter().any(|&id| (id as usize) < n_tokens);
        Ok(Self(Arc::new(Inner { factory, n_tokens, has_eos })))
    }

    pub(crate) fn n_tokens(&self) -> usize {
        self.0.n_tokens
    }

    /// Whether an EOS token can end a sample.
    pub(crate) fn has_eos(&self) -> bool {
        self.0.has_eos
    }

    pub(crate) fn factory(&self) -> &ParserFactory {
        &self.0.factory
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { n_tokens, has_eos, .. } = &*self.0;
        f.debug_struct("Vocabulary")
            .field("n_tokens", n_tokens)
            .field("has_eos", has_eos)
            .finish_non_exhaustive()
    }
}

/// The bytes of a token in the trie. A marker makes special tokens unlike any text; empty tokens are never allowed.
fn word(tokenizer: &Tokenizer, eos: &[u32], id: u32) -> Vec<u8> {
    const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if tokenizer.is_special(id) || eos.contains(&id) {
        return [&[MARKER], bytes].concat();
    }
    // The marker occurs in no UTF-8 text.
    if bytes.contains(&MARKER) || bytes.len() > MAX_TOKEN_BYTES { Vec::new() } else { bytes.to_vec() }
}

/// The tokenizer as the library needs it.
struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
    /// Whether text that the grammar leaves no choice for is encoded by the tokenizer, as in training. Otherwise the
    /// model chooses among all tokens that spell it.
    is_canonical: bool,
}

impl Environment {
    fn shared(tokenizer: &Tokenizer, trie: TokTrie) -> TokEnv {
        let mut environment = Self { tokenizer: tokenizer.clone(), trie, is_canonical: false };
        let has_all_bytes = (0..=0xF4).all(|byte| environment.trie.greedy_tokenize(&[byte]).len() == 1);
        environment.is_canonical = has_all_bytes && environment.encode("{\"name\": [1]}x").is_some();
        Arc::new(environment)
    }

    /// The ids of a text, unless they spell another text, such as one with a space added before it.
    fn encode(&self, text: &str) -> Option<Vec<u32>> {
        let ids = self.tokenizer.encode(text).ok()?;
        (self.trie.decode_raw(&ids) == text.as_bytes()).then_some(ids)
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.encode(text).unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.is_canonical
    }
}
