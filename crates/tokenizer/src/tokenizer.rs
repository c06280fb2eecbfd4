//! [`Tokenizer`]: text to ids and back.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use tokenizers::{AddedToken, Model, Tokenizer as Pipeline};

use crate::decoding::{self, Decoding};
use crate::long_pieces::MergeTable;
use crate::pipeline::{self, END_OF_TEXT};
use crate::recognize::{Codec, recognize};
use crate::untrusted::without_panic;
use crate::{Error, Result, TokenizerKind, byte_level_bpe, gpt2, pre_tokenizer};

/// Encodes text to token ids and decodes ids to text.
///
/// Clones are cheap and may be shared between threads.
///
/// ```
/// use tokenizer::Tokenizer;
///
/// let tokenizer = Tokenizer::gpt2();
/// let ids = tokenizer.encode("Hello, world!")?;
/// assert_eq!(ids, [15496, 11, 995, 0]);
/// assert_eq!(tokenizer.decode(&ids), "Hello, world!");
/// # Ok::<(), tokenizer::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    pipeline: Pipeline,
    codec: Codec,
    kind: Option<TokenizerKind>,
    decoding: Decoding,
    prompt_prefix: Vec<u32>,
    /// The bytes of each id; `None` for unused ids.
    tokens: Vec<Option<Box<[u8]>>>,
    /// How many of the first ids the model has.
    n_usable: usize,
    /// A pipeline that recognises special tokens in a text, built on first use.
    with_special: OnceLock<Pipeline>,
    /// For a byte-level BPE, built on first use.
    merge_table: OnceLock<Option<MergeTable>>,
}

impl Tokenizer {
    /// A copy that shares no memory with `self`, unlike a clone.
    pub(crate) fn deep_copy(&self) -> Self {
        Self(Arc::new(Inner::clone(&self.0)))
    }

    /// A character tokenizer, with ids in the order of code points.
    ///
    /// `chars` may repeat characters. Fails with [`Error::NoCharacters`] if it is empty.
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::from_chars("hello".chars())?;
    /// assert_eq!(tokenizer.encode("hole")?, [1, 3, 2, 0]);
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    pub fn from_chars(chars: impl IntoIterator<Item = char>) -> Result<Self> {
        let sorted = chars.into_iter().collect::<BTreeSet<char>>().into_iter().collect::<Vec<char>>();
        if sorted.is_empty() {
            return Err(Error::NoCharacters);
        }
        Ok(Self::new(pipeline::char_pipeline(&sorted)))
    }

    /// The tokenizer whose ids are the bytes of the text.
    pub fn byte() -> Self {
        Self::new(pipeline::byte_pipeline())
    }

    /// GPT-2's tokenizer (`r50k_base` in OpenAI's tiktoken).
    ///
    /// It is built on the first call and then shared.
    pub fn gpt2() -> Self {
        static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| {
            let pipeline = pipeline::byte_level_pipeline(gpt2::model());
            Tokenizer::recognized(pipeline, Codec::ByteLevelBpe, Some(TokenizerKind::Gpt2))
        });
        GPT2.clone()
    }

    /// The tokenizer of a pipeline.
    pub(crate) fn new(mut pipeline: Pipeline) -> Self {
        // A file may enable either, which would drop text or add tokens.
        pipeline.with_truncation(None).expect("no truncation is always possible");
        pipeline.with_padding(None);
        let (codec, kind) = recognize(&pipeline);
        Self::recognized(pipeline, codec, kind)
    }

    fn recognized(mut pipeline: Pipeline, codec: Codec, kind: Option<TokenizerKind>) -> Self {
        pipeline.set_encode_special_tokens(true);
        let (decoding, tokens) = decoding::decoding(&pipeline);
        let mut prompt_prefix = decoding::prompt_prefix(&pipeline);
        prompt_prefix.retain(|&id| tokens.get(id as usize).is_some_and(Option::is_some));
        let n_usable = tokens.len();
        Self(Arc::new(Inner {
            pipeline,
            codec,
            kind,
            decoding,
            prompt_prefix,
            tokens,
            n_usable,
            with_special: OnceLock::new(),
            merge_table: OnceLock::new(),
        }))
    }

    /// Limits the vocabulary to the `n_tokens` of a model: texts with other tokens can't be encoded. The saved file
    /// keeps all tokens.
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::gpt2().limited_to(50256);
    /// assert_eq!((tokenizer.vocab_size(), tokenizer.n_excess_tokens()), (50256, 1));
    /// assert_eq!(tokenizer.encode("Hello")?, [15496]);
    /// assert!(tokenizer.encode_special("Hello<|endoftext|>").is_ok(), "it is ordinary text");
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    #[must_use]
    pub fn limited_to(self, n_tokens: usize) -> Self {
        if n_tokens >= self.0.n_usable {
            return self;
        }
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.n_usable = n_tokens;
        inner.prompt_prefix.retain(|&id| (id as usize) < n_tokens);
        Self(Arc::new(inner))
    }

    /// The tokenizer with these special tokens. A token of the vocabulary becomes special; others get the next ids.
    ///
    /// Fails with [`Error::Encode`] if the library refuses a token, and with [`Error::NoFreeIds`] if the tokenizer is
    /// [limited](Self::limited_to).
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::byte().with_special_tokens(&["<|im_end|>"])?;
    /// assert_eq!(tokenizer.encode_special("hi<|im_end|>")?, [104, 105, 256]);
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    pub fn with_special_tokens(&self, texts: &[&str]) -> Result<Self> {
        if self.n_excess_tokens() > 0 {
            return Err(Error::NoFreeIds { tokens: texts.join(", "), n_tokens: self.0.n_usable });
        }
        let mut pipeline = self.0.pipeline.clone();
        let added = texts.iter().map(|&text| AddedToken::from(text, true).normalized(false));
        without_panic(|| pipeline.add_special_tokens(added)).map_err(Error::Encode)?;
        Ok(Self::new(pipeline))
    }

    /// Number of tokens outside the model's vocabulary, set by [`limited_to`](Self::limited_to).
    pub fn n_excess_tokens(&self) -> usize {
        self.0.tokens.len() - self.0.n_usable
    }

    /// Whether the model has the token.
    fn is_usable(&self, id: u32) -> bool {
        (id as usize) < self.0.n_usable
    }

    /// The kind, or `None` for an imported tokenizer of another kind.
    ///
    /// The size of a trained BPE is the actual one, which is smaller than requested if the corpus was too small.
    /// GPT-2's tokenizer is recognised in any file.
    pub fn kind(&self) -> Option<TokenizerKind> {
        self.0.kind
    }

    /// Size of the vocabulary: one more than the largest id that a text may have.
    pub fn vocab_size(&self) -> usize {
        self.0.n_usable
    }

    /// The id of `<|endoftext|>`, which the kinds `gpt2` and `bpe:N` have.
    pub fn end_of_text(&self) -> Option<u32> {
        let added = self.0.pipeline.get_added_tokens_decoder();
        let found = added.iter().find(|(_, token)| token.special && token.content == END_OF_TEXT);
        found.map(|(&id, _)| id).filter(|&id| self.is_usable(id))
    }

    /// The special tokens that belong before every text: usually none, or the BOS token.
    ///
    /// They come from the template in `tokenizer.json`. [`encode`](Self::encode) does not add them, since a text may be
    /// encoded in parts.
    pub fn prompt_prefix(&self) -> &[u32] {
        &self.0.prompt_prefix
    }

    /// The ids of a whole text: the [`prompt_prefix`](Self::prompt_prefix) and the ids of [`encode`](Self::encode).
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok([self.prompt_prefix(), &self.encode(text)?].concat())
    }

    /// The ids of `text`.
    ///
    /// Special tokens in `text` are encoded as ordinary text.
    ///
    /// Fails with [`Error::UnknownCharacter`] for a character outside a `char` vocabulary, with
    /// [`Error::TokenOutOfRange`] if the tokenizer is [limited](Self::limited_to), and with [`Error::Encode`] if an
    /// imported tokenizer does.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_unlimited(text).and_then(|ids| self.check_range(ids))
    }

    fn check_range(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        match ids.iter().find(|&&id| !self.is_usable(id)) {
            Some(&id) => {
                Err(Error::TokenOutOfRange { token: self.decode(&[id]), id, n_tokens: self.0.n_usable })
            }
            None => Ok(ids),
        }
    }

    fn encode_unlimited(&self, text: &str) -> Result<Vec<u32>> {
        let Inner { pipeline, codec, .. } = &*self.0;
        match codec {
            Codec::Char(vocabulary) => vocabulary.encode(text),
            Codec::Byte => Ok(text.bytes().map(u32::from).collect()),
            Codec::ByteLevelBpe => byte_level_bpe::encode(pipeline.get_model(), || self.merge_table(), text),
            Codec::Library => {
                let encoding = without_panic(|| pipeline.encode_fast(text, false)).map_err(Error::Encode)?;
                Ok(encoding.get_ids().to_vec())
            }
        }
    }

    /// Like [`encode`](Self::encode), but recognises special tokens in `text`.
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::gpt2();
    /// assert_eq!(tokenizer.encode_special("Hello<|endoftext|>")?, [15496, 50256]);
    /// assert_eq!(tokenizer.encode("<|endoftext|>")?.len(), 7);
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    pub fn encode_special(&self, text: &str) -> Result<Vec<u32>> {
        if matches!(self.0.codec, Codec::Library) {
            // Splitting at the tokens would not do: they may strip spaces, and the normalizer may depend on them.
            let pipeline = self.0.with_special.get_or_init(|| {
                let mut pipeline = self.0.pipeline.clone();
                pipeline.set_encode_special_tokens(false);
                pipeline
            });
            let encoding = without_panic(|| pipeline.encode_fast(text, false)).map_err(Error::Encode)?;
            return self.check_range(encoding.get_ids().to_vec());
        }
        let (mut ids, mut end) = (Vec::new(), 0);
        for (start, token, id) in self.special_tokens_in(text) {
            if start >= end {
                ids.extend(self.encode(&text[end..start])?);
                ids.push(id);
                end = start + token.len();
            }
        }
        ids.extend(self.encode(&text[end..])?);
        Ok(ids)
    }

    /// Where special tokens are spelled out in a text, with their ids: the first first, and of several that start at a
    /// place the longest. They may overlap.
    fn special_tokens_in(&self, text: &str) -> Vec<(usize, String, u32)> {
        let added = self.0.pipeline.get_added_tokens_decoder();
        let special = added
            .iter()
            .filter(|&(&id, token)| token.special && !token.content.is_empty() && self.is_usable(id));
        let mut found: Vec<(usize, String, u32)> = special
            .flat_map(|(&id, token)| {
                text.match_indices(&token.content).map(move |(start, it)| (start, it.to_owned(), id))
            })
            .collect();
        found.sort_by_key(|(start, token, _)| (*start, Reverse(token.len())));
        found
    }

    /// The first special token spelled out in `text`; [`encode`](Self::encode) treats it as ordinary text.
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::gpt2();
    /// assert_eq!(tokenizer.special_in("one<|endoftext|>two"), Some("<|endoftext|>".to_owned()));
    /// assert_eq!(tokenizer.special_in("one two"), None);
    /// ```
    pub fn special_in(&self, text: &str) -> Option<String> {
        let added = self.0.pipeline.get_added_tokens_decoder();
        let special = added.values().filter(|token| token.special && !token.content.is_empty());
        let found = special.filter_map(|token| Some((text.find(&token.content)?, token.content.clone())));
        found.min().map(|(_, token)| token)
    }

    /// The merges of a BPE by rank; empty for other models. A byte-level BPE spells bytes in GPT-2's alphabet.
    pub fn merges(&self) -> Vec<(String, String)> {
        // The library only exposes them in its JSON.
        let json: serde_json::Value = serde_json::from_str(&self.to_json()).expect("a tokenizer is JSON");
        let merges = json["model"]["merges"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |part: &serde_json::Value| part.as_str().map(str::to_owned);
        let pair = |merge: &serde_json::Value| match merge {
            serde_json::Value::String(pair) => {
                pair.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()))
            }
            pair => text(&pair[0]).zip(text(&pair[1])),
        };
        merges.iter().filter_map(pair).collect()
    }

    /// The merges of a byte-level BPE as a table, built on first use.
    fn merge_table(&self) -> Option<&MergeTable> {
        let model = self.0.pipeline.get_model();
        let table = || MergeTable::new(&self.merges(), |token| model.token_to_id(token));
        self.0.merge_table.get_or_init(table).as_ref()
    }

    /// The id of a token by its text.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        let matches = |bytes: &Option<Box<[u8]>>| bytes.as_deref() == Some(token.as_bytes());
        let found = self.0.tokens.iter().position(matches).and_then(|id| u32::try_from(id).ok());
        found.filter(|&id| self.is_usable(id))
    }

    /// The last byte position where cutting `text` does not change its ids.
    ///
    /// Long texts are cut there to encode them in parts. `None` if there is no such position; for a BPE, that is a
    /// single long word. For imported tokenizers it is a position before white space, and the ids may differ there.
    ///
    /// ```
    /// let text = "one two thr";
    /// assert_eq!(tokenizer::Tokenizer::gpt2().last_boundary(text), Some("one two".len()));
    /// assert_eq!(tokenizer::Tokenizer::byte().last_boundary(text), Some(text.len()));
    /// ```
    pub fn last_boundary(&self, text: &str) -> Option<usize> {
        match self.0.codec {
            Codec::Char(_) | Codec::Byte => Some(text.len()),
            Codec::ByteLevelBpe => pre_tokenizer::last_boundary(text),
            Codec::Library => pre_tokenizer::last_space(text),
        }
    }

    /// The text of `ids`.
    ///
    /// Invalid UTF-8 and ids outside the vocabulary become U+FFFD. Special tokens are included as text.
    pub fn decode(&self, ids: &[u32]) -> String {
        if self.joins_bytes() {
            let mut bytes: Vec<u8> =
                ids.iter().flat_map(|&id| self.bytes_or_replacement(id)).copied().collect();
            if self.strips_space() && bytes.first() == Some(&b' ') {
                bytes.remove(0);
            }
            return String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        ids.chunk_by(|&left, &right| self.token_bytes(left).is_some() == self.token_bytes(right).is_some())
            .map(|run| match self.token_bytes(run[0]) {
                Some(_) => without_panic(|| self.0.pipeline.decode(run, false))
                    .unwrap_or_else(|_| replacements(run.len())),
                None => replacements(run.len()),
            })
            .collect()
    }

    /// The bytes of one token, which need not be whole characters; `None` outside the vocabulary.
    ///
    /// If an imported decoder does more than join tokens, they are the text of the token decoded alone.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.tokens.get(usize::try_from(id).ok()?)?.as_deref()
    }

    /// Whether decoding concatenates the [bytes](Self::token_bytes) of the tokens, apart from a space at the start.
    pub fn joins_bytes(&self) -> bool {
        self.0.decoding != Decoding::Library
    }

    /// Whether decoding strips a space at the start of a text.
    pub(crate) fn strips_space(&self) -> bool {
        self.0.decoding == Decoding::JoinedAfterSpace
    }

    /// Whether the id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.0.pipeline.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&id).is_some_and(|token| token.special)
    }

    pub(crate) fn bytes_or_replacement(&self, id: u32) -> &[u8] {
        self.token_bytes(id).unwrap_or("\u{FFFD}".as_bytes())
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.0.pipeline
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Tokenizer");
        debug.field("kind", &self.kind()).field("vocab_size", &self.vocab_size()).finish()
    }
}

fn replacements(n: usize) -> String {
    "\u{FFFD}".repeat(n)
}
