//! Compares what determines a run over all ranks, before the first step.

use ::fs::sha256_hex;
use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use checkpoint::RunFolder;
use kernels::{SimdLevel, has_fused_operations};
use ranks::{Group, agree};

use crate::{DataRecipe, Error, Recipe, learner::GptLearner};

/// Digits of a checksum in an error message.
const N_DIGITS: usize = 12;

/// Checks that all ranks start with the same program, processor instructions, kind of device, recipe, tokenizer, data and weights.
///
/// # Errors
///
/// If something differs; the error names it with ranks and hosts. If another rank has failed.
pub(crate) fn check_agreement(
    group: &dyn Group,
    recipe: &Recipe,
    (folder, device): (&RunFolder, &Device),
    [train, valid]: &[String; 2],
    learner: &GptLearner,
) -> Result<(), Error> {
    if group.size() == 1 {
        return Ok(());
    }
    // The data may lie elsewhere on each host.
    let data = DataRecipe { corpus: String::new(), valid: None, ..recipe.data.clone() };
    let recipe = Recipe { data, ..recipe.clone() }.to_toml();
    let short = |checksum: &str| checksum.get(..N_DIGITS).unwrap_or(checksum).to_owned();
    let values = [
        ("program version", env!("CARGO_PKG_VERSION").to_owned()),
        ("instruction set", SimdLevel::best().name()),
        ("kind of device", if has_fused_operations(device) { "CPU" } else { "GPU" }.to_owned()),
        ("recipe", short(&sha256_hex(recipe.as_bytes()))),
        ("tokenizer", short(&sha256_hex(folder.load_tokenizer()?.to_json().as_bytes()))),
        ("training data", short(train)),
        ("validation data", short(valid)),
        ("initial weights", short(&weights_checksum(&learner.gpt()))),
    ];
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Ok(agree(group, &values)?)
}

/// SHA-256 of the checksums of all weights, in module order.
fn weights_checksum<M: Module>(module: &M) -> String {
    struct Checksums(String);
    impl ModuleVisitor for Checksums {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += &sha256_hex(param.val().into_data().as_bytes());
        }
    }
    let mut checksums = Checksums(String::new());
    module.visit(&mut checksums);
    sha256_hex(checksums.0.as_bytes())
}
