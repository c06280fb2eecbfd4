//! Constrained generation: text that matches a JSON schema, a regular expression or a Lark grammar.
//!
//! A [`Grammar`] describes the text, and a [`Vocabulary`] holds the bytes of a model's tokens.
//! [`Grammar::constraint`] combines them into a [`sampler::Constraint`], which forbids every token that the text
//! cannot continue with. The library `llguidance` does the work: it parses the text, and walks a trie of the
//! vocabulary for each token.
//!
//! ```
//! use grammar::{Grammar, Vocabulary};
//! use tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::byte();
//! let vocabulary = Vocabulary::new(&tokenizer, &[])?;
//! let mut constraint = Grammar::regex("(yes|no)").constraint(&vocabulary)?;
//!
//! let mut logits = vec![0.0; tokenizer.vocab_size()];
//! constraint.restrict(&mut logits)?;
//! let allowed: Vec<u32> = (0..).zip(&logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect();
//! assert_eq!(allowed, tokenizer.encode("ny")?);
//!
//! for id in tokenizer.encode("no")? {
//!     constraint.accept(id)?;
//! }
//! assert!(constraint.is_complete());
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Guarantees and limits
//!
//! - A complete sample matches its grammar. A sample that ends earlier, such as after `max_tokens`, is the start of a
//!   text that does.
//! - Special tokens never count as text. EOS tokens are allowed where the grammar may end.
//! - A sample ends without EOS where the grammar allows no further text.
//! - Grammars may come from strangers: their size and the work for each token are limited, and exceeding a limit is an
//!   error.

mod grammar;
mod vocabulary;

mod constraint;
mod schema_path;

mod error;

pub use error::{Error, Result};
pub use grammar::Grammar;
pub use vocabulary::Vocabulary;
