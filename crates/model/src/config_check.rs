//! Validation of a model's config.

use crate::{GptConfig, Position, config::DEFAULT_ROPE_THETA};

/// Above the memory of any machine.
const MAX_PARAMS: f64 = 1e12;

/// Longer than the block of any known model.
const MAX_BLOCK_SIZE: usize = 1 << 24;

/// An invalid model config.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("`{field}` must be at least 1 (got 0)")]
    Zero { field: &'static str },
    #[error("these sizes give a model of {n_params:.0e} parameters; the limit is {MAX_PARAMS:.0e}")]
    TooLarge {
        /// Approximate.
        n_params: f64,
    },
    #[error("`block_size` must be at most {MAX_BLOCK_SIZE} (got {0})")]
    BlockTooLong(usize),
    #[error("`n_embd` = {n_embd} is not a multiple of `n_head` = {n_head}")]
    UnevenHeads { n_embd: usize, n_head: usize },
    #[error("`n_head` = {n_head} is not a multiple of `n_kv_head` = {n_kv_head}")]
    UnevenGroups { n_head: usize, n_kv_head: usize },
    #[error(
        "the head width must be even with `position` = \"rope\", which rotates pairs of channels (got {0})"
    )]
    OddRope(usize),
    #[error("`dropout` must be in [0, 1) (got {0})")]
    Dropout(f64),
    #[error("`rope_theta` has no effect without `position` = \"rope\"; remove it, or set `position`")]
    UnusedTheta,
    #[error("`qkv_bias` has no effect with `bias` = true; remove it, or set `bias` = false")]
    UnusedQkvBias,
    #[error("`{field}` must be a number above 0 (got {value})")]
    NotPositive { field: &'static str, value: f64 },
}

impl GptConfig {
    /// Checks that a model with this config can exist.
    ///
    /// # Errors
    ///
    /// If a size is 0 or too large, a width or a number of heads is not divisible as required, `dropout`, `rope_theta`
    /// or `norm_epsilon` is out of range, or an option has no effect.
    pub fn check(&self) -> Result<(), ConfigError> {
        let heads = &self.attention;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("block_size", self.block_size),
            ("n_layer", self.n_layer),
            ("n_head", heads.n_head),
            ("n_kv_head", heads.n_kv_head.unwrap_or(1)),
            ("n_embd", self.n_embd),
            ("head_dim", heads.head_dim.unwrap_or(1)),
            ("n_inner", self.feed_forward.n_inner.unwrap_or(1)),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return Err(ConfigError::Zero { field });
        }
        self.check_memory()?;
        if self.block_size > MAX_BLOCK_SIZE {
            return Err(ConfigError::BlockTooLong(self.block_size));
        }
        if heads.head_dim.is_none() && !self.n_embd.is_multiple_of(heads.n_head) {
            return Err(ConfigError::UnevenHeads { n_embd: self.n_embd, n_head: heads.n_head });
        }
        if !heads.n_head.is_multiple_of(self.n_kv_head()) {
            return Err(ConfigError::UnevenGroups { n_head: heads.n_head, n_kv_head: self.n_kv_head() });
        }
        if self.position.kind == Position::Rope && !self.head_dim().is_multiple_of(2) {
            return Err(ConfigError::OddRope(self.head_dim()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ConfigError::Dropout(self.dropout));
        }
        if self.position.kind == Position::Learned && self.position.rope_theta != DEFAULT_ROPE_THETA {
            return Err(ConfigError::UnusedTheta);
        }
        if self.bias && self.attention.qkv_bias {
            return Err(ConfigError::UnusedQkvBias);
        }
        let numbers = [("rope_theta", self.position.rope_theta), ("norm_epsilon", self.norm.epsilon)];
        match numbers.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            Some((field, value)) => Err(ConfigError::NotPositive { field, value }),
            None => Ok(()),
        }
    }

    /// Estimates the size in floating point, which does not overflow.
    fn check_memory(&self) -> Result<(), ConfigError> {
        let [width, n_layer] = [self.n_embd, self.n_layer].map(|size| size as f64);
        let n_head = self.attention.n_head;
        let head_dim = self.attention.head_dim.map_or(width / n_head as f64, |dim| dim as f64);
        let attention = 2.0 * (n_head + self.n_kv_head()) as f64 * head_dim;
        let feed_forward = self.feed_forward.n_inner.map_or(8.0 * width, |n_inner| 3.0 * n_inner as f64);
        let outside = self.vocab_size as f64 + self.block_size as f64;
        let n_params = width * (n_layer * (attention + feed_forward) + outside);
        if n_params > MAX_PARAMS {
            return Err(ConfigError::TooLarge { n_params });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mut config: GptConfig, change: impl Fn(&mut GptConfig)) -> GptConfig {
        change(&mut config);
        config
    }

    #[test]
    fn errors_name_the_invalid_field() {
        let refused = |config: GptConfig| config.check().expect_err("the config is invalid").to_string();
        let debug = GptConfig::debug;
        assert!(debug().check().is_ok());
        assert_eq!(refused(GptConfig { n_layer: 0, ..debug() }), "`n_layer` must be at least 1 (got 0)");
        assert_eq!(
            refused(with(debug(), |config| config.attention.n_head = 5)),
            "`n_embd` = 12 is not a multiple of `n_head` = 5"
        );
        assert_eq!(refused(GptConfig { dropout: 1.0, ..debug() }), "`dropout` must be in [0, 1) (got 1)");
        let modern = GptConfig::debug_modern;
        assert!(modern().check().is_ok());
        assert_eq!(
            refused(with(modern(), |config| config.attention.n_kv_head = Some(3))),
            "`n_head` = 4 is not a multiple of `n_kv_head` = 3"
        );
        assert_eq!(
            refused(with(modern(), |config| config.attention.head_dim = Some(5))),
            "the head width must be even with `position` = \"rope\", which rotates pairs of channels (got 5)"
        );
        assert_eq!(
            refused(with(modern(), |config| config.feed_forward.n_inner = Some(0))),
            "`n_inner` must be at least 1 (got 0)"
        );
        assert!(refused(with(debug(), |config| config.position.rope_theta = 5.0)).contains("has no effect"));
        let twice = with(debug(), |config| (config.bias, config.attention.qkv_bias) = (true, true));
        assert!(refused(twice).starts_with("`qkv_bias` has no effect with `bias` = true"));
        assert_eq!(
            refused(with(modern(), |config| config.norm.epsilon = f64::NAN)),
            "`norm_epsilon` must be a number above 0 (got NaN)"
        );
        assert_eq!(
            refused(GptConfig { block_size: 1 << 32, ..modern() }),
            "`block_size` must be at most 16777216 (got 4294967296)"
        );
        let huge = with(modern(), |config| {
            config.attention.head_dim = Some(usize::MAX);
            config.feed_forward.n_inner = Some(usize::MAX);
        });
        assert!(refused(huge).contains("parameters"));
    }
}
