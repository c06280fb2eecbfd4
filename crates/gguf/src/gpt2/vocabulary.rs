//! Tokens and merges as llama.cpp's byte-level BPE takes them.

use std::collections::{HashMap, HashSet};

use super::bytes::{escaped, spelling};
use crate::{Error, Result, Value};

/// The vocabulary of a byte-level BPE with GPT-2's way of cutting text.
///
/// llama.cpp spells each byte of a text as one character of GPT-2's alphabet, cuts it by GPT-2's pattern
/// (`tokenizer.ggml.pre` is `gpt-2`), and applies the merges, whose results need not be tokens. What is no token at
/// the end is left out without a word.
///
/// A BPE vocabulary always has an end of text there: token 11, if none is named. For a vocabulary of single bytes
/// without one (characters that are all ASCII, or all bytes), the keys describe RWKV's tokenizer instead, which has
/// no such default. It takes the longest token at each place, which for single bytes is the same; characters that
/// it does not know are an error in llama.cpp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// The tokens, in the order of their ids.
    pub tokens: Vec<Token>,
    /// Pairs of pieces that are joined, the most urgent first; bytes are spelled as in tokens.
    pub merges: Vec<(String, String)>,
    /// The token that begins and ends a document. See [`Self::stop_token`] for what becomes of none.
    pub end_of_text: Option<u32>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The bytes in GPT-2's alphabet (`Ġthe` for ` the`); of [`TokenKind::Control`] and
    /// [`TokenKind::UserDefined`], the text itself.
    pub text: String,
    /// What it is for.
    pub kind: TokenKind,
}

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// A mark such as `<|endoftext|>`: found in a text only where marks are asked for, and not shown.
    Control,
    /// Found as a whole in any text, before the pattern and the merges.
    UserDefined,
    /// A row of the embedding that stands for nothing.
    Unused,
}

impl TokenKind {
    /// llama.cpp's `llama_token_type`.
    fn code(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
        }
    }
}

impl Token {
    /// A piece of text, given as its bytes.
    pub fn normal(bytes: &[u8]) -> Self {
        Self { text: bytes.iter().map(|&byte| spelling(byte)).collect(), kind: TokenKind::Normal }
    }
}

/// What llama.cpp takes for the end of a text if a BPE vocabulary names none.
const DEFAULT_END: u32 = 11;

impl Vocabulary {
    /// One token per character, with its place in `chars` as its id.
    ///
    /// A character of several bytes is the result of merges, and as UTF-8 shows where a character begins, no others
    /// can come of them. So a text of these characters gets the same ids from llama.cpp; characters that are not
    /// in the vocabulary are left out.
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
        Self { tokens, merges, end_of_text: None }
    }

    /// One token per byte, with the byte as its id.
    pub fn bytes() -> Self {
        let tokens = (0..=u8::MAX).map(|byte| Token::normal(&[byte])).collect();
        Self { tokens, merges: Vec::new(), end_of_text: None }
    }

    /// Adds unused tokens for the rows of an embedding that is larger than the vocabulary, as llama.cpp's
    /// converter does. A vocabulary of `n_rows` tokens or more stays as it is.
    pub fn pad(&mut self, n_rows: usize) {
        for id in self.tokens.len()..n_rows {
            self.tokens.push(Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused });
        }
    }

    /// The token at which llama.cpp ends a text. Where it is none that was meant, because the vocabulary has no
    /// [`Self::end_of_text`] and is none of single bytes, texts end at whatever token 11 stands for.
    pub fn stop_token(&self) -> Option<u32> {
        let has_default = self.tokens.len() > DEFAULT_END as usize && self.single_bytes().is_none();
        self.end_of_text.or(has_default.then_some(DEFAULT_END))
    }

    /// The keys and values that describe the vocabulary.
    pub(super) fn metadata(&self) -> Result<Vec<(String, Value)>> {
        self.check()?;
        let kinds: Vec<i32> = self.tokens.iter().map(|token| token.kind.code()).collect();
        let mut keys: Vec<(&str, Value)> = match self.single_bytes() {
            Some(bytes) => {
                let tokens: Vec<String> = bytes.into_iter().map(escaped).collect();
                vec![("model", "rwkv".into()), ("tokens", tokens.into()), ("token_type", kinds.into())]
            }
            None => {
                let tokens: Vec<String> = self.tokens.iter().map(|token| token.text.clone()).collect();
                let merges: Vec<String> =
                    self.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
                vec![
                    ("model", "gpt2".into()),
                    ("pre", "gpt-2".into()),
                    ("tokens", tokens.into()),
                    ("token_type", kinds.into()),
                    // llama.cpp asks for them even where there are none.
                    ("merges", merges.into()),
                ]
            }
        };
        if let Some(id) = self.end_of_text {
            keys.push(("bos_token_id", id.into()));
            keys.push(("eos_token_id", id.into()));
        }
        keys.push(("add_bos_token", false.into()));
        Ok(keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect())
    }

    /// The byte of each token, if RWKV's tokenizer is to be described: each is one byte, and none ends a text.
    ///
    /// That tokenizer is not for longer tokens: in a text with the beginning of one and not its end, llama.cpp
    /// never gets further.
    fn single_bytes(&self) -> Option<Vec<u8>> {
        if self.end_of_text.is_some() || !self.merges.is_empty() {
            return None;
        }
        let byte = |token: &Token| match token.kind {
            TokenKind::Normal => (0..=u8::MAX).find(|&byte| token.text.chars().eq([spelling(byte)])),
            _ => None,
        };
        self.tokens.iter().map(byte).collect()
    }

    /// Refuses what llama.cpp refuses or would misread.
    fn check(&self) -> Result<()> {
        let refused = |reason: String| Err(Error::Vocabulary { reason });
        let mut ids = HashMap::new();
        for (id, token) in self.tokens.iter().enumerate() {
            if token.text.is_empty() {
                return refused(format!("token {id} is empty"));
            }
            if let Some(first) = ids.insert(&token.text, id) {
                return refused(format!("tokens {first} and {id} are both {:?}", token.text));
            }
        }
        let wrong = |piece: &String| piece.is_empty() || piece.contains([' ', '\n']);
        if let Some((left, right)) = self.merges.iter().find(|(left, right)| wrong(left) || wrong(right)) {
            return refused(format!(
                "the merge of {left:?} and {right:?} has a piece that is empty or has a space"
            ));
        }
        match self.end_of_text {
            Some(id) if id as usize >= self.tokens.len() => {
                refused(format!("the end of text, {id}, is none of the {} tokens", self.tokens.len()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spelled_as_gpt2_spells_them() {
        assert_eq!(Token::normal(" the\né".as_bytes()).text, "ĠtheĊÃ©");
        assert_eq!(Token::normal(&[0, 0x7F, 0xA0, 0xAD]).text, "ĀġłŃ");
        let tokens = Vocabulary::bytes().tokens;
        let distinct: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(distinct.len(), 256);
    }

    /// What llama.cpp makes of a text that its pattern does not cut: merges, the earliest in the list first, until
    /// there is none; then pieces become ids.
    fn encode(vocabulary: &Vocabulary, text: &str) -> Vec<usize> {
        let mut pieces: Vec<String> = text.bytes().map(|byte| spelling(byte).to_string()).collect();
        let rank = |pair: &[String]| {
            vocabulary.merges.iter().position(|(left, right)| *left == pair[0] && *right == pair[1])
        };
        while let Some((_, place)) =
            pieces.windows(2).enumerate().filter_map(|(place, pair)| Some((rank(pair)?, place))).min()
        {
            let right = pieces.remove(place + 1);
            pieces[place].push_str(&right);
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
        // One for each character of two bytes; of two and three for the others, one is shared by each pair.
        assert_eq!(vocabulary.merges.len(), 3 + (2 * 2 - 1) + (2 * 3 - 1));
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
    fn merges_are_there_even_if_there_are_none() {
        let vocabulary = Vocabulary { end_of_text: Some(255), ..Vocabulary::bytes() };
        assert_eq!(value(&vocabulary, "model"), Some("gpt2".into()));
        assert_eq!(value(&vocabulary, "merges"), Some(Vec::<String>::new().into()));
        assert_eq!(value(&vocabulary, "eos_token_id"), Some(255.into()));
    }

    #[test]
    fn single_bytes_without_an_end_are_rwkvs() {
        let vocabulary = Vocabulary::from_chars(&['a', '\n', '\\', '~', '\u{7F}', ' ']);
        assert_eq!(value(&vocabulary, "model"), Some("rwkv".into()));
        let tokens = ["a", r"\x0a", r"\\", "~", r"\x7f", " "].map(str::to_owned).to_vec();
        assert_eq!(value(&vocabulary, "tokens"), Some(tokens.into()));
        assert_eq!(value(&vocabulary, "merges"), None);
        // Neither characters of several bytes nor padding are single bytes.
        let several = Vocabulary::from_chars(&['a', 'é']);
        let mut padded = Vocabulary::bytes();
        padded.pad(257);
        for vocabulary in [several, padded] {
            assert_eq!(value(&vocabulary, "model"), Some("gpt2".into()));
        }
    }

    #[test]
    fn a_bpe_without_an_end_of_text_stops_at_token_11() {
        let chars: Vec<char> = ('à'..='ö').collect();
        assert_eq!(Vocabulary::from_chars(&chars[..12]).stop_token(), Some(11));
        assert_eq!(Vocabulary::from_chars(&chars[..11]).stop_token(), None);
        let ended = Vocabulary { end_of_text: Some(3), ..Vocabulary::from_chars(&chars) };
        assert_eq!(ended.stop_token(), Some(3));
        assert_eq!(Vocabulary::bytes().stop_token(), None);
    }

    #[test]
    fn what_llama_cpp_would_not_load_is_refused() {
        let refusal = |vocabulary: Vocabulary| vocabulary.metadata().unwrap_err().to_string();
        let twice = refusal(Vocabulary::from_chars(&['a', 'b', 'a']));
        assert!(twice.contains("tokens 0 and 2 are both \"a\""), "{twice}");
        let outside = refusal(Vocabulary { end_of_text: Some(256), ..Vocabulary::bytes() });
        assert!(outside.contains("256, is none of the 256 tokens"), "{outside}");
        let merges = vec![("a b".to_owned(), "c".to_owned())];
        let space = refusal(Vocabulary { merges, ..Vocabulary::bytes() });
        assert!(space.contains("\"a b\" and \"c\""), "{space}");
        let empty = vec![Token::normal(b"a"), Token::normal(b"")];
        let empty = refusal(Vocabulary { tokens: empty, ..Vocabulary::bytes() });
        assert!(empty.contains("token 1 is empty"), "{empty}");
    }
}
