//! Speculation without a draft model: guesses the next tokens of a sample from its own text.
//!
//! In prompt lookup ([Saxena 2023]), the tokens that followed the last n tokens earlier are proposed, and one step of
//! the model processes them all. Each row of logits then gives a token as usual, as long as the tokens before it were
//! proposed. So the text does not change.
//!
//! [Saxena 2023]: https://github.com/apoorvumang/prompt-lookup-decoding

use crate::ngrams::NgramIndex;

/// The price of a proposed token. Each step earns 1, so that rejected tokens cost one row in this many steps.
const PRICE: usize = 16;

/// The credit for an accepted token. A sample with one accepted token of four can pay for all proposals.
const REWARD: usize = 4 * PRICE;

/// The longest proposals that credit can be saved for.
const MAX_SAVED: usize = 4;

/// Proposals for one sample, fewer if they are rarely accepted.
#[derive(Debug)]
pub(crate) struct PromptLookup {
    n_max: usize,
    index: NgramIndex,
    /// The price of the proposals that the sample may still make.
    credit: usize,
}

impl PromptLookup {
    /// Proposes up to `n_max` tokens at a time.
    pub(crate) fn new(n_max: usize) -> Self {
        Self { n_max, index: NgramIndex::default(), credit: n_max * PRICE }
    }

    /// Up to `n` tokens that may follow a text. It continues the text of the last call.
    pub(crate) fn propose(&mut self, text: &[u32], n: usize) -> Vec<u32> {
        self.index.extend_to(text);
        self.index.continuation(text, n.min(self.n_max).min(self.credit / PRICE))
    }

    /// Records a step with a proposal of `n_proposed` tokens, possibly none, whose first `n_accepted` were sampled.
    pub(crate) fn record(&mut self, n_proposed: usize, n_accepted: usize) {
        let paid = self.credit.saturating_sub(n_proposed * PRICE);
        self.credit = (paid + n_accepted * REWARD + 1).min(MAX_SAVED * self.n_max * PRICE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [u32; 6] = [5, 5, 5, 5, 5, 5];

    /// The number of tokens proposed in each of `n_steps` steps, of which `n_accepted` gives the accepted ones.
    fn proposed(lookup: &mut PromptLookup, n_steps: usize, n_accepted: fn(usize) -> usize) -> Vec<usize> {
        let step = |_| {
            let n = lookup.propose(&TEXT, usize::MAX).len();
            lookup.record(n, n_accepted(n));
            n
        };
        (0..n_steps).map(step).collect()
    }

    #[test]
    fn rejected_proposals_become_rare_and_accepted_ones_long() {
        let mut lookup = PromptLookup::new(8);
        assert_eq!(proposed(&mut lookup, 3, |_| 0), [8, 0, 0]);
        let rare: usize = proposed(&mut lookup, 1600, |_| 0).iter().sum();
        assert_eq!(rare, 100, "one token in 16 steps");
        let accepted = proposed(&mut lookup, 30, |n| n);
        assert_eq!(accepted.iter().filter(|&&n| n > 0).take(3).collect::<Vec<_>>(), [&1, &4, &8]);
        assert!(accepted.ends_with(&[8; 10]));
        assert_eq!(
            proposed(&mut lookup, 6, |_| 0),
            [8, 8, 8, 8, 0, 0],
            "a few rejections are no reason to stop"
        );
    }

    #[test]
    fn one_accepted_token_of_four_pays_for_all() {
        let mut lookup = PromptLookup::new(8);
        assert_eq!(proposed(&mut lookup, 50, |n| n / 4), [8; 50]);
        assert!(proposed(&mut lookup, 500, |n| n / 8).iter().sum::<usize>() < 500);
    }

    #[test]
    fn a_proposal_has_at_most_the_wanted_length() {
        let mut lookup = PromptLookup::new(3);
        assert_eq!(lookup.propose(&TEXT, 9), [5; 3]);
        assert_eq!(lookup.propose(&TEXT, 2), [5; 2]);
        assert!(lookup.propose(&TEXT, 0).is_empty());
        assert!(PromptLookup::new(3).propose(&TEXT[..2], 9).is_empty());
    }
}
