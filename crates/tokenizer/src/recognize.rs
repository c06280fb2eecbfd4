//! Derives the kind of a `tokenizer.json` from its structure.

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, DecoderWrapper, Model, PreTokenizerWrapper, Tokenizer as Pipeline};

use crate::byte_alphabet::CHARS;
use crate::char_vocabulary::CharVocabulary;
use crate::pipeline::END_OF_TEXT;
use crate::{TokenizerKind, gpt2};

/// The encoder of a tokenizer.
#[derive(Debug, Clone)]
pub(crate) enum Codec {
    Char(CharVocabulary),
    Byte,
    ByteLevelBpe,
    /// The pipeline of the `tokenizers` library.
    Library,
}

/// The encoder and the kind of a pipeline; the kind is `None` for imported tokenizers, and with further special tokens.
pub(crate) fn recognize(pipeline: &Pipeline) -> (Codec, Option<TokenizerKind>) {
    recognize_own(pipeline).unwrap_or((Codec::Library, None))
}

fn recognize_own(pipeline: &Pipeline) -> Option<(Codec, Option<TokenizerKind>)> {
    let ModelWrapper::BPE(model) = pipeline.get_model() else { return None };
    if pipeline.get_normalizer().is_some() || !is_plain(model) {
        return None;
    }
    let added = pipeline.get_added_tokens_decoder();
    if !added.values().all(is_plainly_special) {
        return None;
    }
    let of_kind = |kind| added.is_empty().then_some(kind);
    match (pipeline.get_pre_tokenizer(), pipeline.get_decoder()?) {
        (None, DecoderWrapper::Fuse(_)) => {
            let codec = Codec::Char(CharVocabulary::new(&single_chars(model)?));
            Some((codec, of_kind(TokenizerKind::Char)))
        }
        (Some(PreTokenizerWrapper::ByteLevel(pre)), DecoderWrapper::ByteLevel(_))
            if !pre.add_prefix_space =>
        {
            if !pre.use_regex {
                let is_byte = single_chars(model)? == *CHARS;
                return is_byte.then(|| (Codec::Byte, of_kind(TokenizerKind::Byte)));
            }
            if !CHARS.iter().all(|byte| model.token_to_id(&byte.to_string()).is_some()) {
                return None;
            }
            let is_own = added.len() == 1 && added.values().all(|token| token.content == END_OF_TEXT);
            let vocab_size = pipeline.get_vocab_size(true);
            let kind =
                || if is_gpt2(model) { TokenizerKind::Gpt2 } else { TokenizerKind::Bpe { vocab_size } };
            Some((Codec::ByteLevelBpe, is_own.then(kind)))
        }
        _ => None,
    }
}

/// Whether a token is special and found anywhere in a text.
fn is_plainly_special(token: &AddedToken) -> bool {
    token.special && !token.lstrip && !token.rstrip && !token.single_word
}

/// Whether the model uses none of the library's extensions of BPE.
fn is_plain(model: &BPE) -> bool {
    let unset = |affix: &Option<String>| affix.as_deref().is_none_or(str::is_empty);
    model.dropout.is_none()
        && model.unk_token.is_none()
        && unset(&model.continuing_subword_prefix)
        && unset(&model.end_of_word_suffix)
        && !model.byte_fallback
        && !model.ignore_merges
}

/// The tokens in the order of their ids, if the ids have no gap and each token is one character. Such a vocabulary
/// has no merges.
fn single_chars(model: &BPE) -> Option<Vec<char>> {
    let n_tokens = u32::try_from(model.get_vocab_size()).ok()?;
    (0..n_tokens)
        .map(|id| {
            let token = model.id_to_token(id)?;
            let mut chars = token.chars();
            chars.next().filter(|_| chars.next().is_none())
        })
        .collect()
}

fn is_gpt2(model: &BPE) -> bool {
    if model.get_vocab_size() != gpt2::VOCAB_SIZE {
        return false;
    }
    // Published files have an empty affix instead of none.
    let mut plain = model.clone();
    plain.continuing_subword_prefix = None;
    plain.end_of_word_suffix = None;
    plain == gpt2::model()
}
