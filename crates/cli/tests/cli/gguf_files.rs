//! A GGUF file as a model: a small Llama whose vocabulary puts a BOS token before every text.

use std::{fs, path::Path};

use families::{
    Family,
    gguf::{FileType, metadata, tensors},
};
use formats::gguf::{self, Gguf, Vocabulary};
use model::{AttentionConfig, GptConfig, NormConfig};
use serde_json::Value;

use crate::support::{fixture, run, trained};

/// Writes `small.gguf`, with pseudo-random weights and the tokens of a fixture.
pub(crate) fn write_model(folder: &Path) {
    write_model_with(folder, "small.gguf", &[]);
}

/// Like [`write_model`], with another name and with some metadata keys replaced.
pub(crate) fn write_model_with(folder: &Path, name: &str, keys: &[(&str, gguf::Value)]) {
    let bytes =
        fs::read(fixture("../tokenizer/tests/fixtures/gguf/scores.gguf")).expect("the fixture is committed");
    let vocabulary = Vocabulary::read(&Gguf::parse(&bytes).expect("a fixture")).expect("a fixture");
    let modern = GptConfig::debug_modern();
    let mut config = GptConfig {
        vocab_size: vocabulary.tokens.len(),
        block_size: 32,
        n_embd: 32,
        tie_embeddings: true,
        attention: AttentionConfig {
            n_head: 4,
            n_kv_head: Some(2),
            head_dim: None,
            qk_norm: false,
            ..modern.attention
        },
        norm: NormConfig { epsilon: 1e-5, ..modern.norm },
        ..modern
    };
    config.feed_forward.n_inner = Some(64);
    let family = Family::of(&config).expect("it is a Llama");
    let ty = FileType::Q8_0;
    let mut metadata = metadata(&config, family, "small", ty, &vocabulary).expect("a vocabulary that fits");
    metadata.retain(|(key, _)| keys.iter().all(|(other, _)| key != other));
    metadata.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let mut file = Vec::new();
    let mut state = 1_u32;
    gguf::write(&mut file, &metadata, &tensors(&config, family, ty), |tensor| {
        let n_values: usize = tensor.dims.iter().product();
        let mut value = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32_768.0 - 1.0
        };
        Ok::<_, gguf::Error>((0..n_values).map(&mut value).collect())
    })
    .expect("numbers that every type holds");
    fs::write(folder.join(name), file).expect("there is room for it");
}

fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&run(folder, args).success().stdout).unwrap()
}

#[test]
fn a_gguf_file_can_be_used_directly_and_after_import() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let info = json(folder.path(), &["info", "small.gguf", "--json"]);
    assert_eq!((&info["layers"], &info["block_size"], &info["bias"]), (&2.into(), &32.into(), &false.into()));
    assert_eq!(info["tokenizer"], "from elsewhere");
    assert_eq!(info["gguf"]["architecture"], "llama");
    // Norms are vectors and stay f32; all else has the requested type.
    assert_eq!(info["gguf"]["weight_types"], serde_json::json!({ "f32": 5, "q8_0": 15 }));
    let text = run(folder.path(), &["info", "small.gguf"]).success().stdout;
    assert!(
        text.contains("layout      GGUF, llama\n")
            && text.contains("memory-mapped for inference on the CPU\n  types       f32          640 B, 5 tensors\n              q8_0 "),
        "{text}"
    );
    assert!(text.contains("position = rope, norm = rms_norm, activation = swiglu, n_kv_head = 2"), "{text}");

    // The BOS token precedes the text and is not scored.
    let score = json(folder.path(), &["score", "small.gguf", "--text", "the kettle", "--json"]);
    assert_eq!((&score["ids"][0], &score["tokens"][0]), (&1.into(), &"<s>".into()));
    assert_eq!((&score["tokens"][1], score["logprobs"][1].is_number()), (&" the".into(), true));
    fs::write(folder.path().join("text.txt"), "the kettle").unwrap();
    let eval = json(folder.path(), &["eval", "small.gguf", "--data", "text.txt", "--json"]);
    let n_tokens = score["ids"].as_array().unwrap().len();
    assert_eq!((&eval["tokens"], &eval["bytes"]), (&(n_tokens - 1).into(), &10.into()));
    let bits = eval["loss"].as_f64().unwrap() * (n_tokens - 1) as f64 / std::f64::consts::LN_2 / 10.0;
    assert!((eval["bits_per_byte"].as_f64().unwrap() - bits).abs() < 1e-9, "all ten bytes are predicted");
    let empty = run(folder.path(), &["score", "small.gguf", "--text", ""]).failure();
    assert!(empty.contains("the text is empty"), "{empty}");

    let imported = run(folder.path(), &["import", "small.gguf"]).success();
    assert!(imported.stderr.contains("generate runs/small"), "{}", imported.stderr);
    let options =
        ["--prompt", "the kettle", "--temperature", "0", "--max-tokens", "40", "--seed", "1", "--json"];
    let generated = |model: &[&str]| json(folder.path(), &[&["generate"], model, &options[..]].concat());
    let unpacked = generated(&["small"]);
    assert_eq!(generated(&["small.gguf", "--weights", "f32"]), unpacked);
    assert_ne!(generated(&["small.gguf"]), unpacked, "the weights of the file were unpacked");
    // A type can be chosen in any case; it needs the CPU.
    assert_ne!(generated(&["small", "--weights", "Q4_0"]), unpacked);
    let wrong = run(folder.path(), &["generate", "small.gguf", "--weights", "q3"]).usage_failure();
    assert!(
        wrong.contains("invalid value 'q3' for '--weights <TYPE>'") && wrong.contains("q4_K_M"),
        "{wrong}"
    );
    let again = json(folder.path(), &["score", "small", "--text", "the kettle", "--json"]);
    assert_eq!(again["ids"], score["ids"]);

    // There is no recipe, so training is not measured.
    let bench = ["--decode", "3", "--json"];
    let [bench, imported] =
        ["small.gguf", "small"].map(|model| json(folder.path(), &[&["bench", model], &bench[..]].concat()));
    assert!(bench["train"].is_null() && bench["prefill"]["tokens"] == 32, "{bench}");
    let bytes = |bench: &Value| bench["decode"]["bytes_read"].as_u64().unwrap();
    assert!(bytes(&bench) < bytes(&imported) / 2, "{bench} {imported}");

    // An export keeps the tokenizer.
    run(folder.path(), &["export", "small", "--format", "gguf", "-o", "again.gguf"]).success();
    assert_eq!(generated(&["again.gguf"]), unpacked);
    let text = ["--text", " the  kettle\n<tool> 12 é", "--json"];
    let [first, second] = ["small.gguf", "again.gguf"]
        .map(|model| json(folder.path(), &[&["score", model], &text[..]].concat())["ids"].clone());
    assert_eq!(first, second);
    // A fine-tuned model keeps its special tokens, so it can be exported too.
    fs::write(folder.path().join("more.txt"), "the kettle is singing\n".repeat(40)).unwrap();
    let few =
        ["--set", "schedule.max_steps=1", "--set", "schedule.eval_batches=1", "--set", "model.block_size=8"];
    let train = ["train", "finetune", "--init-from", "small", "--data", "more.txt", "--run", "more"];
    run(folder.path(), &[&train[..], &few].concat()).success();
    let special_tokens = |run: &str| {
        let file = fs::read_to_string(folder.path().join("runs").join(run).join("generation_config.json"));
        serde_json::from_str::<Value>(&file.unwrap()).unwrap()
    };
    assert_eq!(special_tokens("more"), special_tokens("small"));
    let more = special_tokens("more");
    assert_eq!((&more["bos_token_id"], &more["eos_token_id"]), (&1.into(), &2.into()));
    run(folder.path(), &["export", "more", "--format", "gguf"]).success();
}

#[test]
fn a_generated_word_keeps_its_leading_space() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let bias = ["--logit-bias", " kettle=100", "--max-tokens", "2"];
    let after = |prompt: &str| {
        let args = [&["generate", "small.gguf", "--prompt", prompt], &bias[..]].concat();
        run(folder.path(), &args).success().stdout
    };
    assert_eq!(after("the").trim_end_matches('\n'), "the kettle kettle");
    assert_eq!(after("").trim_end_matches('\n'), "kettle kettle");
}

#[test]
fn commands_that_do_not_support_gguf_files_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let fails = |args: &[&str]| run(folder.path(), args).failure();
    let refused = run(folder.path(), &["import", "small.gguf", "--tokenizer", "gpt2"]).usage_failure();
    assert!(refused.contains("small.gguf has its own"), "{refused}");
    let refused = fails(&["plot", "small.gguf"]);
    assert!(refused.contains("has no metrics; name a run that was trained here"), "{refused}");
    let refused = fails(&["eval", "small.gguf"]);
    assert!(refused.contains("name a text with --data"), "{refused}");
    fs::write(folder.path().join("other.gguf"), b"no such thing").unwrap();
    let refused = fails(&["generate", "other.gguf"]);
    assert!(refused.contains("other.gguf: not a GGUF file"), "{refused}");
}

#[test]
fn a_damaged_gguf_file_is_described() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let path = folder.path().join("small.gguf");
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        run(folder.path(), &["generate", "small.gguf"]).failure()
    };
    let error = refused(b"");
    assert!(error.contains("small.gguf: the file is empty; copy or download it again"), "{error}");
    for part in [3, 20, 500, whole.len() - 1] {
        let error = refused(&whole[..part]);
        assert!(error.contains("small.gguf: the file is truncated or damaged: "), "{part}: {error}");
    }
    // The scale of the last block is NaN.
    let mut broken = whole.clone();
    let last = Gguf::parse(&whole).unwrap().tensor("blk.1.attn_k.weight").unwrap().bytes.as_ptr().addr();
    let place = last - whole.as_ptr().addr();
    broken[place..place + 2].copy_from_slice(&[0xFF, 0x7F]);
    let error = refused(&broken);
    assert!(
        error.contains(
            "blk.1.attn_k.weight in small.gguf has the value NaN at index 0; weights must be finite"
        ),
        "{error}"
    );
    assert!(!error.contains("layers"), "{error}");
}

#[test]
fn an_exported_gguf_file_can_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("debug.gguf").to_str().unwrap().to_owned();
    run(trained(), &["export", "debug", "--format", "gguf", "--dtype", "f32", "-o", &path]).success();
    let [here, there] = ["debug", &path].map(|model| json(trained(), &["info", model, "--json"]));
    assert_eq!((&here["tokenizer"], &here["vocab_size"]), (&there["tokenizer"], &there["vocab_size"]));
    let [here, there] =
        ["debug", &path].map(|model| json(trained(), &["score", model, "--text", "To be or not", "--json"]));
    assert_eq!(here["ids"], there["ids"]);
    // Everything but the GELU approximation is the same.
    let difference = here["mean_logprob"].as_f64().unwrap() - there["mean_logprob"].as_f64().unwrap();
    assert!(difference.abs() < 1e-2, "{difference}");
}
