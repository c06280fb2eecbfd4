//! LoRA adapters in the layout of [PEFT](https://huggingface.co/docs/peft): `adapter_config.json` and
//! `adapter_model.safetensors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
};

use burn::prelude::*;
use formats::weights::{FloatType, Weights, WriteError, write};
use model::{Gpt, GptConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Family, Result, gpt2,
    lora_matrices::LoraMatrices,
    lora_module::{LoraModule, updated_modules},
};

/// PEFT's file of settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// PEFT's file of matrices.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// The prefix of PEFT's keys.
const PREFIX: &str = "base_model.model.";

/// The settings of an adapter, as far as they matter here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    /// The path of the base model, or its name on the hub.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    #[serde(default = "peft_rank")]
    r: usize,
    #[serde(default = "peft_alpha")]
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    target_modules: TargetModules,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    /// The initialisation of the matrices: a name, or whether it is PEFT's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_lora_weights: Option<Value>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    inference_mode: bool,
}

/// PEFT's default of `r`.
fn peft_rank() -> usize {
    8
}

/// PEFT's default of `lora_alpha`.
fn peft_alpha() -> f64 {
    8.0
}

/// The updated modules: their names, or a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum TargetModules {
    Names(BTreeSet<String>),
    Pattern(String),
}

impl Default for TargetModules {
    fn default() -> Self {
        Self::Names(BTreeSet::new())
    }
}

impl AdapterConfig {
    /// The settings of a model's adapter.
    ///
    /// # Panics
    ///
    /// If the model has no low-rank updates.
    pub fn of(model: &Gpt, base: Option<String>, dropout: f64) -> Self {
        let modules = updated_modules(model);
        let (_, lora) = modules.first().expect("the model has low-rank updates");
        let [rank, _] = lora.a().dims();
        let all = LoraModule::all(model.config());
        let is_updated = |module: &LoraModule| modules.iter().any(|(updated, _)| updated.name == module.name);
        // The last part of a name if it means the same modules, and otherwise the last two.
        let targets = modules.iter().map(|(module, _)| {
            let kind = module.kind();
            if all.iter().filter(|it| it.is_target(kind)).all(is_updated) {
                return kind.to_owned();
            }
            let parts: Vec<&str> = module.name.rsplitn(3, '.').collect();
            parts[..parts.len().min(2)].iter().rev().copied().collect::<Vec<_>>().join(".")
        });
        Self {
            peft_type: "LORA".to_owned(),
            task_type: Some("CAUSAL_LM".to_owned()),
            base_model_name_or_path: base,
            r: rank,
            lora_alpha: lora.scale() * rank as f64,
            lora_dropout: dropout,
            target_modules: TargetModules::Names(targets.collect()),
            bias: Some("none".to_owned()),
            fan_in_fan_out: is_gpt2(model.config()),
            use_rslora: false,
            use_dora: false,
            init_lora_weights: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: None,
            inference_mode: true,
        }
    }

    /// Reads the settings in a folder.
    ///
    /// # Errors
    ///
    /// If the file is missing or invalid, or the adapter is not supported.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(ADAPTER_CONFIG);
        let text = fs::read_to_string(&path).map_err(|source| Error::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let config: Self =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        match config.unsupported() {
            None => Ok(config),
            Some(reason) => Err(Error::Config { path, reason }),
        }
    }

    /// The rank of most updates.
    pub fn rank(&self) -> usize {
        self.r
    }

    /// The updates are scaled by this divided by the rank, or by its root with rank-stabilised LoRA.
    pub fn alpha(&self) -> f64 {
        self.lora_alpha
    }

    /// The updated modules by the ends of their names, or one pattern.
    pub fn targets(&self) -> Vec<String> {
        match &self.target_modules {
            TargetModules::Names(names) => names.iter().cloned().collect(),
            TargetModules::Pattern(pattern) => vec![pattern.clone()],
        }
    }

    /// The reason why the adapter is not supported, if it is not.
    fn unsupported(&self) -> Option<String> {
        if self.peft_type != "LORA" {
            return Some(format!("the adapter is of type {}; only LORA is supported", self.peft_type));
        }
        if self.use_dora {
            return Some(
                "the adapter is a DoRA, which is not supported; merge it with PEFT first".to_owned(),
            );
        }
        if let Some(name) = self.changed_base() {
            return Some(format!(
                "the adapter belongs to a base model whose weights its initialisation changed (`init_lora_weights` = \
                 {name}), so it does not fit the original one; save it with PEFT's \
                 `path_initial_model_for_weight_conversion`, or merge it with PEFT first"
            ));
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| *bias != "none") {
            return Some(format!("the adapter trains biases (`bias` = {bias:?}), which is not supported"));
        }
        let saved = self.modules_to_save.as_ref().filter(|modules| !modules.is_empty())?;
        Some(format!("the adapter has whole modules ({}), which are not supported", saved.join(", ")))
    }

    /// The initialisation, if it may have changed the base model: PiSSA, OLoRA, CorDA and LoftQ take the initial update
    /// out of its weights. After a conversion PEFT writes `true`.
    fn changed_base(&self) -> Option<&Value> {
        const NAMES: [&str; 3] = ["gaussian", "eva", "orthogonal"];
        let keeps_base = |init: &Value| match init {
            Value::String(name) => NAMES.iter().any(|kept| name.eq_ignore_ascii_case(kept)),
            other => other.is_boolean() || other.is_null(),
        };
        self.init_lora_weights.as_ref().filter(|init| !keeps_base(init))
    }

    /// A pattern of scales that is not the end of a module's name. PEFT reads patterns as regular expressions.
    fn unmatched_pattern(&self, modules: &[LoraModule]) -> Option<&String> {
        self.alpha_pattern.keys().find(|pattern| !modules.iter().any(|module| module.is_target(pattern)))
    }

    /// The factor of B · A for a module of this rank.
    fn scale(&self, module: &LoraModule, rank: usize) -> f64 {
        let alpha = self.alpha_pattern.iter().find(|(pattern, _)| module.is_target(pattern));
        let alpha = alpha.map_or(self.lora_alpha, |(_, &alpha)| alpha);
        alpha / if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 }
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        let value = serde_json::to_value(self).expect("the keys are strings");
        format!("{value:#}\n")
    }
}

/// Writes the matrices of a model's low-rank updates as `adapter_model.safetensors`.
///
/// # Errors
///
/// If `out` fails.
pub fn write_adapter(model: &Gpt, out: &mut impl Write) -> Result<(), WriteError> {
    let mut matrices: BTreeMap<String, Tensor<2>> = BTreeMap::new();
    for (module, lora) in updated_modules(model) {
        let [a, b] = keys(&module.name);
        matrices.extend([(a, lora.a()), (b, lora.b())]);
    }
    let shapes = matrices.iter().map(|(key, matrix)| (key.clone(), matrix.dims().to_vec())).collect();
    write(out, &shapes, FloatType::F32, |key| {
        let values = matrices[key].clone().detach().into_data().convert::<f32>();
        [values.try_into_vec().expect("it was converted to f32")]
    })
}

/// The base model with the updates of a file of matrices. `folder` has their settings.
///
/// # Errors
///
/// If a file can't be read, the adapter is not supported, or it does not fit the model.
pub fn with_adapter(model: Gpt, folder: &Path, matrices: &Path, device: &Device) -> Result<Gpt> {
    let config = AdapterConfig::read(folder)?;
    if let Some(pattern) = config.unmatched_pattern(&LoraModule::all(model.config())) {
        let reason = format!(
            "`alpha_pattern` has {pattern:?}, and only ends of module names such as \"q_proj\" are supported; merge the \
             adapter with PEFT first"
        );
        return Err(Error::Config { path: folder.join(ADAPTER_CONFIG), reason });
    }
    let tensors = Weights::open(matrices)?.into_tensors().into_iter();
    LoraMatrices {
        path: matrices,
        // Older files have the adapter's name in their keys.
        tensors: tensors.map(|(key, tensor)| (key.replace(".default.weight", ".weight"), tensor)).collect(),
        keys: &|module| keys(&module.name),
        scale: &|module, rank| config.scale(module, rank),
    }
    .add_to(model, device)
}

/// PEFT's keys of A and B.
fn keys(module: &str) -> [String; 2] {
    ["A", "B"].map(|matrix| format!("{PREFIX}{module}.lora_{matrix}.weight"))
}

/// Whether linear layers of the Hugging Face model are `Conv1D`, `[in, out]`.
fn is_gpt2(config: &GptConfig) -> bool {
    Family::of(config).is_ok_and(|family| std::ptr::eq(family, &gpt2::FAMILY))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads settings with an `init_lora_weights`, in JSON.
    fn read(init: &str) -> Result<AdapterConfig> {
        let folder = tempfile::tempdir().unwrap();
        let json = format!(r#"{{"peft_type": "LORA", "r": 4, "init_lora_weights": {init}}}"#);
        fs::write(folder.path().join(ADAPTER_CONFIG), json).unwrap();
        AdapterConfig::read(folder.path())
    }

    #[test]
    fn initialisations_that_keep_the_base_open() {
        for init in ["true", "false", "null", "\"gaussian\"", "\"eva\"", "\"orthogonal\""] {
            assert_eq!(read(init).unwrap().rank(), 4, "{init}");
        }
    }

    #[test]
    fn initialisations_that_change_the_base_are_refused_with_the_reason() {
        for init in
            ["\"pissa\"", "\"pissa_niter_16\"", "\"olora\"", "\"corda\"", "\"loftq\"", "\"later\"", "7"]
        {
            let error = read(init).unwrap_err();
            let Error::Config { reason, .. } = &error else { panic!("{init}: {error}") };
            assert!(reason.contains(&format!("changed (`init_lora_weights` = {init})")), "{reason}");
        }
    }
}
