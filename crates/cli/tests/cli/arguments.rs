//! Plausible first arguments: they work, or the error suggests the right ones.

use std::fs;

use crate::support::{run, trained};

const SHORT: [&str; 4] = ["--max-steps", "2", "--set", "schedule.eval_windows=4"];

fn text_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.txt"), "the old house by the river was quiet. ".repeat(100)).unwrap();
    folder
}

#[test]
fn train_accepts_a_text_as_its_argument() {
    let folder = text_folder();
    let folder = folder.path();
    let small = ["--block-size", "16", "--batch-size", "3", "--lr", "0.01"];
    run(folder, &[&["train", "my.txt", "--run", "mine"], &small[..], &SHORT].concat()).success();
    let recipe = fs::read_to_string(folder.join("runs/mine/recipe.toml")).unwrap();
    let path = folder.join("my.txt");
    for line in [
        &format!("corpus = \"{}\"", path.display()),
        "block_size = 16",
        "batch_size = 3",
        "learning_rate = 0.01",
        "max_steps = 2",
    ] {
        assert!(recipe.contains(line), "{line} is not in {recipe}");
    }
    fs::create_dir(folder.join("books")).unwrap();
    fs::copy(folder.join("my.txt"), folder.join("books/one.txt")).unwrap();
    run(folder, &[&["train", "books/", "--run", "folder"], &small[..], &SHORT].concat()).success();
    let both = run(folder, &["train", "my.txt", "--data", "books"]).usage_failure();
    assert!(both.contains("my.txt and --data books both name a text"), "{both}");
    let missing = run(folder, &["train", "mine.txt"]).failure();
    assert!(missing.contains("there is no file or folder mine.txt"), "{missing}");
    let unknown = run(folder, &["train", "debgu"]).usage_failure();
    assert!(
        unknown.contains("there is no recipe debgu") && unknown.contains("did you mean debug?"),
        "{unknown}"
    );
}

#[test]
fn epochs_are_converted_to_steps() {
    let folder = text_folder();
    let plan = run(folder.path(), &["train", "debug", "my.txt"]);
    assert_eq!(plan.code, 2, "{}", plan.stderr);
    let plan = run(folder.path(), &["train", "debug", "--data", "my.txt", "--epochs", "3", "--dry-run"])
        .success()
        .stdout;
    // 3,420 tokens three times, 128 in a step.
    assert!(plan.contains("81 × 128 tokens") && plan.contains("3.0 epochs"), "{plan}");
    assert!(!folder.path().join("runs").exists(), "nothing is trained");
    run(folder.path(), &["train", "debug", "--data", "my.txt", "--epochs", "0.1", "--run", "mine"]).success();
    let resumed = ["train", "--resume", "--epochs", "0.2", "--dry-run"];
    let plan = run(folder.path(), &resumed).success().stdout;
    assert!(plan.contains("6 × 128 tokens, 3 left"), "{plan}");
    let wsd = ["--set", "schedule.kind=wsd", "--set", "schedule.stable_steps=60", "--dry-run"];
    let plan =
        run(folder.path(), &[&["train", "debug", "--data", "my.txt", "--epochs", "3"], &wsd[..]].concat());
    assert!(
        plan.success().stdout.contains("81 × 128 tokens"),
        "--epochs replaces the 40 steps of the preset"
    );
    let error =
        run(folder.path(), &["train", "debug", "--data", "my.txt", "--epochs", "1e30"]).usage_failure();
    assert!(error.contains("--epochs 1e30 is too large"), "{error}");
    let often =
        run(folder.path(), &["train", "debug", "--data", "my.txt", "--epochs", "30", "--dry-run"]).success();
    assert!(often.stderr.contains("warning: this plan reads the text 30 times"), "{}", often.stderr);
    for wrong in ["0", "-1", "nan", "many"] {
        let error = run(folder.path(), &["train", "debug", "--epochs", wrong]).usage_failure();
        assert!(error.contains("must be a number above 0"), "{error}");
    }
    assert_eq!(run(folder.path(), &["train", "--epochs", "1", "--max-steps", "3"]).code, 2);
}

#[test]
fn a_dry_run_prints_the_plan_and_makes_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let plan = run(folder.path(), &["train", "--dry-run"]).success().stdout;
    for line in [
        "model ",
        "text           shakespeare: 1,003,854 training tokens",
        "2,800 × 1,024",
        "2.9 epochs",
        "memory ",
        "time ",
        "█",
    ] {
        assert!(plan.contains(line), "{line:?} is not in {plan}");
    }
    assert!(!folder.path().join("runs").exists());
    let before = fs::read_to_string(trained().join("runs/debug/recipe.toml")).unwrap();
    let plan = run(trained(), &["train", "--resume", "--run", "debug", "--max-steps", "100", "--dry-run"]);
    assert!(plan.success().stdout.contains("100 × 128 tokens, 60 left"));
    assert_eq!(fs::read_to_string(trained().join("runs/debug/recipe.toml")).unwrap(), before);
    run(folder.path(), &["train", "--dry-run", "--set", "model.n_head=3"]).usage_failure();
}

#[test]
fn many_epochs_are_warned_about() {
    let folder = text_folder();
    let train = ["train", "debug", "--data", "my.txt", "--epochs", "21", "--quiet"];
    let stderr = run(folder.path(), &train).success().stderr;
    assert!(stderr.contains("warning: this plan reads the text 21 times"), "{stderr}");
    let on_purpose =
        run(folder.path(), &[&train[..], &["--set", "run.keep_weights=last"]].concat()).success().stderr;
    assert!(!on_purpose.contains("reads the text"), "{on_purpose}");
    let card = fs::read_to_string(folder.path().join("runs/debug/README.md")).unwrap();
    assert!(card.contains(", 21 epochs,"), "{card}");
    assert!(
        !card.contains(folder.path().to_str().unwrap()),
        "the card does not contain the path of the text: {card}"
    );
}

#[test]
fn a_run_is_resumed_by_the_name_of_its_recipe_or_its_own_name() {
    let resume = |more: &[&str]| {
        run(trained(), &[&["train", "--resume", "--dry-run", "--max-steps", "50"], more].concat())
    };
    resume(&["debug"]).success();
    resume(&["debug", "--run", "debug"]).success();
    let error = resume(&["tiny", "--run", "debug"]).usage_failure();
    assert!(error.contains("runs/debug was started with the recipe debug, not tiny"), "{error}");
    resume(&["runs/debug/recipe.toml", "--run", "debug"]).success();
}

#[test]
fn a_run_is_resumed_by_the_file_of_its_recipe() {
    let folder = text_folder();
    let folder = folder.path();
    let recipe = fs::read_to_string(trained().join("runs/debug/recipe.toml")).unwrap();
    fs::write(folder.join("mine.toml"), recipe).unwrap();
    run(folder, &["train", "mine.toml", "--data", "my.txt", "--run", "m", "--max-steps", "2"]).success();
    let resume = ["train", "mine.toml", "--resume", "--run", "m", "--max-steps", "3", "--dry-run"];
    assert_eq!(
        run(folder, &resume).success().stderr,
        "",
        "no warning, though the run has other data and steps"
    );
    fs::create_dir(folder.join("other")).unwrap();
    fs::copy(folder.join("mine.toml"), folder.join("other/mine.toml")).unwrap();
    let error = run(folder, &[&["train", "other/mine.toml"], &resume[2..]].concat()).usage_failure();
    assert!(error.contains("runs/m was started with the recipe mine.toml, not other/mine.toml"), "{error}");
}

#[test]
fn a_recipe_of_three_lines_extends_a_preset() {
    let folder = text_folder();
    let folder = folder.path();
    let train = |options: &[&str]| run(folder, &[&["train", "mine.toml"], options].concat());
    fs::write(folder.join("mine.toml"), "extends = \"debug\"\n[model]\nn_layer = 3\n").unwrap();
    train(&["--data", "my.txt", "--run", "m", "--max-steps", "2"]).success();
    let resolved = fs::read_to_string(folder.join("runs/m/recipe.toml")).unwrap();
    assert!(resolved.contains("n_layer = 3\n") && resolved.contains("[schedule]\n"), "{resolved}");
    assert!(!resolved.contains("extends"), "{resolved}");
    // The run resumes by its own recipe, whatever happens to the files.
    fs::write(folder.join("mine.toml"), "extends = \"debug\"\n[model]\nn_layers = 3\n").unwrap();
    train(&["--resume", "--run", "m", "--max-steps", "3"]).success();
    let error = train(&["--data", "my.txt"]).failure();
    assert!(
        error.starts_with("error: invalid recipe mine.toml:3: unknown field `n_layers`, expected"),
        "{error}"
    );
    fs::write(folder.join("mine.toml"), "extends = \"debug\"\n[model]\nn_head = 3\n").unwrap();
    let error = train(&["--data", "my.txt"]).failure();
    assert!(
        error.contains("invalid recipe mine.toml:3: `n_embd` = 32 is not a multiple of `n_head` = 3"),
        "{error}"
    );
}

#[test]
fn unknown_options_that_name_a_recipe_key_suggest_set() {
    for (option, tip) in [
        ("--dropout", "it is a recipe key: --set model.dropout=VALUE"),
        ("--steps", "--set schedule.max_steps=VALUE"),
        ("--seed", "--set run.seed=VALUE"),
        ("--n-layer", "--set model.n_layer=VALUE"),
    ] {
        let error = run(trained(), &["train", option, "1"]).usage_failure();
        assert!(error.contains(tip) && error.contains(&format!("unexpected argument '{option}'")), "{error}");
    }
    let error = run(trained(), &["train", "--resum"]).usage_failure();
    assert!(error.contains("a similar argument exists: '--resume'"), "{error}");
    assert!(!run(trained(), &["generate", "--dropout"]).usage_failure().contains("--set"));
}

#[test]
fn the_error_for_a_short_text_suggests_options_that_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("k1.txt"), "the old house by the river was quiet. ".repeat(26)).unwrap();
    let train = ["train", "k1.txt", "--max-steps", "1", "--set", "schedule.eval_windows=2"];
    let error = run(folder, &train).failure();
    assert!(error.contains("the validation part of"), "{error}");
    let (_, advice) = error.trim().split_once("; add ").unwrap();
    let advice: Vec<&str> = advice.split(", or ").collect();
    assert_eq!(
        advice,
        ["--set model.block_size=64", "--set data.valid_fraction=0.16", "--valid with a text of its own"]
    );
    for set in &advice[..2] {
        run(folder, &[&train[..], &set.split(' ').collect::<Vec<_>>()].concat()).success();
    }
    let error = run(folder, &["train", "k1.txt", "--block-size", "2000"]).failure();
    assert!(error.contains("the training part of") && error.contains("--set model.block_size="), "{error}");
}

#[test]
fn separators_between_documents_end_generated_texts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stories = ["A cat sat.", "Rain fell at noon.", "Dogs run far.", "The boat left.", "Bread is warm."];
    let text: String = (0..900).map(|idx| format!("{}<|endoftext|>", stories[idx * 7 % 5])).collect();
    fs::write(folder.join("stories.txt"), text).unwrap();
    let train =
        ["train", "debug", "--data", "stories.txt", "--run", "r", "--max-steps", "300", "--lr", "0.01"];
    let bpe = ["--set", "data.tokenizer=bpe:300", "--set", "optimizer.batch_size=32"];
    let stderr = run(folder, &[&train[..], &bpe].concat()).success().stderr;
    assert!(
        stderr.starts_with("data: ") && stderr.contains(", 900 documents separated by 900 <|endoftext|>, "),
        "{stderr}"
    );
    let generate = ["generate", "r", "--temperature", "0.5", "--seed", "1", "--json", "--max-tokens", "120"];
    let text = run(folder, &generate).success().stdout;
    assert!(text.contains("\"stopped_by\":\"stop_token\""), "generation stops after a story: {text}");
    // In a prompt, the string is plain text without --special.
    let n_ids = |more: &[&str]| {
        let scored = run(folder, &[&["score", "r", "--json", "--text"], more].concat()).success().stdout;
        serde_json::from_str::<serde_json::Value>(&scored).unwrap()["ids"].as_array().unwrap().len()
    };
    assert!(n_ids(&["<|endoftext|>"]) > 1);
    // Bits per byte do not count the separator.
    let eval = |file: &str| {
        let ran = run(folder, &["eval", "r", "--data", file, "--json"]).success().stdout;
        serde_json::from_str::<serde_json::Value>(&ran).unwrap()
    };
    fs::write(folder.join("two.txt"), "A cat sat.<|endoftext|>Dogs run far.").unwrap();
    assert_eq!(eval("two.txt")["bytes"], 23);
    // A model without a recipe is evaluated with the default separator.
    run(folder, &["export", "r", "--format", "safetensors", "-o", "exported"]).success();
    let exported = run(folder, &["eval", "exported", "--data", "two.txt", "--json"]).success().stdout;
    assert_eq!(exported, run(folder, &["eval", "r", "--data", "two.txt", "--json"]).success().stdout);
    // A recipe without a separator reads the string as text, with a warning.
    let off =
        ["train", "debug", "--data", "stories.txt", "--set", "data.tokenizer=bpe:300", "--max-steps", "1"];
    let stderr = run(folder, &[&off[..], &["--set", "data.separator=none"]].concat()).success().stderr;
    assert!(
        stderr.contains("warning: the text has 900 <|endoftext|>, which are read as plain text; to encode each as one token, add --set"),
        "{stderr}"
    );
    let error = run(folder, &[&off[..], &["--set", "data.separator=off"]].concat()).usage_failure();
    assert!(error.contains("--set data.separator=none"), "{error}");
    let as_text =
        run(folder, &["train", "debug", "--data", "stories.txt", "--max-steps", "1"]).success().stderr;
    assert!(
        as_text.contains(
            "warning: the text has 900 <|endoftext|> between documents, which the tokenizer char encodes"
        ),
        "{as_text}"
    );
}

#[test]
fn json_lines_are_warned_about_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let lines: String =
        (0..60).map(|idx| format!("{{\"id\": {idx}, \"text\": \"the old house\"}}\n")).collect();
    fs::write(folder.join("data.jsonl"), lines).unwrap();
    for _ in 0..2 {
        let stderr =
            run(folder, &["train", "debug", "--data", "data.jsonl", "--max-steps", "1"]).success().stderr;
        assert_eq!(stderr.matches("has JSON lines, which are read as plain text").count(), 1, "{stderr}");
    }
}

#[test]
fn a_corpus_takes_precedence_over_a_folder_of_the_same_name_with_a_note() {
    let folder = text_folder();
    let folder = folder.path();
    fs::create_dir(folder.join("shakespeare")).unwrap();
    fs::copy(folder.join("my.txt"), folder.join("shakespeare/one.txt")).unwrap();
    let train = ["train", "debug", "--max-steps", "1", "--data"];
    let stderr = run(folder, &[&train[..], &["shakespeare"]].concat()).success().stderr;
    let (_, advice) = stderr
        .split_once("using the known corpus shakespeare; for the file or folder of that name, add --data ")
        .unwrap();
    let advice = advice.lines().next().unwrap();
    let stderr = run(folder, &[&train[..], &[advice]].concat()).success().stderr;
    assert!(
        stderr.starts_with("data: ") && stderr.contains("/shakespeare, 3.4k training tokens"),
        "{stderr}"
    );
}

#[test]
fn eval_and_resume_name_the_validation_text() {
    let folder = text_folder();
    let folder = folder.path();
    fs::write(folder.join("v.txt"), "the river by the old house was quiet. ".repeat(20)).unwrap();
    fs::write(folder.join("w.txt"), "quiet was the river by the old house. ".repeat(20)).unwrap();
    run(
        folder,
        &["train", "debug", "--data", "my.txt", "--valid", "v.txt", "--run", "r", "--max-steps", "2"],
    )
    .success();
    let stderr = run(folder, &["eval", "r"]).success().stderr;
    assert!(
        stderr.contains("validation text: ") && stderr.contains("/v.txt, from runs/r/recipe.toml"),
        "{stderr}"
    );
    let resume = ["train", "--resume", "--run", "r", "--max-steps", "3"];
    let error = run(folder, &[&resume[..], &["--valid", "w.txt"]].concat()).failure();
    assert!(
        error.contains("/w.txt is not the text that runs/r was validated on; name that text with --valid"),
        "{error}"
    );
    let error = run(folder, &[&resume[..], &["--set", "data.valid=none"]].concat()).usage_failure();
    assert!(error.contains("`data.valid` can't change from"), "{error}");
    fs::rename(folder.join("v.txt"), folder.join("moved.txt")).unwrap();
    run(folder, &[&resume[..], &["--valid", "moved.txt"]].concat()).success();
}

#[test]
fn a_run_with_the_name_of_a_text_folder_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("books")).unwrap();
    fs::write(folder.join("books/my.txt"), "the old house by the river was quiet. ".repeat(100)).unwrap();
    run(folder, &["train", "debug", "--data", "books/", "--run", "books", "--max-steps", "2"]).success();
    run(folder, &["generate", "books", "--max-tokens", "5"]).success();
    assert!(run(folder, &["info", "books"]).success().stdout.starts_with("runs/books\n"));
    run(folder, &["eval", "books"]).success();
    run(folder, &["plot", "books"]).success();
    let error = run(folder, &["info", "."]).failure();
    assert!(error.contains(". is not a model"), "{error}");
}

#[test]
fn a_text_that_has_moved_is_given_its_new_path() {
    let folder = text_folder();
    let folder = folder.path();
    run(folder, &["train", "debug", "--data", "my.txt", "--run", "r", "--max-steps", "4"]).success();
    // From another folder.
    fs::create_dir(folder.join("elsewhere")).unwrap();
    run(&folder.join("elsewhere"), &["train", "--resume", "--run", "../runs/r", "--max-steps", "5"])
        .success();
    fs::rename(folder.join("my.txt"), folder.join("elsewhere/mine.txt")).unwrap();
    let resume = ["train", "--resume", "--run", "r", "--max-steps", "6"];
    let error = run(folder, &resume).failure();
    assert!(
        error.contains(
            "runs/r/recipe.toml names a text that does not exist; if it has moved, add --data PATH"
        ),
        "{error}"
    );
    let error = run(folder, &["eval", "r"]).failure();
    assert!(
        error.contains(
            "the text in runs/r/recipe.toml is missing; if it has moved, give its new path with --data PATH"
        ),
        "{error}"
    );
    fs::write(folder.join("other.txt"), "the house by the old river was quiet. ".repeat(100)).unwrap();
    let error = run(folder, &[&resume[..], &["--data", "other.txt"]].concat()).failure();
    assert!(error.contains("other.txt is not the text that runs/r was trained on"), "{error}");
    let (_, advice) = error.trim().split_once("new run on this one: kindling ").unwrap();
    run(folder, &[&advice.split(' ').collect::<Vec<_>>()[..], &SHORT].concat()).success();

    fs::write(folder.join("letters.txt"), "THE OLD HOUSE BY THE RIVER. ".repeat(100)).unwrap();
    let error = run(folder, &[&resume[..], &["--data", "letters.txt"]].concat()).failure();
    let (_, advice) = error.trim().split_once("new run on this one: kindling ").unwrap();
    assert!(!advice.contains("--init-from"), "the model's vocabulary lacks these letters: {advice}");
    run(folder, &[&advice.split(' ').collect::<Vec<_>>()[..], &SHORT].concat()).success();

    let moved = run(folder, &[&resume[..], &["--data", "elsewhere/mine.txt"]].concat()).success();
    assert!(moved.stderr.contains("changed: data.corpus from"), "{}", moved.stderr);
    let stderr = run(folder, &["eval", "r"]).success().stderr;
    assert!(stderr.contains("elsewhere/mine.txt, from runs/r/recipe.toml"), "{stderr}");
    fs::rename(folder.join("elsewhere/mine.txt"), folder.join("my.txt")).unwrap();
    run(folder, &["train", "--resume", "--run", "r", "--max-steps", "7", "--set", "data.corpus=my.txt"])
        .success();
}

#[test]
fn eval_accepts_the_texts_of_train_and_explains_its_different_loss() {
    let folder = text_folder();
    let data = folder.path().to_str().unwrap();
    let whole = run(trained(), &["eval", "--data", data, "--json"]).success().stdout;
    let file = run(trained(), &["eval", "--data", &format!("{data}/my.txt"), "--json"]).success().stdout;
    assert_eq!(whole, file, "a folder of one file");
    let name =
        run(trained(), &["eval", "--data", "shakespeare", "--stride", "16", "--json"]).success().stdout;
    assert!(name.contains("\"bytes\":1115394"), "{name}");
    let stderr = run(trained(), &["eval"]).success().stderr;
    assert!(stderr.contains("during training: 3.") && stderr.contains("eval --help explains"), "{stderr}");
    let help = run(trained(), &["eval", "--help"]).success().stdout;
    assert!(help.contains("the mean over schedule.eval_windows random windows"), "{help}");
    let error = run(trained(), &["eval", "--data", "shakespear"]).failure();
    assert!(error.contains("did you mean `shakespeare`?"), "{error}");
    fs::write(folder.path().join("two.txt"), "ab").unwrap();
    let one = run(trained(), &["eval", "--data", &format!("{data}/two.txt")]).success().stdout;
    assert!(one.ends_with("over           1 token, 2 bytes\n"), "{one}");
}

#[test]
fn prepared_data_is_written_to_the_data_dir() {
    let folder = text_folder();
    let folder = folder.path();
    let train = ["train", "debug", "--data", "my.txt", "--max-steps", "1"];
    let stderr =
        run(folder, &[&train[..], &["--data-dir", "kept/here", "--run", "r"]].concat()).success().stderr;
    assert!(folder.join("kept/here").is_dir() && !folder.join("datasets").exists());
    let error = run(folder, &["train", "--resume", "--run", "r", "--data-dir", "kept/here"]).failure();
    for advice in [stderr, error] {
        let (_, advice) =
            advice.split_once("kindling train --resume --run runs/r --data-dir kept/here").unwrap();
        assert!(advice.starts_with(" --max-steps "), "{advice}");
    }
    let ran =
        crate::support::kindling(folder, &["eval", "r"]).env("KINDLING_DATA", "kept/here").output().unwrap();
    assert!(ran.status.success() && !folder.join("datasets").exists());
    // A folder that can't be written.
    fs::write(folder.join("datasets"), "a file is in the way").unwrap();
    let error = run(folder, &train).failure();
    assert!(
        error.contains(
            "cannot write prepared data to datasets; choose another folder with --data-dir DIR or KINDLING_DATA"
        ),
        "{error}"
    );
    fs::write(folder.join("taken"), "").unwrap();
    let error =
        run(folder, &[&train[..], &["--data-dir", "kept/here", "--run", "taken/mine"]].concat()).failure();
    assert!(error.contains("choose another path with --run PATH"), "{error}");
}

#[test]
fn invalid_arguments_exit_with_2_whether_clap_or_a_later_check_finds_them() {
    for args in [
        &["train", "debug", "--set", "model.n_layers=3"][..],
        &["train", "debug", "--set", "n_layer=3"],
        &["train", "debug", "--set", "optimizer.beta_2=1.0"],
        &["train", "debug", "--set", "model.n_head=3"],
        &["train", "debug", "--max-steps", "-1"],
        &["train", "debug", "--batch-size", "0"],
        &["train", "debug", "--lr", "-1"],
        &["train", "nothing"],
        &["train", "finetune"],
        &["train", "--resume", "--run", "debug", "--set", "run.seed=1"],
        &["generate", "--temperature", "-1"],
        &["generate", "debug@first"],
        &["eval", "--stride", "0"],
        &["eval", "--stride", "17"],
        &["bench", "debug", "--prefill", "17"],
        &["plot", "-o", "x.gif"],
    ] {
        let error = run(trained(), args).usage_failure();
        assert!(error.starts_with("error: "), "{args:?}: {error}");
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_refuses_to_be_one_of_several_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let as_rank = |n_ranks: &str| {
        let mut command =
            crate::support::kindling(folder.path(), &["train", "debug", "--dry-run", "--data", "none"]);
        command.envs([("OMPI_COMM_WORLD_SIZE", n_ranks), ("OMPI_COMM_WORLD_RANK", "0")]);
        crate::support::ran(&mut command)
    };
    let error = as_rank("2").usage_failure();
    assert!(error.contains("has started 2 ranks") && error.contains("--features mpi"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!as_rank("1").stderr.contains("ranks"), "a single rank trains alone");
}
