//! `kindling quantize`, and models in several files.

use std::fs;

use formats::gguf::{self, Gguf, TensorInfo, Value};
use serde_json::Value as Json;

use crate::{
    gguf_files::write_model,
    support::{run, trained},
};

fn json(output: &str) -> Json {
    serde_json::from_str(output).unwrap()
}

#[test]
fn a_run_is_quantised_and_compared_on_its_validation_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let quantize = |ty: &str, more: &[&str]| {
        run(trained(), &[&["quantize", "debug", "--type", ty, "--tokens", "200"], more].concat())
    };
    let mut divergences = Vec::new();
    for ty in ["f32", "q8_0", "q4_0"] {
        let ran = quantize(ty, &["--json", "-o", &path(ty)]).success();
        assert!(ran.stderr.contains("validation part of"), "{}", ran.stderr);
        let report = json(&ran.stdout);
        let comparison = &report["comparison"];
        assert_eq!((&report["type"], &comparison["tokens"]), (&ty.into(), &200.into()));
        assert!(comparison["perplexity"].as_f64().unwrap() > 1.0, "{report}");
        // The file has the tensors, and metadata before them.
        let size = fs::metadata(path(ty)).unwrap().len();
        assert!(report["tensor_bytes"].as_u64().unwrap() < size, "{report}");
        divergences.push(comparison["kl_divergence"].as_f64().unwrap());
    }
    // llama.cpp's GELU is approximate.
    assert!(divergences[0] < 1e-4 && divergences[1] < divergences[2], "{divergences:?}");

    let text = quantize("q8_0", &["-o", &path("text")]).success().stdout;
    for line in [
        "size  ",
        "perplexity  ",
        "KL divergence  ",
        "same first  ",
        "over           200 tokens in windows of 16\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let refused = quantize("q8_0", &["-o", &path("text")]).failure();
    assert!(refused.contains("text already exists; choose another path with -o"), "{refused}");
    let refused = quantize("q4_K_X", &["-o", &path("other")]).usage_failure();
    assert!(refused.contains("q4_K_M"), "{refused}");
    assert!(!folder.path().join("other").exists());
}

#[test]
fn a_dry_run_prints_types_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let dry_run = |more: &[&str]| {
        let args = [&["quantize", "small.gguf", "--type", "Q4_k_m", "--dry-run"], more].concat();
        run(folder.path(), &args).success().stdout
    };
    let text = dry_run(&[]);
    // Rows of 32 and 64 values have no blocks of 256.
    assert!(text.contains("blk.*.attn_q.weight       q5_0"), "{text}");
    assert!(text.contains("token_embd.weight         q8_0"), "{text}");
    assert!(text.contains(" bits per weight (f32: "), "{text}");
    let report = json(&dry_run(&["--json"]));
    assert_eq!((&report["path"], &report["comparison"]), (&Json::Null, &Json::Null));
    let bytes = report["tensors"].as_array().unwrap().iter().map(|group| group["bytes"].as_u64().unwrap());
    assert_eq!(bytes.sum::<u64>(), report["tensor_bytes"].as_u64().unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the model");
}

#[test]
fn an_imported_model_is_quantised_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    fs::write(folder.path().join("my.txt"), "the kettle is singing\n".repeat(9)).unwrap();
    let args = ["quantize", "small.gguf", "--type", "q5_1", "--data", "my.txt", "--json"];
    let ran = run(folder.path(), &args).success();
    assert!(ran.stderr.contains("small.gguf is already quantised (q8_0)"), "{}", ran.stderr);
    assert_eq!(json(&ran.stdout)["path"], "small-q5_1.gguf");
    let info = json(&run(folder.path(), &["info", "small-q5_1.gguf", "--json"]).success().stdout);
    // The head, which is the token embedding, has more bits.
    assert_eq!(info["gguf"]["weight_types"], serde_json::json!({ "f32": 5, "q5_1": 14, "q8_0": 1 }));
    let types = info["gguf"]["weight_type_bytes"].as_object().unwrap();
    let all: u64 = types.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(all, json(&ran.stdout)["tensor_bytes"].as_u64().unwrap());
    let text = run(folder.path(), &["info", "small-q5_1.gguf"]).success().stdout;
    assert!(text.contains("  types       f32") && text.contains("              q5_1"), "{text}");

    let skipped = run(folder.path(), &["quantize", "small.gguf", "--type", "f16", "--tokens", "0"]).success();
    assert!(!skipped.stdout.contains("perplexity"), "{}", skipped.stdout);
}

/// Splits `small.gguf` into three files, as `llama-gguf-split` does.
fn split(folder: &std::path::Path) {
    let bytes = fs::read(folder.join("small.gguf")).unwrap();
    let whole = Gguf::parse(&bytes).unwrap();
    let tensors = whole.tensors();
    for (number, range) in [(0_u16, 0..0), (1, 0..7), (2, 7..tensors.len())] {
        let mut keys = vec![
            ("split.no".to_owned(), Value::U16(number)),
            ("split.count".to_owned(), Value::U16(3)),
            ("split.tensors.count".to_owned(), Value::I32(i32::try_from(tensors.len()).unwrap())),
        ];
        if number == 0 {
            keys.extend(whole.metadata().iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        }
        let info = tensors[range].iter().map(|tensor| TensorInfo {
            name: tensor.name.to_owned(),
            dims: tensor.dims.clone(),
            ty: tensor.ty,
        });
        let mut part = Vec::new();
        gguf::write(&mut part, &keys, &info.collect::<Vec<_>>(), |tensor| {
            Ok::<_, gguf::Error>(whole.tensor(&tensor.name).unwrap().to_f32().into())
        })
        .unwrap();
        fs::write(folder.join(format!("parts-{:05}-of-00003.gguf", number + 1)), part).unwrap();
    }
}

#[test]
fn any_part_of_a_split_model_opens_all() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    split(folder.path());
    let score = |model: &str| {
        json(&run(folder.path(), &["score", model, "--text", "the kettle", "--json"]).success().stdout)
    };
    let expected = score("small.gguf");
    for part in 1..=3 {
        assert_eq!(score(&format!("parts-{part:05}-of-00003.gguf"))["logprobs"], expected["logprobs"]);
    }
    let info = |model: &str| json(&run(folder.path(), &["info", model, "--json"]).success().stdout);
    let [whole, parts] = ["small.gguf", "parts-00002-of-00003.gguf"].map(info);
    assert_eq!(whole["gguf"], parts["gguf"]);
    let sizes = (1..=3).map(|part| {
        fs::metadata(folder.path().join(format!("parts-{part:05}-of-00003.gguf"))).unwrap().len()
    });
    assert_eq!(parts["weights_bytes"], sizes.sum::<u64>());

    let rename = |from: &str, to: &str| fs::rename(folder.path().join(from), folder.path().join(to)).unwrap();
    rename("parts-00002-of-00003.gguf", "second.gguf");
    for part in ["parts-00001-of-00003.gguf", "parts-00003-of-00003.gguf"] {
        let error = run(folder.path(), &["generate", part]).failure();
        assert!(
            error.contains("of which these are missing: parts-00002-of-00003.gguf; copy or download"),
            "{error}"
        );
    }
    let error = run(folder.path(), &["generate", "second.gguf"]).failure();
    assert!(error.contains("part 2 of 3 of a model") && error.contains("-00002-of-00003"), "{error}");
    // A part under the name of another.
    fs::copy(
        folder.path().join("parts-00003-of-00003.gguf"),
        folder.path().join("parts-00002-of-00003.gguf"),
    )
    .unwrap();
    let error = run(folder.path(), &["generate", "parts-00001-of-00003.gguf"]).failure();
    assert!(error.contains("part 2 of the split model is wrong: `split.no` is 2, expected 1"), "{error}");
}
