//! Files and folders that look like models but can't be opened: the error says what they are and how to get a model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    gguf_files::write_model_with,
    support::{fixture, kindling, ran, run, trained},
};

/// A Git LFS pointer, which a clone without Git LFS has in place of a file.
const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 269060552\n";

const POINTER_ADVICE: &str =
    "is a Git LFS pointer, not the file itself; run git lfs pull in the cloned folder";

/// A copy of the trained model.
fn copy_to(folder: &Path, name: &str) -> PathBuf {
    let model = folder.join(name);
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(trained().join("runs/debug").join(file), model.join(file)).unwrap();
    }
    model
}

/// Checks that every command that opens MODEL fails with the same one-line error.
#[track_caller]
fn check_refused(folder: &Path, model: &str, expected: &str) {
    fs::write(folder.join("my.txt"), "To be, or not to be: that is the question.\n".repeat(20)).unwrap();
    for args in [
        &["generate", model][..],
        &["score", model, "--text", "To be"],
        &["export", model, "--format", "safetensors"],
        &["train", "finetune", "--data", "my.txt", "--run", "new", "--init-from", model],
    ] {
        let error = run(folder, args).failure();
        assert!(error.contains(expected), "{args:?}: {error}");
        assert_eq!(error.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{args:?}: {error}");
        assert!(!error.contains("copy or download it again"), "{args:?}: {error}");
    }
    assert!(!folder.join("runs/new").exists());
}

#[test]
fn git_lfs_pointers_are_recognised_in_place_of_any_file() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        let name = file.replace('.', "-");
        fs::write(copy_to(folder.path(), &name).join(file), POINTER).unwrap();
        check_refused(folder.path(), &name, &format!("{name}/{file} {POINTER_ADVICE}"));
    }
    let shards = copy_to(folder.path(), "shards");
    fs::remove_file(shards.join("model.safetensors")).unwrap();
    let index = r#"{"weight_map": {"transformer.wte.weight": "model-00001-of-00001.safetensors"}}"#;
    fs::write(shards.join("model.safetensors.index.json"), index).unwrap();
    fs::write(shards.join("model-00001-of-00001.safetensors"), POINTER).unwrap();
    check_refused(
        folder.path(),
        "shards",
        &format!("shards/model-00001-of-00001.safetensors {POINTER_ADVICE}"),
    );
    let pickle = copy_to(folder.path(), "pickle");
    fs::remove_file(pickle.join("model.safetensors")).unwrap();
    fs::write(pickle.join("pytorch_model.bin"), POINTER).unwrap();
    check_refused(folder.path(), "pickle", &format!("pickle/pytorch_model.bin {POINTER_ADVICE}"));
    for file in ["small.gguf", "ckpt.pt"] {
        fs::write(folder.path().join(file), POINTER).unwrap();
        check_refused(folder.path(), file, &format!("{file} {POINTER_ADVICE}"));
        let error = run(folder.path(), &["import", file]).failure();
        assert!(error.contains(&format!("{file} {POINTER_ADVICE}")), "{error}");
    }
    let checkpoint = fixture("../checkpoint/tests/fixtures/layouts/nanogpt/ckpt.pt");
    fs::copy(checkpoint, folder.path().join("ckpt.pt")).unwrap();
    for tokenizer in ["tokenizer-json/tokenizer.json", "meta.pkl"] {
        fs::write(folder.path().join("meta.pkl"), POINTER).unwrap();
        let error = run(folder.path(), &["import", "ckpt.pt", "--tokenizer", tokenizer]).failure();
        assert!(error.contains(&format!("{tokenizer} {POINTER_ADVICE}")), "{error}");
    }
}

#[test]
fn adapters_without_their_base_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    let config = r#"{"peft_type": "LORA", "base_model_name_or_path": "someone/base", "r": 8}"#;
    fs::write(adapter.join("adapter_config.json"), config).unwrap();
    fs::write(adapter.join("adapter_model.safetensors"), "").unwrap();
    check_refused(
        folder.path(),
        "adapter",
        "adapter is a LoRA adapter of someone/base, which is not a folder or GGUF file here; download or import that model",
    );
    write_model_with(folder.path(), "adapter.gguf", &[("general.type", "adapter".into())]);
    let error = run(folder.path(), &["generate", "adapter.gguf"]).failure();
    assert!(
        error.contains("adapter.gguf: it is a LoRA adapter (`general.type` is \"adapter\"), not a model"),
        "{error}"
    );
    // Beside a whole model, the adapter is ignored with a warning.
    let whole = copy_to(folder.path(), "whole");
    fs::copy(adapter.join("adapter_config.json"), whole.join("adapter_config.json")).unwrap();
    let opened = run(folder.path(), &["generate", "whole", "--max-tokens", "1"]).success();
    assert!(opened.stderr.contains("whole: ignoring the adapter beside the weights (adapter_config.json)"));
}

#[test]
fn a_part_of_a_split_gguf_model_without_the_others_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let part = [("split.no", formats::gguf::Value::U16(2)), ("split.count", formats::gguf::Value::U16(5))];
    write_model_with(folder.path(), "small-00003-of-00005.gguf", &part);
    for command in ["generate", "info", "import"] {
        let error = run(folder.path(), &[command, "small-00003-of-00005.gguf"]).failure();
        assert!(
            error.contains(
                "it is one of 5 parts of a model, of which these are missing: small-00001-of-00005.gguf, "
            ),
            "{error}"
        );
    }
}

#[test]
fn folders_with_missing_or_unsupported_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let without = |name: &str, file: &str| {
        let model = copy_to(folder.path(), name);
        fs::remove_file(model.join(file)).unwrap();
        model
    };
    fs::write(without("shards", "model.safetensors").join("model-00001-of-00003.safetensors"), "").unwrap();
    check_refused(
        folder.path(),
        "shards",
        "shards has weights in shards, such as model-00001-of-00003.safetensors, but no model.safetensors.index.json",
    );
    fs::write(without("sentencepiece", "tokenizer.json").join("tokenizer.model"), "").unwrap();
    check_refused(
        folder.path(),
        "sentencepiece",
        "sentencepiece has a SentencePiece tokenizer (tokenizer.model) but no tokenizer.json; convert it: \
         python3 -c 'from transformers import AutoTokenizer; \
         AutoTokenizer.from_pretrained(\"sentencepiece\").save_pretrained(\"sentencepiece\")'",
    );
    without("sizes", "config.json");
    check_refused(
        folder.path(),
        "sizes",
        "sizes has weights (model.safetensors) but no config.json; put the config.json of the model",
    );
    fs::write(without("flax", "model.safetensors").join("flax_model.msgpack"), "").unwrap();
    check_refused(
        folder.path(),
        "flax",
        "flax has only Flax weights (flax_model.msgpack), which are not supported",
    );
    let quantized = copy_to(folder.path(), "quantized");
    let config = fs::read_to_string(quantized.join("config.json")).unwrap();
    let settings = "{\n  \"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4},";
    fs::write(quantized.join("config.json"), config.replacen('{', settings, 1)).unwrap();
    check_refused(
        folder.path(),
        "quantized",
        "quantized/config.json: its weights are quantized (awq), which is not supported",
    );
    fs::create_dir(folder.path().join("files")).unwrap();
    write_model_with(&folder.path().join("files"), "small.gguf", &[]);
    check_refused(
        folder.path(),
        "files",
        "files is a folder with GGUF files; give the file: files/small.gguf",
    );
}

#[test]
fn the_error_for_a_pytorch_checkpoint_says_how_to_import_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let fixtures = fixture("../checkpoint/tests/fixtures/layouts");
    fs::copy(fixtures.join("nanogpt_first/ckpt.pt"), out.join("ckpt.pt")).unwrap();
    fs::copy(fixtures.join("checkpoints/gpt2.pt"), out.join("a.pt")).unwrap();
    let import = "import the checkpoint first, then use the run: kindling import out/ckpt.pt --run NAME";
    check_refused(folder.path(), "out/ckpt.pt", import);
    check_refused(folder.path(), "out", import);
    // A checkpoint that can't be imported is refused as `import` refuses it.
    check_refused(
        folder.path(),
        "out/a.pt",
        "out/a.pt is a bare state dict without the sizes of the model; name it pytorch_model.bin",
    );
    fs::copy(fixtures.join("checkpoints/llama2c.pt"), folder.path().join("llama2c.pt")).unwrap();
    check_refused(folder.path(), "llama2c.pt", "llama2c.pt is a llama2.c checkpoint");
    check_refused(
        folder.path(),
        "my.txt",
        "my.txt is not a model; give a run, a model folder or a GGUF file",
    );
    check_refused(
        trained(),
        "runs/debug/model.safetensors",
        "is one file of a model; give its folder: runs/debug",
    );

    // The suggested import works.
    let tokenizer = trained().join("runs/debug/tokenizer.json");
    let import = ["import", "out/ckpt.pt", "--run", "first", "--tokenizer", tokenizer.to_str().unwrap()];
    let error = run(folder.path(), &import).failure();
    assert!(
        error.contains("the tokenizer has 65 tokens, but the model only 12; use the tokenizer that the model was trained with"),
        "{error}"
    );
    let letters = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "merges": [],
        "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6, "h": 7, "i": 8, "j": 9, "k": 10, "l": 11}}}"#;
    fs::write(folder.path().join("letters.json"), letters).unwrap();
    run(folder.path(), &["import", "out/ckpt.pt", "--run", "first", "--tokenizer", "letters.json"]).success();
    let text =
        run(folder.path(), &["generate", "first", "--prompt", "abc", "--max-tokens", "4"]).success().stdout;
    assert_eq!(text.trim_end().len(), 7, "{text}");
}

#[cfg(unix)]
#[test]
fn a_pipe_or_device_is_refused_as_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    for path in ["/dev/null", "pipe"] {
        for command in ["generate", "import"] {
            let error = run(folder.path(), &[command, path]).failure();
            assert!(error.contains(&format!("{path} is a pipe or device")), "{error}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf_8_is_imported() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let folder = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::rename(copy_to(folder.path(), "cafe"), folder.path().join(name)).unwrap();
    ran(kindling(folder.path(), &["import", "--run", "c"]).arg(name)).success();
    assert!(folder.path().join("runs/c/model.safetensors").is_file());
    let error = ran(kindling(folder.path(), &["import"]).arg(OsStr::from_bytes(b"th\xe9"))).failure();
    assert!(error.contains("there is no file or folder th"), "{error}");
}
