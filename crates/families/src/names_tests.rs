//! Tests of the name tables of all families.

use model::GptConfig;

use crate::{
    FAMILIES, gpt2, llama,
    names::{Bias, Names},
    qwen3,
    stored::Stored,
};

#[test]
fn names_map_both_ways() {
    for family in FAMILIES {
        let names = &family.names;
        for &(_, bias, parts) in names.modules {
            for (key, ..) in parts {
                let leaves = if bias == Bias::Never { &["weight"][..] } else { &["weight", "bias"] };
                for leaf in leaves {
                    let key = format!("{}.{leaf}", key.replace('*', "17"));
                    let gguf = names.gguf_name(&key).expect(&key);
                    let back = names.key_from_gguf(&gguf.name).expect(&gguf.name);
                    assert_eq!((&back.name, back.stored), (&key, gguf.stored));
                    let bare = key.strip_prefix(names.prefix).unwrap_or(&key);
                    assert_eq!(names.key(bare), Some(key.clone()));
                    assert_eq!(names.key(&format!("_orig_mod.{key}")), Some(key));
                }
            }
        }
    }
}

#[test]
fn paths_map_to_keys() {
    let config = GptConfig::debug_modern();
    let keys = |names: &Names, path: &str| -> Vec<String> {
        names.place(path, &config).parts.into_iter().map(|part| part.key).collect()
    };
    for (family, path, expected) in [
        (&gpt2::FAMILY, "token_embedding.weight", &["transformer.wte.weight"][..]),
        (&gpt2::FAMILY, "blocks.11.attention_norm.beta", &["transformer.h.11.ln_1.bias"]),
        (&gpt2::FAMILY, "blocks.0.feed_forward.project.bias", &["transformer.h.0.mlp.c_proj.bias"]),
        (&gpt2::FAMILY, "norm.gamma", &["transformer.ln_f.weight"]),
        (&gpt2::FAMILY, "head.weight", &["lm_head.weight"]),
        (&llama::FAMILY, "token_embedding.weight", &["model.embed_tokens.weight"]),
        (&llama::FAMILY, "norm.gamma", &["model.norm.weight"]),
        (&llama::FAMILY, "head.weight", &["lm_head.weight"]),
        (
            &llama::FAMILY,
            "blocks.11.feed_forward_norm.gamma",
            &["model.layers.11.post_attention_layernorm.weight"],
        ),
        (&qwen3::FAMILY, "blocks.0.attention.key_norm.gamma", &["model.layers.0.self_attn.k_norm.weight"]),
        (&llama::FAMILY, "blocks.0.attention.project.bias", &["model.layers.0.self_attn.o_proj.bias"]),
        (
            &llama::FAMILY,
            "blocks.2.feed_forward.expand.weight",
            &["model.layers.2.mlp.gate_proj.weight", "model.layers.2.mlp.up_proj.weight"],
        ),
    ] {
        assert_eq!(keys(&family.names, path), expected);
    }
    let place = llama::FAMILY.names.place("blocks.0.attention.qkv.bias", &config);
    let n_outputs: Vec<_> = place.parts.iter().map(|part| part.n_outputs).collect();
    assert_eq!((n_outputs, place.is_transposed), (vec![Some(24), Some(12), Some(12)], false));
}

#[test]
fn matrices_are_transposed_if_stored_as_in_out() {
    let config = GptConfig::debug();
    let is_transposed = |names: &Names, path: &str| names.place(path, &config).is_transposed;
    for (path, in_gpt2, in_llama) in [
        ("head.weight", false, false),
        ("blocks.0.attention.qkv.weight", true, false),
        ("blocks.0.feed_forward.project.weight", true, false),
        ("blocks.0.feed_forward.project.bias", false, false),
        ("blocks.0.attention_norm.gamma", false, false),
        ("token_embedding.weight", false, false),
    ] {
        assert_eq!(is_transposed(&gpt2::FAMILY.names, path), in_gpt2, "{path}");
        assert_eq!(is_transposed(&llama::FAMILY.names, path), in_llama, "{path}");
    }
    let stored = |key: &str| gpt2::FAMILY.names.gguf_name(key).unwrap().stored;
    assert_eq!(stored("transformer.h.0.mlp.c_proj.weight"), Stored::Transposed);
    for key in ["transformer.h.0.mlp.c_proj.bias", "transformer.h.0.ln_1.weight", "lm_head.weight"] {
        assert_eq!(stored(key), Stored::AsIs, "{key}");
    }
}

#[test]
fn a_bias_that_only_files_have_is_zero() {
    let config = GptConfig::debug();
    let key = |key: &str| gpt2::FAMILY.names.zero_bias_key(key, &config);
    assert_eq!(key("transformer.h.1.mlp.c_fc.weight").as_deref(), Some("transformer.h.1.mlp.c_fc.bias"));
    assert_eq!(key("transformer.ln_f.weight").as_deref(), Some("transformer.ln_f.bias"));
    for other in ["transformer.wte.weight", "lm_head.weight", "transformer.ln_f.bias", "x.weight"] {
        assert_eq!(key(other), None, "{other}");
    }
    let biased = GptConfig { bias: true, ..config };
    assert_eq!(gpt2::FAMILY.names.zero_bias_key("transformer.ln_f.weight", &biased), None);
}

#[test]
fn unknown_names_are_not_mapped() {
    for (family, key) in [
        (&gpt2::FAMILY, ""),
        (&gpt2::FAMILY, "wte"),
        (&gpt2::FAMILY, "transformer.wte.bias"),
        (&gpt2::FAMILY, "transformer.h.0.attn.masked_bias"),
        (&gpt2::FAMILY, "transformer.h.x.ln_1.weight"),
        (&gpt2::FAMILY, "transformer.h.0.ln_3.weight"),
        (&gpt2::FAMILY, "transformer.h.0.weight"),
        (&llama::FAMILY, "transformer.wte.weight"),
        (&llama::FAMILY, "model.layers.0.input_layernorm.bias"),
        (&qwen3::FAMILY, "model.layers.0.self_attn.q_proj.bias"),
        (&llama::FAMILY, "model.layers.0.self_attn.q_norm.weight"),
        (&qwen3::FAMILY, "model.layers.0.self_attn.rotary_emb.inv_freq"),
        (&qwen3::FAMILY, "model.norm.bias"),
    ] {
        assert_eq!(family.names.gguf_name(key), None, "{key}");
    }
    for (family, name) in [
        (&llama::FAMILY, "rope_freqs.weight"),
        (&llama::FAMILY, "blk.0.ffn_gate_inp.weight"),
        (&qwen3::FAMILY, "blk.0.attn_q.bias"),
        (&gpt2::FAMILY, "blk.0.attn_q.weight"),
    ] {
        assert_eq!(family.names.key_from_gguf(name), None, "{name}");
    }
    assert_eq!(llama::FAMILY.names.key("model.layers.0.self_attn.rotary_emb.inv_freq"), None);
    assert_eq!(gpt2::FAMILY.names.key("h.0.attn.bias"), None);
}

/// Made by xtask/golden/gguf_files.py: lines of an architecture, a Hugging Face key and the GGUF name.
#[test]
fn names_match_llama_cpps_package() {
    for line in include_str!("../tests/fixtures/names.txt").lines() {
        let [model_type, key, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let family = FAMILIES.iter().find(|family| family.model_type == model_type).expect(line);
        assert_eq!(family.names.gguf_name(key).expect(line).name, name);
        assert_eq!(family.names.key_from_gguf(name).expect(line).name, key);
    }
}
