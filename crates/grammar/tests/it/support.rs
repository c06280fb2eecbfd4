//! Vocabularies, and samples of a random model.

use std::sync::LazyLock;

use grammar::{Grammar, Vocabulary};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sampler::{Constraint, Logits, Options, Sequence, StoppedBy};
use tokenizer::Tokenizer;

/// A tokenizer with its vocabulary and EOS tokens.
pub(crate) struct Tokens {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) eos: Vec<u32>,
    pub(crate) vocabulary: Vocabulary,
}

impl Tokens {
    pub(crate) fn new(tokenizer: Tokenizer, eos: &[u32]) -> Self {
        let vocabulary = Vocabulary::new(&tokenizer, eos).unwrap();
        Self { tokenizer, eos: eos.to_vec(), vocabulary }
    }

    pub(crate) fn constraint(&self, grammar: &Grammar) -> Box<dyn Constraint> {
        grammar.constraint(&self.vocabulary).unwrap()
    }

    /// The constraint after `text`.
    pub(crate) fn after(&self, grammar: &Grammar, text: &str) -> Box<dyn Constraint> {
        let mut constraint = self.constraint(grammar);
        for id in self.tokenizer.encode(text).unwrap() {
            constraint.accept(id).unwrap();
        }
        constraint
    }

    /// The ids that may follow.
    pub(crate) fn allowed(&self, constraint: &mut dyn Constraint) -> Vec<u32> {
        let mut logits = vec![0.0; self.tokenizer.vocab_size()];
        constraint.restrict(&mut logits).unwrap();
        (0..).zip(logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect()
    }

    /// The tokens that may follow, as text.
    pub(crate) fn allowed_text(&self, constraint: &mut dyn Constraint) -> Vec<String> {
        self.allowed(constraint).into_iter().map(|id| self.tokenizer.decode(&[id])).collect()
    }

    /// The text of a complete sample of a random model. The model prefers ever more to close strings, lists, objects and
    /// the text itself, so that samples end.
    pub(crate) fn sample(&self, grammar: &Grammar, seed: u64) -> String {
        let options = Options {
            max_tokens: 3_000,
            temperature: 1.0,
            seed,
            stop_tokens: self.eos.clone(),
            ..Options::default()
        };
        let constraint = Some(self.constraint(grammar));
        let mut sequence = Sequence::new(options, 0, vec![0]).unwrap().with_constraint(constraint);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let closing = ["\"", "}", "]", ")"].map(|text| self.tokenizer.id_of(text));
        for step in 0_u16.. {
            if sequence.stopped_by().is_some() {
                break;
            }
            let random = |_| (rng.next_u32() >> 16) as f32 / 6_000.0;
            let mut logits: Vec<f32> = (0..self.tokenizer.vocab_size()).map(random).collect();
            for id in closing.iter().flatten().chain(&self.eos) {
                logits[*id as usize] += 0.3 * f32::from(step);
            }
            sequence.step(&Logits::All(logits), |_| String::new()).unwrap();
        }
        let sample = sequence.into_sample();
        assert_ne!(sample.stopped_by, StoppedBy::MaxTokens, "seed {seed}");
        let ids: Vec<u32> = sample.ids.into_iter().filter(|id| !self.eos.contains(id)).collect();
        self.tokenizer.decode(&ids)
    }
}

pub(crate) static GPT2: LazyLock<Tokens> = LazyLock::new(|| {
    let tokenizer = Tokenizer::gpt2();
    let eos = tokenizer.end_of_text().unwrap();
    Tokens::new(tokenizer, &[eos])
});

/// Without an EOS token.
pub(crate) static BYTES: LazyLock<Tokens> = LazyLock::new(|| Tokens::new(Tokenizer::byte(), &[]));

/// Without an EOS token.
pub(crate) static CHARS: LazyLock<Tokens> = LazyLock::new(|| {
    let chars = (' '..='~').chain("\nüé青😀".chars());
    Tokens::new(Tokenizer::from_chars(chars).unwrap(), &[])
});

pub(crate) fn all() -> [&'static Tokens; 3] {
    [&GPT2, &BYTES, &CHARS]
}
