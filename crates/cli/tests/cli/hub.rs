//! Models on the Hugging Face hub, with a local mock server.

mod mock_hub;

use std::{fs, net::TcpListener, path::Path, sync::OnceLock};

use serde_json::Value;

use self::mock_hub::{Access, Files, Hub, Repository, commit};
use crate::support::{ran, run, trained};

const WEIGHTS: &str = "model.safetensors";

/// The run `debug` as a folder for the hub.
fn model() -> Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| exported("f32")).clone()
}

fn exported(dtype: &str) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    let path = output.to_str().unwrap();
    run(trained(), &["export", "debug", "--format", "safetensors", "--dtype", dtype, "-o", path]).success();
    let file =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(output).unwrap().map(|entry| file(entry.unwrap())).collect()
}

/// The run `debug` as a GGUF file.
fn gguf(dtype: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("debug.gguf");
    let path = output.to_str().unwrap();
    run(trained(), &["export", "debug", "--format", "gguf", "--dtype", dtype, "-o", path]).success();
    fs::read(output).unwrap()
}

/// The files of a model, with one replaced or added.
fn with(mut files: Files, name: &str, data: impl Into<Vec<u8>>) -> Files {
    files.insert(name.to_owned(), data.into());
    files
}

fn named(names: &[&str]) -> Files {
    names.iter().map(|name| ((*name).to_owned(), b"{}".to_vec())).collect()
}

/// The log-probabilities of a text by a model.
fn scored(folder: &Path, model: &str) -> Value {
    let score = run(folder, &["score", model, "--text", "To be, or not", "--json"]).success().stdout;
    serde_json::from_str::<Value>(&score).unwrap()["logprobs"].clone()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[track_caller]
fn check_contains(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn the_config_is_downloaded_first_and_the_weights_last() {
    let (hub, here) = (Hub::new().with("me/tiny", with(model(), "README.md", "a card")), folder());
    let imported = hub.import(here.path(), &["me/tiny"]).success().stderr;
    check_contains(&imported, &["downloading model.safetensors of me/tiny (", "generate runs/tiny"]);
    let downloaded = hub.downloaded();
    assert_eq!((downloaded[0].as_str(), downloaded.last().unwrap().as_str()), ("config.json", WEIGHTS));
    assert!(downloaded.contains(&"tokenizer.json".to_owned()), "{downloaded:?}");
    assert!(!downloaded.contains(&"README.md".to_owned()), "{downloaded:?}");
    assert_eq!(scored(here.path(), "tiny"), scored(trained(), "debug"));

    // A second import downloads nothing, because the cache has all files.
    let again = hub.import(here.path(), &["me/tiny"]).success().stderr;
    check_contains(&again, &["generate runs/tiny-2"]);
    assert!(!again.contains("downloading"), "{again}");
    assert_eq!(hub.downloaded(), Vec::<String>::new());
}

#[test]
fn an_unsupported_model_is_refused_before_its_weights_are_downloaded() {
    let config = String::from_utf8(model()["config.json"].clone()).unwrap();
    let hub = Hub::new()
        .with("me/other", with(model(), "config.json", config.replace("\"gpt2\"", "\"gemma3\"")))
        .with("me/uneven", with(model(), "config.json", config.replace("\"n_head\": ", "\"n_head\": 1")))
        .with("me/torn", with(model(), "tokenizer.json", "{\"version\": \"1.0\""));
    let here = folder();
    for (name, reason) in
        [("me/other", "`model_type` is \"gemma3\""), ("me/uneven", "n_head"), ("me/torn", "the tokenizer of")]
    {
        let error = hub.import(here.path(), &[name]).failure();
        check_contains(&error, &[&format!("cannot import {name}; its weights were not downloaded"), reason]);
        let downloaded = hub.downloaded();
        assert!(downloaded.contains(&"config.json".to_owned()), "{downloaded:?}");
        assert!(!downloaded.contains(&WEIGHTS.to_owned()), "{downloaded:?}");
    }
    assert!(!here.path().join("runs").exists());
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let half = exported("bf16");
    let revisions = vec![("main", model()), ("v1.0", half.clone()), ("refs/pr/1", named(&["config.json"]))];
    let repository = Repository { revisions, ..model().into() };
    let (hub, here) = (Hub::new().with("me/tiny", repository), folder());
    hub.import(here.path(), &["me/tiny@v1.0"]).success();
    let first = scored(here.path(), "tiny");
    assert_ne!(first, scored(trained(), "debug"), "the weights of v1.0 are rounded");
    hub.import(here.path(), &["me/tiny", "--run", "whole"]).success();
    assert_eq!(scored(here.path(), "whole"), scored(trained(), "debug"));
    let id = format!("me/tiny@{}", commit("me/tiny", &half));
    hub.import(here.path(), &[&id, "--run", "by-commit"]).success();
    assert_eq!(scored(here.path(), "by-commit"), first);
    let error = hub.import(here.path(), &["me/tiny@refs/pr/1"]).failure();
    check_contains(&error, &["me/tiny@refs/pr/1 has no weights that kindling reads"]);
    let error = hub.import(here.path(), &["me/tiny@v2"]).failure();
    check_contains(&error, &["me/tiny has no branch, tag or commit v2; it has main, v1.0, refs/pr/1"]);
}

#[test]
fn all_files_are_of_one_commit_when_the_branch_has_moved() {
    let (hub, here) = (Hub::new().with("me/tiny", model()), folder());
    hub.import(here.path(), &["me/tiny", "--run", "old"]).success();
    hub.put("me/tiny", exported("bf16"));
    hub.import(here.path(), &["me/tiny", "--run", "new"]).success();
    assert_eq!(scored(here.path(), "old"), scored(trained(), "debug"));
    assert_ne!(scored(here.path(), "new"), scored(here.path(), "old"));
}

#[test]
fn a_local_model_takes_precedence_over_the_hub() {
    let (hub, here) = (Hub::new(), folder());
    let debug = trained().join("runs/debug");
    run(here.path(), &["import", debug.to_str().unwrap(), "--run", "tiny"]).success();
    for name in ["tiny", "tiny@best", "runs/tiny"] {
        hub.import(here.path(), &[name, "--run", &format!("from-{}", name.replace('/', "-"))]).success();
    }
    let error = hub.import(here.path(), &["tiny@7"]).failure();
    check_contains(&error, &["runs/tiny has no weights of step 7"]);
    assert_eq!(hub.seen(), [], "the hub is not asked");
}

#[test]
fn the_token_of_the_environment_takes_precedence_over_the_token_file() {
    let private = |owner| Repository { access: Access::Private(owner), ..model().into() };
    let hub = Hub::new().with("me/private", private("hf_mine"));
    let here = folder();
    let error = hub.import(here.path(), &["me/private"]).failure();
    check_contains(&error, &["has no model me/private", "If it is private, set HF_TOKEN"]);
    assert!(hub.seen().iter().all(|seen| seen.token.is_none()));

    fs::write(hub.home().join("token"), "hf_other\n").unwrap();
    let error = hub.import(here.path(), &["me/private"]).failure();
    let origin = format!("the token in {} has no access to it", hub.home().join("token").display());
    check_contains(&error, &["has no model me/private", &origin]);
    assert!(hub.seen().iter().all(|seen| seen.token.as_deref() == Some("hf_other")));

    ran(hub.command(here.path(), &["me/private"]).env("HF_TOKEN", " hf_mine\n")).success();
    let seen = hub.seen();
    assert!(seen.len() > 3 && seen.iter().all(|seen| seen.token.as_deref() == Some("hf_mine")), "{seen:?}");

    for refused in ["hf_wrong", "hf_expired"] {
        let error = ran(hub.command(here.path(), &["me/private"]).env("HF_TOKEN", refused)).failure();
        check_contains(
            &error,
            &["does not accept the token in HF_TOKEN; create a new one at http://", "/settings/tokens"],
        );
    }
    let error = ran(hub.command(here.path(), &["me/private"]).env("HF_TOKEN", "hf mine")).failure();
    check_contains(&error, &["the token in HF_TOKEN contains spaces"]);
}

#[test]
fn a_gated_model_says_how_to_get_access() {
    let gated = Repository { access: Access::Gated("hf_mine"), ..model().into() };
    let (hub, here) = (Hub::new().with("me/gated", gated), folder());
    let page = format!("Accept its licence on {}/me/gated", hub.endpoint());
    let error = hub.import(here.path(), &["me/gated"]).failure();
    check_contains(&error, &["me/gated is gated. ", &page, "then set HF_TOKEN to a token of your account"]);
    let error = ran(hub.command(here.path(), &["me/gated"]).env("HF_TOKEN", "hf_other")).failure();
    check_contains(&error, &["me/gated is gated, and the token in HF_TOKEN has no access", &page]);
    assert_eq!(hub.downloaded(), ["config.json"; 0], "nothing of it is sent");
    ran(hub.command(here.path(), &["me/gated"]).env("HF_TOKEN", "hf_mine")).success();
}

#[test]
fn the_error_for_an_unknown_name_suggests_a_similar_one() {
    let (hub, here) = (Hub::new().with("Someone/SmolLM2-135M", model()), folder());
    let error = hub.import(here.path(), &["SmolLM2-135m"]).failure();
    let there = format!(
        "there is no file or folder SmolLM2-135m, and on {} the model SmolLM2-135m is",
        hub.endpoint()
    );
    check_contains(&error, &[&there, "missing, private or gated; did you mean Someone/SmolLM2-135M?"]);
    check_contains(
        &error,
        &[&format!("see {}/SmolLM2-135m and set HF_TOKEN to a token with access", hub.endpoint())],
    );
    let error = ran(hub.command(here.path(), &["me/hidden"]).env("HF_TOKEN", "hf_other")).failure();
    check_contains(
        &error,
        &["missing, private or gated", "the token in HF_TOKEN has no access", "/me/hidden"],
    );
    let error = hub.import(here.path(), &["me/nothing-alike"]).failure();
    check_contains(&error, &["there is no file or folder me/nothing-alike"]);
    assert!(!error.contains("did you mean"), "{error}");

    let debug = trained().join("runs/debug");
    run(here.path(), &["import", debug.to_str().unwrap(), "--run", "shakespeare"]).success();
    let error = hub.import(here.path(), &["shakespear"]).failure();
    check_contains(&error, &["; did you mean shakespeare?"]);
}

#[test]
fn without_a_network_the_cache_is_used() {
    let (hub, here) = (Hub::new().with("me/tiny", model()), folder());
    hub.import(here.path(), &["me/tiny", "--run", "online"]).success();
    hub.seen();
    // A port without a listener.
    let unused_endpoint = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unused_endpoint = format!("http://{unused_endpoint}");
    let offline = |name: &str, run: &str| {
        ran(hub.command(here.path(), &[name, "--run", run]).env("HF_ENDPOINT", &unused_endpoint))
    };
    let stderr = offline("me/tiny", "offline").success().stderr;
    check_contains(
        &stderr,
        &[
            "warning:",
            &format!("{unused_endpoint} cannot be reached"),
            "using the copy of me/tiny in the cache",
        ],
    );
    assert_eq!(scored(here.path(), "offline"), scored(trained(), "debug"));
    let error = offline("me/new", "new").failure();
    check_contains(
        &error,
        &[
            &format!("there is no file or folder me/new, and {unused_endpoint} cannot be reached"),
            "has no copy of it",
        ],
    );
    assert_eq!(hub.seen(), []);

    let asked = |name: &str, run: &str| {
        ran(hub.command(here.path(), &[name, "--run", run]).env("HF_HUB_OFFLINE", "1"))
    };
    check_contains(
        &asked("me/tiny", "asked").success().stderr,
        &["HF_HUB_OFFLINE is set; using the copy of me/tiny"],
    );
    check_contains(
        &asked("me/new", "new").failure(),
        &["HF_HUB_OFFLINE is set. The cache", "To download it, unset HF_HUB_OFFLINE"],
    );
    assert_eq!(hub.seen(), [], "the hub is not asked");

    hub.answer_all_with(503);
    let stderr = hub.import(here.path(), &["me/tiny", "--run", "busy"]).success().stderr;
    check_contains(&stderr, &["is unavailable at the moment (HTTP status 503", "using the copy of me/tiny"]);
    let error = ran(hub.command(here.path(), &["me/tiny"]).env("HF_ENDPOINT", "hub of mine")).failure();
    check_contains(&error, &["HF_ENDPOINT is \"hub of mine\", which is not a URL"]);
}

#[test]
fn an_interrupted_download_is_resumed() {
    let size = model()[WEIGHTS].len();
    let (hub, here) = (Hub::new().with("me/tiny", model()), folder());
    hub.break_off(WEIGHTS, size / 2);
    let error = hub.import(here.path(), &["me/tiny"]).failure();
    check_contains(
        &error,
        &[
            "the download of model.safetensors of me/tiny was interrupted; run the same command again to resume it",
        ],
    );
    assert!(!here.path().join("runs/tiny").exists());
    hub.seen();
    hub.import(here.path(), &["me/tiny"]).success();
    let seen = hub.seen();
    let starts: Vec<usize> = seen.iter().filter_map(|seen| seen.start).collect();
    assert!(matches!(starts[..], [start] if start > 0 && start <= size / 2), "{seen:?}");
    assert_eq!(scored(here.path(), "tiny"), scored(trained(), "debug"));
}

#[test]
fn a_partial_download_that_cannot_be_resumed_is_replaced() {
    let (hub, here) = (Hub::new().with("me/tiny", model()), folder());
    hub.import(here.path(), &["me/tiny", "--run", "first"]).success();
    let cache = hub.home().join("hub/models--me--tiny");
    let link = cache.join("snapshots").join(commit("me/tiny", &model())).join(WEIGHTS);
    let blob = fs::canonicalize(&link).unwrap();
    // A complete partial file, as if kindling had stopped just before renaming it; then one that is too long.
    for more in [0, 3] {
        let mut whole = fs::read(&blob).unwrap();
        whole.resize(whole.len() + more, 0);
        fs::write(blob.with_extension("part"), whole).unwrap();
        fs::remove_file(&blob).unwrap();
        fs::remove_file(&link).unwrap();
        hub.import(here.path(), &["me/tiny", "--run", &format!("after-{more}")]).success();
        assert_eq!(scored(here.path(), &format!("after-{more}")), scored(trained(), "debug"));
    }
    // A truncated file in the cache.
    let whole = fs::read(&blob).unwrap();
    fs::write(&blob, &whole[..whole.len() / 2]).unwrap();
    hub.import(here.path(), &["me/tiny", "--run", "after-cut"]).success();
    assert_eq!(fs::read(&blob).unwrap(), whole);
}

#[test]
fn an_adapter_names_its_base_model() {
    let adapter = named(&["adapter_model.safetensors", "tokenizer.json"]);
    let config = r#"{"peft_type": "LORA", "base_model_name_or_path": "openai-community/gpt2"}"#;
    let hub = Hub::new().with("me/lora", with(adapter, "adapter_config.json", config));
    let here = folder();
    let error = hub.import(here.path(), &["me/lora"]).failure();
    check_contains(
        &error,
        &["me/lora is a PEFT adapter of openai-community/gpt2", "kindling import openai-community/gpt2"],
    );
    check_contains(
        &error,
        &[
            "python3 -c 'from peft import",
            "from_pretrained(\"me/lora\").merge_and_unload()",
            "AutoTokenizer.from_pretrained(\"openai-community/gpt2\").save_pretrained(\"merged\")'",
        ],
    );
    assert_eq!(hub.downloaded(), ["adapter_config.json"]);
}

#[test]
fn an_incomplete_model_is_refused_with_a_list_of_its_files() {
    let hub = Hub::new()
        .with("me/keras", named(&["config.json", "tf_model.h5", "tokenizer.json"]))
        .with("me/bare", named(&[WEIGHTS, "tokenizer.json"]));
    let here = folder();
    let error = hub.import(here.path(), &["me/keras"]).failure();
    check_contains(&error, &["me/keras has no weights that kindling reads", "; it has tf_model.h5"]);
    let error = hub.import(here.path(), &["me/bare"]).failure();
    check_contains(&error, &["me/bare has no config.json", "; it has model.safetensors, tokenizer.json"]);
    assert_eq!(hub.downloaded(), ["config.json"; 0]);
}

#[test]
fn a_revision_or_quantization_must_not_be_empty() {
    let (hub, here) = (Hub::new(), folder());
    for (name, expected) in [
        (
            "me/tiny@",
            "the @ must be followed by a branch, a tag or a commit of the model, as in me/tiny@main",
        ),
        ("me/tiny:", "the : must be followed by the quantization of a GGUF file, as in me/tiny:Q8_0"),
        ("me/tiny@../../x", "the @ must be followed by"),
    ] {
        check_contains(&hub.import(here.path(), &[name]).usage_failure(), &[expected]);
    }
    let error = hub.import(here.path(), &["me/tiny", "--tokenizer", "gpt2"]).usage_failure();
    check_contains(&error, &["--tokenizer is for a ckpt.pt"]);
    assert_eq!(hub.seen(), [], "the hub is not asked");
}

#[test]
fn a_gguf_file_is_chosen_by_its_quantization() {
    let eight = gguf("q8_0");
    let files = with(named(&["README.md", "tiny-IQ2_XXS.gguf"]), "tiny-Q8_0.gguf", eight.clone());
    let files = with(files, "f16/tiny-F16.gguf", gguf("f16"));
    let files = with(files, "big-F32-00001-of-00002.gguf", "");
    let (hub, here) = (Hub::new().with("me/tiny-GGUF", files), folder());

    let error = hub.import(here.path(), &["me/tiny-GGUF"]).failure();
    check_contains(
        &error,
        &["me/tiny-GGUF has only GGUF files", "kindling reads F32, F16 and Q8_0, not IQ2_XXS"],
    );
    check_contains(&error, &["kindling import me/tiny-GGUF:Q8_0"]);
    for (quantization, reason) in [
        (
            "iq2_xxs",
            "tiny-IQ2_XXS.gguf of me/tiny-GGUF has the quantization IQ2_XXS, which kindling does not read",
        ),
        ("F32", "me/tiny-GGUF has only some parts of a model: big-F32-00002-of-00002 is missing"),
        ("Q4_0", "me/tiny-GGUF has no GGUF file of the quantization Q4_0"),
    ] {
        let error = hub.import(here.path(), &[&format!("me/tiny-GGUF:{quantization}")]).failure();
        check_contains(&error, &[reason, "kindling import me/tiny-GGUF:Q8_0"]);
    }
    assert_eq!(hub.downloaded(), ["config.json"; 0]);

    let imported = hub.import(here.path(), &["me/tiny-GGUF:q8_0"]).success().stderr;
    check_contains(&imported, &["downloading tiny-Q8_0.gguf of me/tiny-GGUF (", "generate runs/tiny-Q8_0"]);
    assert_eq!(hub.downloaded(), ["tiny-Q8_0.gguf"]);
    fs::write(here.path().join("local.gguf"), eight).unwrap();
    let differences = |a: &str, b: &str| {
        let [a, b] = [a, b].map(|model| scored(here.path(), model).as_array().unwrap().clone());
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(&b)
            .skip(1)
            .map(|(a, b)| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs())
            .fold(0.0, f64::max)
    };
    // The imported weights are mapped from the file as [in, out], so sums are taken in another order.
    assert!(differences("tiny-Q8_0", "local.gguf") < 1e-5);
    hub.import(here.path(), &["me/tiny-GGUF:F16", "--run", "half"]).success();
    assert!(differences("half", "local.gguf") > 1e-4);

    let offline = ["me/tiny-GGUF:F16", "--run", "again"];
    ran(hub.command(here.path(), &offline).env("HF_HUB_OFFLINE", "1")).success();
    assert_eq!(scored(here.path(), "again"), scored(here.path(), "half"));
}

#[test]
fn the_architecture_of_a_gguf_file_is_checked_before_the_download() {
    let files = with(Files::new(), "other-Q8_0.gguf", gguf("q8_0"));
    let other = Repository { architecture: Some("gemma3"), ..files.clone().into() };
    let same = Repository { architecture: Some("gpt2"), ..files.into() };
    let (hub, here) = (Hub::new().with("me/other", other).with("me/same", same), folder());
    let error = hub.import(here.path(), &["me/other:Q8_0"]).failure();
    check_contains(
        &error,
        &[
            "me/other:Q8_0 is not downloaded: its architecture is gemma3",
            "kindling reads only GGUF files of gpt2, llama",
        ],
    );
    assert_eq!(hub.downloaded(), ["config.json"; 0]);
    hub.import(here.path(), &["me/same:Q8_0"]).success();
    let error = hub.import(here.path(), &["me/same"]).failure();
    check_contains(&error, &["me/same has only GGUF files"]);
    hub.put("me/tiny", model());
    let error = hub.import(here.path(), &["me/tiny:Q8_0"]).failure();
    check_contains(&error, &["me/tiny has no GGUF files", "kindling import me/tiny"]);
}
