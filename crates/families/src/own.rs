//! Kindling's own layout, for models with options that no family combines. No other program opens it.
//!
//! Each parameter is stored under its path, and matrices as `[in, out]`.

use crate::names::{
    Bias::{Never, Optional},
    MatrixLayout, Module, Names,
    RowOrder::Same,
};

/// `model_type` in `config.json`.
pub(crate) const MODEL_TYPE: &str = "kindling";

pub(crate) static NAMES: Names = Names {
    prefix: "",
    buffers: &[],
    matrices: MatrixLayout::InOut,
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
