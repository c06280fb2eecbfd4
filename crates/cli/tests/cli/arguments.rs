//! First guesses: arguments that are understood, or answered with the right ones.

use std::fs;

use crate::support::{run, trained};

const SHORT: [&str; 4] = ["--max-steps", "2", "--set", "schedule.eval_windows=4"];

fn text_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.txt"), "the old house by the river was quiet. ".repeat(100)).unwrap();
    folder
}

#[test]
fn a_text_as_the_argument_is_trained_on() {
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
    assert!(both.contains("two texts are named, my.txt and --data books"), "{both}");
    let missing = run(folder, &["train", "mine.txt"]).failure();
    assert!(missing.contains("there is no file or folder mine.txt"), "{missing}");
    let unknown = run(folder, &["train", "debgu"]).usage_failure();
    assert!(
        unknown.contains("there is no recipe debgu") && unknown.contains("did you mean debug?"),
        "{unknown}"
    );
}

#[test]
fn epochs_become_steps() {
    let folder = text_folder();
    let plan = run(folder.path(), &["train", "debug", "my.txt"]);
    assert_eq!(plan.code, 2, "{}", plan.stderr);
    let plan = run(folder.path(), &["train", "debug", "--data", "my.txt", "--epochs", "3", "--dry-run"])
        .success()
        .stdout;
    // 3,420 tokens three times, 128 in a step.
    assert!(plan.contains("81 of 128 tokens") && plan.contains("3.0 epochs"), "{plan}");
    assert!(!folder.path().join("runs").exists(), "nothing is trained");
    run(folder.path(), &["train", "debug", "--data", "my.txt", "--epochs", "0.1", "--run", "mine"]).success();
    let resumed = ["train", "--resume", "--epochs", "0.2", "--dry-run"];
    let plan = run(folder.path(), &resumed).success().stdout;
    assert!(plan.contains("6 of 128 tokens, of which 3 are left"), "{plan}");
    for wrong in ["0", "-1", "nan", "many"] {
        let error = run(folder.path(), &["train", "debug", "--epochs", wrong]).usage_failure();
        assert!(error.contains("must be a number above 0"), "{error}");
    }
    assert_eq!(run(folder.path(), &["train", "--epochs", "1", "--max-steps", "3"]).code, 2);
}

#[test]
fn a_dry_run_shows_the_plan_and_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let plan = run(folder.path(), &["train", "--dry-run"]).success().stdout;
    for line in [
        "model ",
        "text           shakespeare: 1,003,854 tokens",
        "2,800 of 1,024",
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
    assert!(plan.success().stdout.contains("100 of 128 tokens, of which 60 are left"));
    assert_eq!(fs::read_to_string(trained().join("runs/debug/recipe.toml")).unwrap(), before);
    run(folder.path(), &["train", "--dry-run", "--set", "model.n_head=3"]).usage_failure();
}

#[test]
fn a_text_that_is_read_often_is_warned_of() {
    let folder = text_folder();
    let train = ["train", "debug", "--data", "my.txt", "--epochs", "21", "--quiet"];
    let said = run(folder.path(), &train).success().stderr;
    assert!(said.contains("warning: this plan reads the text 21 times"), "{said}");
    let on_purpose =
        run(folder.path(), &[&train[..], &["--set", "run.keep_weights=last"]].concat()).success().stderr;
    assert!(!on_purpose.contains("reads the text"), "{on_purpose}");
    let card = fs::read_to_string(folder.path().join("runs/debug/README.md")).unwrap();
    assert!(card.contains(", 21 epochs,"), "{card}");
    assert!(
        !card.contains(folder.path().to_str().unwrap()),
        "the place of the text stays out of the card: {card}"
    );
}

#[test]
fn a_run_is_resumed_by_its_recipe_or_its_name() {
    let resume = |more: &[&str]| {
        run(trained(), &[&["train", "--resume", "--dry-run", "--max-steps", "50"], more].concat())
    };
    resume(&["debug"]).success();
    resume(&["debug", "--run", "debug"]).success();
    let error = resume(&["tiny", "--run", "debug"]).usage_failure();
    assert!(error.contains("runs/debug was begun with the recipe debug, not tiny"), "{error}");
}

#[test]
fn a_folder_of_texts_does_not_hide_the_run_of_its_name() {
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
fn a_text_that_has_moved_is_found_where_it_is_named() {
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
        error
            .contains("runs/r/recipe.toml names a text that can't be used; if it has moved, add --data PATH"),
        "{error}"
    );
    let error = run(folder, &["eval", "r"]).failure();
    assert!(
        error.contains(
            "runs/r/recipe.toml names a text that can't be used; if it has moved, name it with --data PATH"
        ),
        "{error}"
    );
    fs::write(folder.join("other.txt"), "the house by the old river was quiet. ".repeat(100)).unwrap();
    let error = run(folder, &[&resume[..], &["--data", "other.txt"]].concat()).failure();
    assert!(error.contains("other.txt is not the text that runs/r has trained on"), "{error}");
    let (_, advice) = error.trim().split_once("new run on this one: kindling ").unwrap();
    run(folder, &[&advice.split(' ').collect::<Vec<_>>()[..], &SHORT].concat()).success();

    fs::write(folder.join("letters.txt"), "THE OLD HOUSE BY THE RIVER. ".repeat(100)).unwrap();
    let error = run(folder, &[&resume[..], &["--data", "letters.txt"]].concat()).failure();
    let (_, advice) = error.trim().split_once("new run on this one: kindling ").unwrap();
    assert!(!advice.contains("--init-from"), "the model does not know these letters: {advice}");
    run(folder, &[&advice.split(' ').collect::<Vec<_>>()[..], &SHORT].concat()).success();

    let moved = run(folder, &[&resume[..], &["--data", "elsewhere/mine.txt"]].concat()).success();
    assert!(moved.stderr.contains("changed: data.corpus from"), "{}", moved.stderr);
    let said = run(folder, &["eval", "r"]).success().stderr;
    assert!(said.contains("elsewhere/mine.txt, as runs/r/recipe.toml says"), "{said}");
    fs::rename(folder.join("elsewhere/mine.txt"), folder.join("my.txt")).unwrap();
    run(folder, &["train", "--resume", "--run", "r", "--max-steps", "7", "--set", "data.corpus=my.txt"])
        .success();
}

#[test]
fn eval_takes_what_train_takes_and_says_why_its_loss_is_another() {
    let folder = text_folder();
    let data = folder.path().to_str().unwrap();
    let whole = run(trained(), &["eval", "--data", data, "--json"]).success().stdout;
    let file = run(trained(), &["eval", "--data", &format!("{data}/my.txt"), "--json"]).success().stdout;
    assert_eq!(whole, file, "a folder of one file");
    let name =
        run(trained(), &["eval", "--data", "shakespeare", "--stride", "16", "--json"]).success().stdout;
    assert!(name.contains("\"bytes\":1115394"), "{name}");
    let said = run(trained(), &["eval"]).success().stderr;
    assert!(said.contains("during training: 3.") && said.contains("eval --help says why"), "{said}");
    let help = run(trained(), &["eval", "--help"]).success().stdout;
    assert!(help.contains("the mean over schedule.eval_windows random windows"), "{help}");
    let error = run(trained(), &["eval", "--data", "shakespear"]).failure();
    assert!(error.contains("did you mean `shakespeare`?"), "{error}");
    fs::write(folder.path().join("two.txt"), "ab").unwrap();
    let one = run(trained(), &["eval", "--data", &format!("{data}/two.txt")]).success().stdout;
    assert!(one.ends_with("over           1 token, 2 bytes\n"), "{one}");
}

#[test]
fn prepared_data_goes_where_it_is_told() {
    let folder = text_folder();
    let folder = folder.path();
    let train = ["train", "debug", "--data", "my.txt", "--max-steps", "1"];
    run(folder, &[&train[..], &["--data-dir", "kept/here"]].concat()).success();
    assert!(folder.join("kept/here").is_dir() && !folder.join("datasets").exists());
    let ran = crate::support::kindling(folder, &["eval", "debug"])
        .env("KINDLING_DATA", "kept/here")
        .output()
        .unwrap();
    assert!(ran.status.success() && !folder.join("datasets").exists());
    // As where nothing can be written.
    fs::write(folder.join("datasets"), "a file is in the way").unwrap();
    let error = run(folder, &train).failure();
    assert!(
        error.contains(
            "cannot keep prepared data in datasets; name another folder with --data-dir DIR or KINDLING_DATA"
        ),
        "{error}"
    );
    fs::write(folder.join("taken"), "").unwrap();
    let error =
        run(folder, &[&train[..], &["--data-dir", "kept/here", "--run", "taken/mine"]].concat()).failure();
    assert!(error.contains("name another place with --run PATH"), "{error}");
}

#[test]
fn arguments_that_can_not_be_understood_end_with_two_whoever_finds_them() {
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
