//! The tokens of a model, and how llama.cpp makes them of a text.

mod bytes;
mod ends;
mod read;
mod write;

use std::collections::HashSet;

use bytes::spelling;

/// A vocabulary and how a text becomes tokens of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The tokens, in the order of their ids.
    pub tokens: Vec<Token>,
    /// What joins pieces of text into tokens.
    pub joins: Joins,
    /// The token that begins a document.
    pub begin_of_text: Option<u32>,
    /// The tokens that end a document or a turn in it, the usual one first; some end one by their text alone. See [`Self::stop_token`] for what becomes of none.
    pub ends_of_text: Vec<u32>,
    /// Whether [`Self::begin_of_text`] is put before every text.
    pub adds_begin: bool,
}

/// What joins pieces of text into tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Joins {
    /// A byte-level BPE (`gpt2`): each byte of a text is spelled as one character of GPT-2's alphabet, a pattern cuts the
    /// text, and in each piece pairs are joined, whose results need not be tokens. What is no token at the end is left
    /// out without a word.
    ///
    /// llama.cpp always has an end of text there: token 11, if none is named. For a vocabulary of single bytes without
    /// one (characters that are all ASCII, or all bytes), what is written describes RWKV's tokenizer instead, which has
    /// no such default. It takes the longest token at each place, which for single bytes is the same; characters that
    /// it does not know are an error in llama.cpp.
    Merges {
        /// The pattern.
        pattern: Pattern,
        /// Pairs of pieces that are joined, the most urgent first; bytes are spelled as in tokens.
        merges: Vec<(String, String)>,
    },
    /// SentencePiece's BPE (`llama`): of all neighbours that are a token together, those are joined first whose token
    /// has the largest score. Spaces are spelled `▁`; what is no token becomes its bytes, which have tokens of their
    /// own.
    Scores {
        /// A score for each token.
        scores: Vec<f32>,
        /// Whether a space is put before a text, so that its first word is a token like others.
        adds_space: bool,
    },
}

/// How a text is cut before bytes are joined: `tokenizer.ggml.pre`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Words, numbers, punctuation and white space, each with the space before it.
    Gpt2,
    /// As [`Self::Gpt2`], but each digit for itself.
    Smollm,
    /// Of OpenAI's `cl100k_base`, but each digit for itself.
    Qwen2,
    /// Of OpenAI's `cl100k_base`. A piece that is a token is one, whatever the merges make of it.
    Llama3,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 4] = [Self::Gpt2, Self::Smollm, Self::Qwen2, Self::Llama3];

    /// llama.cpp's name of it.
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
    /// The text as the vocabulary spells it: for [`Joins::Merges`] bytes in GPT-2's alphabet (`Ġthe` for ` the`), for
    /// [`Joins::Scores`] with `▁` for a space. Of [`TokenKind::Control`] and [`TokenKind::UserDefined`], the text itself.
    pub text: String,
    /// What it is for.
    pub kind: TokenKind,
}

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// What stands for all that is no token.
    Unknown,
    /// A mark such as `<|endoftext|>`: found in a text only where marks are asked for, and not shown.
    Control,
    /// Found as a whole in any text, before the pattern and the merges.
    UserDefined,
    /// A row of the embedding that stands for nothing.
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

    /// The kind of a number; what has none is a piece of text, as in llama.cpp.
    fn from_code(code: i64) -> Self {
        let kinds = [Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        kinds.into_iter().find(|kind| i64::from(kind.code()) == code).unwrap_or(Self::Normal)
    }
}

impl Token {
    /// A piece of text, given as its bytes, of a byte-level BPE.
    pub fn normal(bytes: &[u8]) -> Self {
        Self { text: bytes.iter().map(|&byte| spelling(byte)).collect(), kind: TokenKind::Normal }
    }
}

/// What llama.cpp takes for the end of a text if a BPE vocabulary names none.
const DEFAULT_END: u32 = 11;

impl Vocabulary {
    /// A byte-level BPE that GPT-2's pattern cuts text for, and that has no marks.
    pub fn merges(tokens: Vec<Token>, merges: Vec<(String, String)>) -> Self {
        Self {
            tokens,
            joins: Joins::Merges { pattern: Pattern::Gpt2, merges },
            begin_of_text: None,
            ends_of_text: Vec::new(),
            adds_begin: false,
        }
    }

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
        Self::merges(tokens, merges)
    }

    /// One token per byte, with the byte as its id.
    pub fn bytes() -> Self {
        let tokens = (0..=u8::MAX).map(|byte| Token::normal(&[byte])).collect();
        Self::merges(tokens, Vec::new())
    }

    /// The characters, in the order of their ids, if this is what [`Self::from_chars`] makes of them.
    ///
    /// Unused tokens behind them, which fill an embedding, are passed over.
    pub fn chars(&self) -> Option<Vec<char>> {
        let used =
            self.tokens.iter().rposition(|token| token.kind != TokenKind::Unused).map_or(0, |last| last + 1);
        let character = |token: &Token| {
            let bytes: Vec<u8> = token.text.chars().map(bytes::byte).collect::<Option<_>>()?;
            let mut chars = str::from_utf8(&bytes).ok()?.chars();
            chars.next().filter(|_| chars.next().is_none() && token.kind == TokenKind::Normal)
        };
        let chars: Vec<char> = self.tokens[..used].iter().map(character).collect::<Option<_>>()?;
        let is_it = Self::from_chars(&chars).joins == self.joins && self.begin_of_text.is_none();
        (is_it && self.ends_of_text.is_empty() && !self.adds_begin).then_some(chars)
    }

    /// Adds unused tokens for the rows of an embedding that is larger than the vocabulary, as llama.cpp's
    /// converter does. A vocabulary of `n_rows` tokens or more stays as it is.
    pub fn pad(&mut self, n_rows: usize) {
        for id in self.tokens.len()..n_rows {
            self.tokens.push(Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused });
        }
        if let Joins::Scores { scores, .. } = &mut self.joins {
            scores.resize(self.tokens.len(), PAD_SCORE);
        }
    }

    /// The token at which llama.cpp ends a text. Where it is none that was meant, because the vocabulary has no
    /// [`Self::ends_of_text`] and is none of single bytes, texts end at whatever token 11 stands for.
    pub fn stop_token(&self) -> Option<u32> {
        let has_default = self.tokens.len() > DEFAULT_END as usize
            && matches!(self.joins, Joins::Merges { .. })
            && self.single_bytes().is_none();
        self.ends_of_text.first().copied().or(has_default.then_some(DEFAULT_END))
    }

    /// The byte of each token, if RWKV's tokenizer is to be described: each is one byte, and none ends a text.
    ///
    /// That tokenizer is not for longer tokens: in a text with the beginning of one and not its end, llama.cpp
    /// never gets further.
    fn single_bytes(&self) -> Option<Vec<u8>> {
        let is_plain =
            matches!(&self.joins, Joins::Merges { pattern: Pattern::Gpt2, merges } if merges.is_empty());
        if !is_plain || !self.ends_of_text.is_empty() || self.begin_of_text.is_some() {
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

/// The score of what no text has, as llama.cpp's converter writes it.
const PAD_SCORE: f32 = -1000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Value;

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
        let Joins::Merges { merges, .. } = &vocabulary.joins else { panic!("{vocabulary:?}") };
        let mut pieces: Vec<String> = text.bytes().map(|byte| spelling(byte).to_string()).collect();
        let rank =
            |pair: &[String]| merges.iter().position(|(left, right)| *left == pair[0] && *right == pair[1]);
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
        let Joins::Merges { merges, .. } = vocabulary.joins else { panic!("a BPE") };
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
    fn merges_are_there_even_if_there_are_none() {
        let vocabulary = Vocabulary { ends_of_text: vec![255], ..Vocabulary::bytes() };
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
        let ended = Vocabulary { ends_of_text: vec![3], ..Vocabulary::from_chars(&chars) };
        assert_eq!(ended.stop_token(), Some(3));
        assert_eq!(Vocabulary::bytes().stop_token(), None);
    }

    #[test]
    fn what_llama_cpp_would_not_load_is_refused() {
        let refusal = |vocabulary: Vocabulary| vocabulary.metadata().unwrap_err().to_string();
        let twice = refusal(Vocabulary::from_chars(&['a', 'b', 'a']));
        assert!(twice.contains("tokens 0 and 2 are both \"a\""), "{twice}");
        let outside = refusal(Vocabulary { ends_of_text: vec![256], ..Vocabulary::bytes() });
        assert!(outside.contains("the mark 256 is none of the 256 tokens"), "{outside}");
        let merges = vec![("a b".to_owned(), "c".to_owned())];
        let space = refusal(Vocabulary::merges(Vocabulary::bytes().tokens, merges));
        assert!(space.contains("\"a b\" and \"c\""), "{space}");
        let empty = vec![Token::normal(b"a"), Token::normal(b"")];
        let empty = refusal(Vocabulary::merges(empty, Vec::new()));
        assert!(empty.contains("token 1 is empty"), "{empty}");
    }
}
