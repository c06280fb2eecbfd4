//! The tokenizer: text to ids and back.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use tokenizers::{Model, Tokenizer as Pipeline};

use crate::decoding::{self, Decoding};
use crate::long_pieces::MergeTable;
use crate::pipeline::{self, END_OF_TEXT};
use crate::recognize::{Codec, recognize};
use crate::untrusted::without_panic;
use crate::{Error, Result, TokenizerKind, byte_level_bpe, gpt2, pre_tokenizer};

/// Turns text into token ids and ids into text.
///
/// Cheap to clone and free to share between threads.
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
    /// What is put before every text.
    beginning: Vec<u32>,
    /// The bytes of each id, `None` where an id was left out.
    tokens: Vec<Option<Box<[u8]>>>,
    /// How many of them may be in a text.
    n_usable: usize,
    /// The pipeline that takes special tokens in a text as what they are, made when it is needed.
    with_special: OnceLock<Pipeline>,
    /// Of a byte-level BPE, once it is needed.
    merge_table: OnceLock<Option<MergeTable>>,
}

impl Tokenizer {
    /// The same tokenizer in memory of its own; a clone shares it.
    pub(crate) fn deep_copy(&self) -> Self {
        Self(Arc::new(Inner::clone(&self.0)))
    }

    /// A tokenizer with one id for each of these characters, in the order of their code points.
    ///
    /// Repeated characters count once. Fails with [`Error::NoCharacters`] if there are none.
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

    /// The tokenizer of GPT-2, with the ids of OpenAI's (`r50k_base` in their tiktoken).
    ///
    /// Built on the first call and shared from then on.
    pub fn gpt2() -> Self {
        static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| {
            let pipeline = pipeline::byte_level_pipeline(gpt2::model());
            Tokenizer::recognized(pipeline, Codec::ByteLevelBpe, Some(TokenizerKind::Gpt2))
        });
        GPT2.clone()
    }

    /// The tokenizer that `pipeline` describes.
    pub(crate) fn new(mut pipeline: Pipeline) -> Self {
        // Files of Hugging Face's may ask for either, which would lose text or add to it.
        pipeline.with_truncation(None).expect("no truncation is always possible");
        pipeline.with_padding(None);
        let (codec, kind) = recognize(&pipeline);
        Self::recognized(pipeline, codec, kind)
    }

    fn recognized(mut pipeline: Pipeline, codec: Codec, kind: Option<TokenizerKind>) -> Self {
        pipeline.set_encode_special_tokens(true);
        let (decoding, tokens) = decoding::decoding(&pipeline);
        let mut beginning = decoding::beginning(&pipeline);
        beginning.retain(|&id| tokens.get(id as usize).is_some_and(Option::is_some));
        let n_usable = tokens.len();
        Self(Arc::new(Inner {
            pipeline,
            codec,
            kind,
            decoding,
            beginning,
            tokens,
            n_usable,
            with_special: OnceLock::new(),
            merge_table: OnceLock::new(),
        }))
    }

    /// This tokenizer for a model of `n_tokens`, which may be fewer than it has: a text that needs another one can't be
    /// encoded. Its file stays whole.
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::gpt2().limited_to(50256);
    /// assert_eq!((tokenizer.vocab_size(), tokenizer.n_beyond()), (50256, 1));
    /// assert_eq!(tokenizer.encode("Hello")?, [15496]);
    /// assert!(tokenizer.encode_special("Hello<|endoftext|>").is_ok(), "it is no token any more, but text");
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    #[must_use]
    pub fn limited_to(self, n_tokens: usize) -> Self {
        if n_tokens >= self.0.n_usable {
            return self;
        }
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.n_usable = n_tokens;
        inner.beginning.retain(|&id| (id as usize) < n_tokens);
        Self(Arc::new(inner))
    }

    /// How many tokens are beyond those of the model, by [`limited_to`](Self::limited_to).
    pub fn n_beyond(&self) -> usize {
        self.0.tokens.len() - self.0.n_usable
    }

    /// Whether a text may have the token.
    fn is_usable(&self, id: u32) -> bool {
        (id as usize) < self.0.n_usable
    }

    /// The kind, or `None` for a tokenizer from elsewhere that is none of ours.
    ///
    /// A trained BPE has the size that it really has, which is smaller than what was asked for if the corpus
    /// was too small. GPT-2's tokenizer is recognized in any file that has it.
    pub fn kind(&self) -> Option<TokenizerKind> {
        self.0.kind
    }

    /// Number of ids that a text may have: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.0.n_usable
    }

    /// The id of `<|endoftext|>`, which GPT-2's tokenizer and trained ones have.
    pub fn end_of_text(&self) -> Option<u32> {
        let added = self.0.pipeline.get_added_tokens_decoder();
        let found = added.iter().find(|(_, token)| token.special && token.content == END_OF_TEXT);
        found.map(|(&id, _)| id).filter(|&id| self.is_usable(id))
    }

    /// The ids that are put before every text: most often none, or a mark that says that it begins.
    ///
    /// It is what the tokenizer's file asks for in a template. [`encode`](Self::encode) leaves them out, as a text may be
    /// encoded in parts.
    pub fn beginning(&self) -> &[u32] {
        &self.0.beginning
    }

    /// The ids of a whole text: [`beginning`](Self::beginning), and those of [`encode`](Self::encode).
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok([self.beginning(), &self.encode(text)?].concat())
    }

    /// The ids of `text`.
    ///
    /// Special tokens that stand in `text` are taken as ordinary text. Fails with [`Error::UnknownCharacter`]
    /// if a `char` vocabulary lacks a character, and never for the other kinds of ours. A tokenizer that is
    /// [limited](Self::limited_to) fails with [`Error::Beyond`] too.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_any(text).and_then(|ids| self.usable(ids))
    }

    fn usable(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        match ids.iter().find(|&&id| !self.is_usable(id)) {
            Some(&id) => Err(Error::Beyond { token: self.decode(&[id]), id, n_tokens: self.0.n_usable }),
            None => Ok(ids),
        }
    }

    fn encode_any(&self, text: &str) -> Result<Vec<u32>> {
        let Inner { pipeline, codec, .. } = &*self.0;
        match codec {
            Codec::Char(vocabulary) => vocabulary.encode(text),
            Codec::Byte => Ok(text.bytes().map(u32::from).collect()),
            Codec::ByteLevelBpe => byte_level_bpe::encode(pipeline.get_model(), || self.merge_table(), text),
            Codec::Foreign => {
                let encoding = without_panic(|| pipeline.encode_fast(text, false)).map_err(Error::Encode)?;
                Ok(encoding.get_ids().to_vec())
            }
        }
    }

    /// As [`encode`](Self::encode), but special tokens that stand in `text` are taken as what they are.
    ///
    /// ```
    /// let tokenizer = tokenizer::Tokenizer::gpt2();
    /// assert_eq!(tokenizer.encode_special("Hello<|endoftext|>")?, [15496, 50256]);
    /// assert_eq!(tokenizer.encode("<|endoftext|>")?.len(), 7);
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    pub fn encode_special(&self, text: &str) -> Result<Vec<u32>> {
        if matches!(self.0.codec, Codec::Foreign) {
            // Such tokens may take the spaces beside them, and what is changed in a text may depend on them.
            let pipeline = self.0.with_special.get_or_init(|| {
                let mut pipeline = self.0.pipeline.clone();
                pipeline.set_encode_special_tokens(false);
                pipeline
            });
            let encoding = without_panic(|| pipeline.encode_fast(text, false)).map_err(Error::Encode)?;
            return self.usable(encoding.get_ids().to_vec());
        }
        let (mut ids, mut rest) = (Vec::new(), text);
        while let Some((end_of_text, start)) = self.end_of_text().zip(rest.find(END_OF_TEXT)) {
            ids.extend(self.encode(&rest[..start])?);
            ids.push(end_of_text);
            rest = &rest[start + END_OF_TEXT.len()..];
        }
        ids.extend(self.encode(rest)?);
        Ok(ids)
    }

    /// The first special token that is spelled in `text`, which [`encode`](Self::encode) takes as ordinary text.
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

    /// The merges of a BPE, the most urgent first, in GPT-2's alphabet for bytes; none of another tokenizer.
    pub fn merges(&self) -> Vec<(String, String)> {
        // The library shows them in its file alone.
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

    /// The merges of a byte-level BPE as a table, which is made when a text needs it first.
    fn merge_table(&self) -> Option<&MergeTable> {
        let model = self.0.pipeline.get_model();
        let table = || MergeTable::new(&self.merges(), |token| model.token_to_id(token));
        self.0.merge_table.get_or_init(table).as_ref()
    }

    /// The id of a token, by its text.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        let is_it = |bytes: &Option<Box<[u8]>>| bytes.as_deref() == Some(token.as_bytes());
        let found = self.0.tokens.iter().position(is_it).and_then(|id| u32::try_from(id).ok());
        found.filter(|&id| self.is_usable(id))
    }

    /// The last place in `text`, in bytes, where it can be cut so that the ids of the two parts are those of
    /// the whole.
    ///
    /// What a long text is cut by to encode it in pieces. `None` if there is no such place, which for a BPE
    /// means one long word. For a tokenizer from elsewhere the place is a good one by the rules of
    /// GPT-2, without a promise.
    ///
    /// ```
    /// let text = "one two thr";
    /// assert_eq!(tokenizer::Tokenizer::gpt2().last_border(text), Some("one two".len()));
    /// assert_eq!(tokenizer::Tokenizer::byte().last_border(text), Some(text.len()));
    /// ```
    pub fn last_border(&self, text: &str) -> Option<usize> {
        match self.0.codec {
            Codec::Char(_) | Codec::Byte => Some(text.len()),
            Codec::ByteLevelBpe => pre_tokenizer::last_border(text),
            Codec::Foreign => pre_tokenizer::last_space(text),
        }
    }

    /// The text of `ids`.
    ///
    /// Bytes that are not UTF-8 and ids outside the vocabulary become U+FFFD. Special tokens are written out.
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
    /// For a tokenizer from elsewhere whose decoder does more than join tokens, they are those of the token
    /// decoded alone.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.tokens.get(usize::try_from(id).ok()?)?.as_deref()
    }

    /// Whether decoding is joining the bytes of the tokens, but for a space at the beginning.
    pub(crate) fn joins_bytes(&self) -> bool {
        self.0.decoding != Decoding::Foreign
    }

    /// Whether decoding takes off a space at the beginning of a text.
    pub(crate) fn strips_space(&self) -> bool {
        self.0.decoding == Decoding::JoinedAfterSpace
    }

    /// Whether the id is that of a mark.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.0.pipeline.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
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
