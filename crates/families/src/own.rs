//! The layout of models whose options no family has: each parameter under its path, matrices of linear layers as `[in, out]`, as
//! the first version had them in memory. No other program opens them.

use crate::names::{
    Bias::{Never, Optional},
    Matrices, Module, Names,
    Rows::Same,
};

/// `model_type` in the `config.json` of such a model.
pub(crate) const MODEL_TYPE: &str = "kindling";

/// The parameters under their paths.
pub(crate) static NAMES: Names = Names {
    prefix: "",
    buffers: &[],
    matrices: Matrices::InOut,
    norm_leaves: ["gamma", "beta"],
    modules: &MODULES,
};

macro_rules! own {
    ($($path:literal: $bias:ident),* $(,)?) => { [$(($path, $bias, &[($path, $path, Same)])),*] };
}

const MODULES: [Module; 12] = own![
    "token_embedding": Never,
    "position_embedding": Never,
    "blocks.*.attention_norm": Optional,
    "blocks.*.attention.qkv": Optional,
    "blocks.*.attention.query_norm": Never,
    "blocks.*.attention.key_norm": Never,
    "blocks.*.attention.project": Optional,
    "blocks.*.feed_forward_norm": Optional,
    "blocks.*.feed_forward.expand": Optional,
    "blocks.*.feed_forward.project": Optional,
    "norm": Optional,
    "head": Never,
];
