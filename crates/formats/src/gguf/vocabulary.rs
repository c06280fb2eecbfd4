//! The vocabulary of a model, and its encoding of text in llama.cpp.

mod bytes;
mod eos;
mod read;
mod write;

use std::collections::HashSet;

use bytes::spelling;

/// The tokens of a model and the rules of encoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The tokens, in the order of their ids.
    pub tokens: Vec<Token>,
    pub bpe: BpeModel,
    /// The BOS token.
    pub bos: Option<u32>,
    /// The EOS tokens: ends of texts and of turns, the default one first. For the default of an empty list, see
    /// [`Self::stop_token`].
    pub eos: Vec<u32>,
    /// Whether [`Self::bos`] is put before every text.
    pub adds_bos: bool,
}

/// The rules by which a BPE merges pieces of text into tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum BpeModel {
    /// A byte-level BPE (`gpt2`). Bytes are spelled in GPT-2's alphabet, a pattern splits the text, and pairs are
    /// merged within each piece. Results of merges need not be tokens; llama.cpp silently drops pieces that are not
    /// tokens.
    ///
    /// Without an EOS key, llama.cpp takes token 11 as EOS. Therefore a vocabulary of single bytes without EOS (all
    /// ASCII characters, or all bytes) is written as RWKV's tokenizer, which has no such default. It takes the longest
    /// token at each position, which is the same for single bytes. Unknown characters are an error there.
    Merges {
        pattern: Pattern,
        /// The merges by rank; bytes are spelled as in tokens.
        merges: Vec<(String, String)>,
    },
    /// SentencePiece's BPE (`llama`): the adjacent pair whose merged token has the largest score is merged first.
    /// Spaces are spelled `▁`. Characters without a token fall back to byte tokens.
    Scores {
        /// A score for each token.
        scores: Vec<f32>,
        /// Whether a space is put before a text, so that its first word gets the same token as inside a text.
        adds_space: bool,
    },
}

/// The pre-tokenizer of a byte-level BPE: `tokenizer.ggml.pre`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Splits words, numbers and punctuation, each with the space before it, and white space.
    Gpt2,
    /// [`Self::Gpt2`] with single digits.
    Smollm,
    /// OpenAI's `cl100k_base` with single digits.
    Qwen2,
    /// OpenAI's `cl100k_base`. A piece that is a token is not merged (`ignore_merges`).
    Llama3,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 4] = [Self::Gpt2, Self::Smollm, Self::Qwen2, Self::Llama3];

    /// The name in llama.cpp.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::Smollm => "smollm",
            Self::Qwen2 => "qwen2",
            Self::Llama3 => "llama-bpe",
        }
    }
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The spelling: GPT-2's byte alphabet for [`BpeModel::Merges`] (`Ġthe` for ` the`), `▁` for a space for
    /// [`BpeModel::Scores`], and the plain text of [`TokenKind::Control`] and [`TokenKind::UserDefined`] tokens.
    pub text: String,
    pub kind: TokenKind,
}

/// The kind of a token: `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for unknown text.
    Unknown,
    /// A special token such as `<|endoftext|>`: recognised in a text only on request, and not shown.
    Control,
    /// Recognised in any text, before pre-tokenization.
    UserDefined,
    /// Fills an unused row of the embedding.
    Unused,
    /// A single byte, spelled as `<0x0A>`.
    Byte,
}

impl TokenKind {
    /// llama.cpp's `llama_token_type`.
    fn code(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }

    /// The kind of a code; [`Self::Normal`] for unknown codes, as in llama.cpp.
    fn from_code(code: i64) -> Self {
        let kinds = [Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        kinds.into_iter().find(|kind| i64::from(kind.code()) == code).unwrap_or(Self::Normal)
    }
}

impl Token {
    /// A normal token of a byte-level BPE, given by its bytes.
    pub fn normal(bytes: &[u8]) -> Self {
        Self { text: bytes.iter().map(|&byte| spelling(byte)).collect(), kind: TokenKind::Normal }
    }
}

/// The EOS token in llama.cpp if a BPE vocabulary names none.
const DEFAULT_EOS: u32 = 11;

impl Vocabulary {
    /// A byte-level BPE with GPT-2's pattern and without BOS and EOS tokens.
    pub fn merges(tokens: Vec<Token>, merges: Vec<(String, String)>) -> Self {
        Self {
            tokens,
            bpe: BpeModel::Merges { pattern: Pattern::Gpt2, merges },
            bos: None,
            eos: Vec::new(),
            adds_bos: false,
        }
    }

    /// One token per character, with its index in `chars` as its id.
    ///
    /// Merges build the characters of several bytes. In UTF-8 the first byte of a character is unambiguous, so no other
    /// results are possible, and llama.cpp gives the same ids. It drops characters outside the vocabulary.
    pub fn from_chars(chars: &[char]) -> Self {
        let mut merges = Vec::new();
        let mut seen = HashSet::new();
        for character in chars {
            let spelled: Vec<char> = character.to_string().bytes().map(spelling).collect();
            for end in 1..spelled.len() {
                let merge = (String::from_iter(&spelled[..end]), spelled[end].to_string());
                if seen.insert(merge.clone()) {
                    merges.push(merge);
                }
            }
        }
        let tokens = chars.iter().map(|character| Token::normal(character.to_string().as_bytes())).collect();
        Self::merges(tokens, merges)
    }

    /// One token per byte, with the byte as its id.
    pub fn bytes() -> Self {
        let tokens = (0..=u8::MAX).map(|byte| Token::normal(&[byte])).collect();
        Self::merges(tokens, Vec::new())
    }

    /// The characters in the order of their ids, if the vocabulary equals [`Self::from_chars`] of them.
    ///
    /// Unused tokens at the end, which pad the embedding, are ignored.
    pub fn chars(&self) -> Option<Vec<char>> {
        let used =
            self.tokens.iter().rposition(|token| token.kind != TokenKind::Unused).map_or(0, |last| last + 1);
        let character = |token: &Token| {
            let bytes: Vec<u8> = token.text.chars().map(bytes::byte).collect::<Option<_>>()?;
            let mut chars = str::from_utf8(&bytes).ok()?.chars();
            chars.next().filter(|_| chars.next().is_none() && token.kind == TokenKind::Normal)
        };
        let chars: Vec<char> = self.tokens[..used].iter().map(character).collect::<Option<_>>()?;
        let is_same = Self::from_chars(&chars).bpe == self.bpe && self.bos.is_none();
        (is_same && self.eos.is_empty() && !self.adds_bos).then_some(chars)
    }

    /// Adds unused tokens up to the `n_rows` of a larger embedding, as llama.cpp's converter does.
    pub fn pad(&mut self, n_rows: usize) {
        for id in self.tokens.len()..n_rows {
            self.tokens.push(Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused });
        }
        if let BpeModel::Scores { scores, .. } = &mut self.bpe {
            scores.resize(self.tokens.len(), PAD_SCORE);
        }
    }

    /// The token at which llama.cpp stops: the first of [`Self::eos`]. By default it is token 11 for a byte-level BPE,
    /// except one of single bytes.
    pub fn stop_token(&self) -> Option<u32> {
        let has_default = self.tokens.len() > DEFAULT_EOS as usize
            && matches!(self.bpe, BpeModel::Merges { .. })
            && self.single_bytes().is_none();
        self.eos.first().copied().or(has_default.then_some(DEFAULT_EOS))
    }

    /// The byte of each token, if the vocabulary is written as RWKV's tokenizer: only single bytes, no BOS and EOS.
    ///
    /// Longer tokens are not possible there: llama.cpp hangs on a text that has only the first bytes of one.
    fn single_bytes(&self) -> Option<Vec<u8>> {
        let is_plain =
            matches!(&self.bpe, BpeModel::Merges { pattern: Pattern::Gpt2, merges } if merges.is_empty());
        if !is_plain || !self.eos.is_empty() || self.bos.is_some() {
            return None;
        }
        let byte = |token: &Token| match token.kind {
            TokenKind::Normal => {
                let mut chars = token.text.chars();
                bytes::byte(chars.next()?).filter(|_| chars.next().is_none())
            }
            _ => None,
        };
        self.tokens.iter().map(byte).collect()
    }
}

/// The score of padding tokens, as in llama.cpp's converter.
const PAD_SCORE: f32 = -1000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Value;

    #[test]
    fn spelling_matches_gpt2() {
        assert_eq!(Token::normal(" the\né".as_bytes()).text, "ĠtheĊÃ©");
        assert_eq!(Token::normal(&[0, 0x7F, 0xA0, 0xAD]).text, "ĀġłŃ");
        let tokens = Vocabulary::bytes().tokens;
        let distinct: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(distinct.len(), 256);
    }

    /// llama.cpp's encoding of a single piece: applies merges by rank until none is left, then looks up the ids.
    fn encode(vocabulary: &Vocabulary, text: &str) -> Vec<usize> {
        let BpeModel::Merges { merges, .. } = &vocabulary.bpe else { panic!("{vocabulary:?}") };
        let mut pieces: Vec<String> = text.bytes().map(|byte| spelling(byte).to_string()).collect();
        let rank =
            |pair: &[String]| merges.iter().position(|(left, right)| *left == pair[0] && *right == pair[1]);
        while let Some((_, idx)) =
            pieces.windows(2).enumerate().filter_map(|(idx, pair)| Some((rank(pair)?, idx))).min()
        {
            let right = pieces.remove(idx + 1);
            pieces[idx].push_str(&right);
        }
        let id = |piece: String| vocabulary.tokens.iter().position(|token| token.text == piece);
        pieces.into_iter().filter_map(id).collect()
    }

    #[test]
    fn characters_of_several_bytes_are_merged_into_their_tokens() {
        // Some share their first bytes: U+20AC with U+20A9, U+1F642 with U+1F600; U+00C3 and U+00A9 are the
        // characters that spell the bytes of é.
        let chars = ['a', 'é', '€', '₩', '🙂', '😀', 'Ã', '©', ' '];
        let vocabulary = Vocabulary::from_chars(&chars);
        let text = "🙂é€₩😀Ã© aéÃ😀";
        let ids: Vec<usize> = text
            .chars()
            .map(|character| chars.iter().position(|&known| known == character).unwrap())
            .collect();
        assert_eq!(encode(&vocabulary, text), ids);
        assert_eq!(encode(&vocabulary, "a\u{20AD}é"), [0, 1], "U+20AD is unknown and left out");
        // One merge for each character of two bytes. Of the two or three merges of the others, each pair shares one.
        let BpeModel::Merges { merges, .. } = vocabulary.bpe else { panic!("a BPE") };
        assert_eq!(merges.len(), 3 + (2 * 2 - 1) + (2 * 3 - 1));
    }

    #[test]
    fn padding_fills_the_embedding_with_unused_tokens() {
        let mut vocabulary = Vocabulary::from_chars(&['a', 'b']);
        vocabulary.pad(4);
        vocabulary.pad(3);
        let last = vocabulary.tokens.last().unwrap();
        assert_eq!(
            (vocabulary.tokens.len(), last.text.as_str(), last.kind),
            (4, "[PAD3]", TokenKind::Unused)
        );
    }

    fn value(vocabulary: &Vocabulary, wanted: &str) -> Option<Value> {
        let metadata = vocabulary.metadata().unwrap();
        metadata
            .into_iter()
            .find(|(key, _)| key.strip_prefix("tokenizer.ggml.") == Some(wanted))
            .map(|(_, value)| value)
    }

    #[test]
    fn an_empty_list_of_merges_is_written() {
        let vocabulary = Vocabulary { eos: vec![255], ..Vocabulary::bytes() };
        assert_eq!(value(&vocabulary, "model"), Some("gpt2".into()));
        assert_eq!(value(&vocabulary, "merges"), Some(Vec::<String>::new().into()));
        assert_eq!(value(&vocabulary, "eos_token_id"), Some(255.into()));
    }

    #[test]
    fn single_bytes_without_eos_are_written_as_rwkv() {
        let vocabulary = Vocabulary::from_chars(&['a', '\n', '\\', '~', '\u{7F}', ' ']);
        assert_eq!(value(&vocabulary, "model"), Some("rwkv".into()));
        let tokens = ["a", r"\x0a", r"\\", "~", r"\x7f", " "].map(str::to_owned).to_vec();
        assert_eq!(value(&vocabulary, "tokens"), Some(tokens.into()));
        assert_eq!(value(&vocabulary, "merges"), None);
        // Characters of several bytes and padding are not single bytes.
        let several = Vocabulary::from_chars(&['a', 'é']);
        let mut padded = Vocabulary::bytes();
        padded.pad(257);
        for vocabulary in [several, padded] {
            assert_eq!(value(&vocabulary, "model"), Some("gpt2".into()));
        }
    }

    #[test]
    fn a_bpe_without_eos_stops_at_token_11() {
        let chars: Vec<char> = ('à'..='ö').collect();
        assert_eq!(Vocabulary::from_chars(&chars[..12]).stop_token(), Some(11));
        assert_eq!(Vocabulary::from_chars(&chars[..11]).stop_token(), None);
        let with_eos = Vocabulary { eos: vec![3], ..Vocabulary::from_chars(&chars) };
        assert_eq!(with_eos.stop_token(), Some(3));
        assert_eq!(Vocabulary::bytes().stop_token(), None);
    }

    #[test]
    fn vocabularies_that_llama_cpp_does_not_load_are_refused() {
        let refusal = |vocabulary: Vocabulary| vocabulary.metadata().unwrap_err().to_string();
        let twice = refusal(Vocabulary::from_chars(&['a', 'b', 'a']));
        assert!(twice.contains("tokens 0 and 2 are both \"a\""), "{twice}");
        let outside = refusal(Vocabulary { eos: vec![256], ..Vocabulary::bytes() });
        assert!(
            outside.contains("the BOS or EOS token 256 is out of range; there are 256 tokens"),
            "{outside}"
        );
        let merges = vec![("a b".to_owned(), "c".to_owned())];
        let space = refusal(Vocabulary::merges(Vocabulary::bytes().tokens, merges));
        assert!(space.contains("\"a b\" and \"c\""), "{space}");
        let empty = vec![Token::normal(b"a"), Token::normal(b"")];
        let empty = refusal(Vocabulary::merges(empty, Vec::new()));
        assert!(empty.contains("token 1 is empty"), "{empty}");
    }
}
