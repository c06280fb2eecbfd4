//! The built-in recipes.

/// The built-in recipes by name; the first is the default.
pub const PRESETS: [(&str, &str); 11] = [
    ("tiny", include_str!("../../../../configs/tiny.toml")),
    ("small", include_str!("../../../../configs/small.toml")),
    ("gpu", include_str!("../../../../configs/gpu.toml")),
    ("nanogpt-cpu", include_str!("../../../../configs/nanogpt-cpu.toml")),
    ("nanogpt-gpu", include_str!("../../../../configs/nanogpt-gpu.toml")),
    ("gpt2", include_str!("../../../../configs/gpt2.toml")),
    ("finetune", include_str!("../../../../configs/finetune.toml")),
    ("sft", include_str!("../../../../configs/sft.toml")),
    ("lora", include_str!("../../../../configs/lora.toml")),
    ("dpo", include_str!("../../../../configs/dpo.toml")),
    ("debug", include_str!("../../../../configs/debug.toml")),
];

/// The text of the preset of that name.
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|&(_, text)| text)
}
