//! Listings, `info`, model cards, experiments, charts and event files.

use std::fs;

use serde_json::Value;

use crate::support::{run, trained};

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn runs_lists_the_newest_run_last() {
    let folder = tempfile::tempdir().unwrap();
    let none = run(folder.path(), &["runs"]).success();
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "there is no run in runs\n"));
    let missing = run(folder.path(), &["runs", "nothere"]).failure();
    assert_eq!(missing, "error: there is no folder nothere\n");
    for (name, steps) in [("first", "schedule.max_steps=2"), ("second", "schedule.max_steps=3")] {
        run(folder.path(), &["train", "debug", "--run", name, "--set", steps]).success();
    }
    let listed = json_lines(&run(folder.path(), &["runs", "--json"]).success().stdout);
    let names: Vec<&str> = listed.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!((&listed[1]["steps"], &listed[1]["max_steps"]), (&Value::from(3), &Value::from(3)));
    assert_eq!(listed[0]["trained_by"], Value::Null);
    assert!(listed[0]["bytes"].as_u64().unwrap() > 100_000);

    let table = run(folder.path(), &["runs"]).success().stdout;
    assert!(table.lines().all(|line| line == line.trim_end()), "{table}");
    let row: Vec<&str> = table.lines().last().unwrap().split_whitespace().take(5).collect();
    assert_eq!(row, ["second", "debug", "shakespeare", "28k", "3/3"]);

    let elsewhere = folder.path().join("corpora");
    fs::create_dir(&elsewhere).unwrap();
    let text = elsewhere.join("my.txt");
    fs::write(&text, "To be, or not to be: that is the question.\n".repeat(60)).unwrap();
    let path = text.to_str().unwrap();
    run(
        folder.path(),
        &["train", "debug", "--run", "third", "--data", path, "--set", "schedule.max_steps=2"],
    )
    .success();
    let table = run(folder.path(), &["runs"]).success().stdout;
    assert!(table.contains(" my.txt ") && !table.contains("corpora"), "{table}");
    let listed = json_lines(&run(folder.path(), &["runs", "--json"]).success().stdout);
    assert_eq!(listed[2]["corpus"], path);

    fs::write(folder.path().join("runs/first/config.json"), "{").unwrap();
    let ran = run(folder.path(), &["runs", "--json"]).success();
    assert_eq!(json_lines(&ran.stdout).len(), 2, "a damaged run does not hide the others");
    assert!(ran.stderr.contains("runs/first"), "{}", ran.stderr);
}

#[test]
fn presets_are_listed_with_their_cost() {
    let presets = json_lines(&run(trained(), &["presets", "--json"]).success().stdout);
    let nanogpt = presets.iter().find(|it| it["name"] == "nanogpt-cpu").unwrap();
    assert_eq!(nanogpt["parameters"], 804_096);
    assert_eq!(nanogpt["tokens"], 2000 * 12 * 64);
    assert!(nanogpt["seconds"].as_f64().unwrap() > 1.0);
    let finetune = presets.iter().find(|it| it["name"] == "finetune").unwrap();
    assert_eq!((finetune["model"].as_str(), &finetune["parameters"]), (Some("GPT-2"), &124_439_808.into()));
    let lora = presets.iter().find(|it| it["name"] == "lora").unwrap();
    assert_eq!((lora["model"].as_str(), &lora["parameters"]), (Some("SmolLM2-135M"), &134_515_008.into()));
    assert_eq!(lora["tokens"], 200 * 16 * 512);
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(folder.path(), &["completions", shell]).success().stdout;
        for word in ["train", "generate", "runs", "init-from"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    run(folder.path(), &["man", "pages"]).success();
    let page = fs::read_to_string(folder.path().join("pages/kindling-train.1")).unwrap();
    assert!(page.contains("init\\-from"), "{page}");
}

#[test]
fn info_shows_the_history_of_a_run() {
    let info: Value = serde_json::from_str(&run(trained(), &["info", "--json"]).success().stdout).unwrap();
    let steps: Vec<u64> =
        info["evaluations"].as_array().unwrap().iter().map(|it| it[0].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 20, 40]);
    assert_eq!(info["sessions"][0]["step"], 0);
    let text = run(trained(), &["info"]).success().stdout;
    assert_eq!(info["parts"], serde_json::json!({}));
    assert!(text.contains("options     GPT-2\n"), "{text}");
    assert!(
        info["gguf"].is_null() && info["optimizer"] == "adamw" && text.contains("optimizer   AdamW\n"),
        "{text}"
    );
    assert!(text.contains("started on cpu") && text.contains("(40)"), "{text}");
}

#[test]
fn a_finished_run_has_a_model_card_unless_the_user_wrote_one() {
    let folder = tempfile::tempdir().unwrap();
    let card = folder.path().join("runs/mine/README.md");
    run(folder.path(), &["train", "debug", "--run", "mine"]).success();
    let first = fs::read_to_string(&card).unwrap();
    for part in [
        "pipeline_tag: text-generation",
        "# mine",
        "28,064 parameters",
        "| 40 | 3.",
        "| architecture | GPT-2 |",
        "| optimizer | AdamW |",
        "## Sample",
    ] {
        assert!(first.contains(part), "{part:?} is not in {first}");
    }
    run(folder.path(), &["train", "--resume", "--set", "schedule.max_steps=41"]).success();
    assert!(fs::read_to_string(&card).unwrap().contains("41 steps"), "the card is updated");
    fs::write(&card, "mine alone").unwrap();
    run(folder.path(), &["train", "--resume", "--set", "schedule.max_steps=42"]).success();
    assert_eq!(fs::read_to_string(&card).unwrap(), "mine alone");
}

#[test]
fn a_misspelt_name_suggests_the_closest() {
    let model = run(trained(), &["info", "debg"]).failure();
    assert!(model.contains("did you mean debug?"), "{model}");
    let recipe = run(trained(), &["train", "tinny"]).usage_failure();
    assert!(recipe.contains("did you mean tiny?"), "{recipe}");
}

#[test]
fn experiments_make_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let learnt = run(folder.path(), &["train", "debug", "--overfit-one-batch"]).success();
    assert!(learnt.stdout.contains("the model can learn: its loss on one batch fell"), "{}", learnt.stdout);
    let slow = ["--set", "optimizer.learning_rate=1e-9", "--set", "optimizer.min_learning_rate=0.0"];
    let slow = run(folder.path(), &[["train", "debug", "--overfit-one-batch"].as_slice(), &slow].concat());
    let error = slow.failure();
    assert!(error.contains("the model does not overfit one batch"), "{error}");

    let found = run(folder.path(), &["train", "debug", "--find-learning-rate", "--quiet"]).success();
    assert_eq!(found.stderr, "");
    let found = found.stdout;
    let (_, rate) = found.rsplit_once("--set optimizer.learning_rate=").unwrap();
    let rate: f64 = rate.trim().parse().unwrap();
    assert!((1e-4..0.5).contains(&rate), "{found}");
    let svg = fs::read_to_string(folder.path().join("learning-rate-sweep.svg")).unwrap();
    assert!(svg.contains("learning rate"), "{svg}");
    assert!(!folder.path().join("runs").exists());
    let both = run(folder.path(), &["train", "debug", "--find-learning-rate", "--overfit-one-batch"]);
    assert_eq!(both.code, 2);
    let ignored = run(folder.path(), &["train", "debug", "--overfit-one-batch", "--no-tui"]);
    assert_eq!(ignored.code, 2);
}

#[test]
fn a_run_has_charts_and_event_files_and_plot_compares_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join("runs/mine").join(name);
    run(folder.path(), &["train", "debug", "--run", "mine"]).success();
    let svg = fs::read_to_string(file("loss.svg")).unwrap();
    assert!(svg.contains("validation") && svg.contains("loss (nats per token)"), "{svg}");
    assert!(fs::read(file("loss.png")).unwrap().starts_with(b"\x89PNG"));
    // The event files have the losses of metrics.jsonl in f32, with each step once over two sessions.
    run(folder.path(), &["train", "--resume", "--set", "schedule.max_steps=50"]).success();
    let mut shown = Vec::new();
    let names = fs::read_dir(file("")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = names.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    for path in files {
        for event in tensorboard::read_events(&path).unwrap() {
            if let Some(("loss/valid", value)) = event.scalar() {
                shown.push((event.step, value));
            }
        }
    }
    let lines = json_lines(&fs::read_to_string(file("metrics.jsonl")).unwrap());
    let valid = lines.iter().filter(|line| line["split"] == "valid");
    let logged: Vec<(u64, f32)> =
        valid.map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap() as f32)).collect();
    assert_eq!(shown, logged);

    let quiet = ["train", "debug", "--run", "other", "--log", "none", "--set", "run.seed=1"];
    run(folder.path(), &quiet).success();
    let other = fs::read_dir(folder.path().join("runs/other")).unwrap();
    assert!(
        other
            .map(|entry| entry.unwrap().file_name())
            .all(|name| !name.to_string_lossy().contains("tfevents"))
    );
    run(folder.path(), &["plot", "mine", "other", "-o", "both.svg"]).success();
    let both = fs::read_to_string(folder.path().join("both.svg")).unwrap();
    assert!(both.contains("\nmine: best ") && both.contains("\nother: best "), "{both}");
    assert!(!both.contains("training") && !both.contains("validation"), "one legend entry per run: {both}");
    run(folder.path(), &["plot", "mine"]).success();
    let one = fs::read_to_string(folder.path().join("loss.svg")).unwrap();
    assert!(one.contains("\ntraining\n") && one.contains("\nvalidation\n"), "{one}");

    run(folder.path(), &["plot", "mine", "--metric", "learning_rate", "-o", "rate.png"]).success();
    run(folder.path(), &["plot", "mine", "other", "--metric", "learning-rate"]).success();
    let rates = fs::read_to_string(folder.path().join("learning_rate.svg")).unwrap();
    assert!(rates.contains("\nmine\n") && rates.contains("\nother\n"), "{rates}");
    let error = run(folder.path(), &["plot", "mine", "-o", "loss.gif"]).usage_failure();
    assert_eq!(error, "error: unsupported image format `loss.gif`; use .svg or .png\n");
    let error = run(folder.path(), &["plot", "mine", "--size", "100", "500"]).usage_failure();
    assert!(error.contains("unsupported chart size 100 × 500"), "{error}");
    run(folder.path(), &["plot", "mine", "--size", "-9", "500"]).usage_failure();
}
