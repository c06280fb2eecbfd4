//! Filters that drop tokens. [`top_k`] filters logits, the others filter a distribution. All but [`typical_p`] keep the
//! most probable token.

mod min_p;
mod top_k;
mod top_p;
mod typical_p;

mod prefix;

pub use min_p::min_p;
pub use top_k::top_k;
pub use top_p::top_p;
pub use typical_p::typical_p;
