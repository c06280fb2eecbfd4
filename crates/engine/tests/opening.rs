//! Every kind of model opens, with its tokenizer and special tokens.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use burn::prelude::*;
use checkpoint::{RunFolder, export_gguf};
use engine::{Error, Generation, Model, ModelFolder, Models, Source, encode_prompt, open_nanogpt};
use formats::{gguf::TensorType, weights::FloatType};
use sampler::Options;
use tokenizer::{SpecialTokens, Tokenizer};

/// A file or folder among the crates' fixtures. The variable is read when the test runs, so that it may run elsewhere than
/// it was built.
fn fixture(path: &str) -> PathBuf {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&root).join(path)
}

fn story() -> Model {
    Models::default()
        .open(&fixture("tests/fixtures/story"))
        .unwrap()
        .load(&kernels::testing::test_device())
        .unwrap()
}

/// What the model of `tests/fixtures/story` says, greedily.
fn says(model: &Model) -> String {
    let options = Options { max_tokens: 12, temperature: 0.0, ..Options::default() };
    let prompt = encode_prompt(&model.tokenizer, "the cat").unwrap();
    let pieces = Generation::begin(&model.gpt, &model.tokenizer, options, &prompt, 0..1).unwrap();
    pieces.map(|piece| piece.unwrap().text).collect()
}

fn open(models: &Models, name: impl AsRef<Path>) -> (Source, Model) {
    let source = models.open(name.as_ref()).unwrap();
    let model = source.load(&kernels::testing::test_device()).unwrap();
    (source, model)
}

#[test]
fn a_run_a_folder_and_a_gguf_file_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let models = Models { runs: folder.path().join("my runs"), ..Models::default() };
    let story = story();
    let special_tokens = SpecialTokens { bos: Some(1), eos: vec![2, 0], ..SpecialTokens::default() };
    let run = models.run_path(Path::new("tale"));
    RunFolder::create_model(&run, &story.gpt, &story.tokenizer, &special_tokens, FloatType::F32).unwrap();
    let file = folder.path().join("tale.gguf");
    export_gguf(&story.gpt, &story.tokenizer, &special_tokens, "tale", TensorType::F32, &file).unwrap();
    fs::rename(&file, folder.path().join("blob")).unwrap(); // As those of a cache, without the name.

    assert_eq!(says(&story), " saw it.\nthe");
    for (path, name) in [(PathBuf::from("tale"), "tale"), (run, "tale"), (folder.path().join("blob"), "blob")]
    {
        let (source, model) = open(&models, path);
        assert_eq!(source.name(), name);
        assert_eq!(says(&model), says(&story), "{source}");
        assert_eq!((model.special_tokens.bos, model.special_tokens.eos[0]), (Some(1), 2), "{source}");
    }
    assert_eq!(models.newest().unwrap().name(), "tale");
    assert!(models.is_here(Path::new("tale")) && !models.is_here(Path::new("other")));
}

#[test]
fn the_weights_of_a_checkpoint_are_named_by_its_step() {
    let models = Models { runs: fixture("../cli/tests/fixtures/resume"), ..Models::default() };
    let tokens = Tensor::<2, Int>::from_data([[1, 2, 3]], &kernels::testing::test_device());
    let logits = |name: &Path| open(&models, name).1.gpt.forward(tokens.clone()).into_data();
    let last = logits(Path::new("run@last"));
    let folder = models.runs.join("run/checkpoints/step-00000006");
    assert_eq!(logits(Path::new("run@6")), last);
    assert_eq!(logits(&folder), last);
    assert_eq!(logits(Path::new("run@best")), logits(Path::new("run")));
    let found = ModelFolder::find(&models, Path::new("run@6")).unwrap();
    assert_eq!((found.step(), found.name().as_str()), (Some(6), "run-step-6"));
    let error = models.open(Path::new("run@5")).unwrap_err();
    assert!(matches!(&error, Error::NoStep { step: 5, .. }) && !error.is_malformed_request(), "{error}");
    assert!(models.open(Path::new("run@first")).unwrap_err().is_malformed_request());
}

#[test]
fn a_nanogpt_checkpoint_needs_to_be_told_its_tokenizer() {
    let device = kernels::testing::test_device();
    let checkpoint = fixture("../checkpoint/tests/fixtures/layouts/nanogpt/ckpt.pt");
    let unnamed = open_nanogpt(&checkpoint, None, &device).unwrap_err();
    assert!(matches!(unnamed, Error::UnnamedTokenizer { vocab_size: 12, .. }), "{unnamed}");
    let other = open_nanogpt(&checkpoint, Some(Path::new("gpt2")), &device).unwrap_err();
    assert!(matches!(other, Error::Vocabulary { n_tokens: 50_257, vocab_size: 12 }), "{other}");
    let folder = tempfile::tempdir().unwrap();
    let letters = folder.path().join("letters.json");
    Tokenizer::from_chars('a'..='l').unwrap().save(&letters).unwrap();
    let model = open_nanogpt(&checkpoint, Some(&letters), &device).unwrap();
    assert_eq!((model.tokenizer.vocab_size(), model.gpt.config().vocab_size), (12, 12));
    let error = Models::default().open(&checkpoint).unwrap_err().to_string();
    assert!(error.contains("kindling import") && error.ends_with("--run NAME"), "{error}");
}

#[test]
fn what_is_no_model_is_told_with_the_way_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let models = Models { runs: folder.path().to_owned(), program: "kin".to_owned() };
    let refused = |path: &Path| models.open(path).unwrap_err().to_string();
    assert!(models.newest().unwrap_err().to_string().ends_with("train one first: kin train"));
    let Model { gpt, tokenizer, special_tokens } = story();
    RunFolder::create_model(&folder.path().join("tale"), &gpt, &tokenizer, &special_tokens, FloatType::F32)
        .unwrap();
    let error = refused(Path::new("tails"));
    assert!(
        error.contains("there is no run, folder or GGUF file tails") && error.contains("mean tale?"),
        "{error}"
    );
    assert!(refused(Path::new("me/tale")).ends_with("kin import me/tale"));
    let part = refused(&folder.path().join("tale/model.safetensors"));
    assert!(part.contains("is a part of a model; name the folder that it is in"), "{part}");
    fs::write(folder.path().join("notes.txt"), "to be").unwrap();
    assert!(refused(&folder.path().join("notes.txt")).contains("is a file and not a model; name a run"));
}

#[cfg(feature = "hub")]
#[test]
fn a_model_of_the_hub_opens_from_the_cache_without_a_network() {
    use engine::{Hub, HubName};

    let cache = tempfile::tempdir().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = cache.path().join("models--me--story");
    let snapshot = repository.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), commit).unwrap();
    for entry in fs::read_dir(fixture("tests/fixtures/story")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    let hub = Hub {
        endpoint: Hub::ENDPOINT.to_owned(),
        cache: cache.path().to_owned(),
        token: None,
        is_offline: true,
    };
    let models = Models::default();
    let found = hub.download(&HubName::parse("me/story").unwrap(), &models, &()).unwrap();
    assert_eq!(says(&open(&models, found).1), says(&story()));
    let missing = hub.download(&HubName::parse("me/other").unwrap(), &models, &()).unwrap_err().to_string();
    assert!(missing.contains("has no copy of it either"), "{missing}");
}
