//! `/api/runs`.

use std::{fs, path::Path};

use checkpoint::{RunFolder, RunLock};
use serde_json::json;
use serve::Settings;

use crate::support::{TestServer, tiny_model};

/// A line of `metrics.jsonl`.
fn line(step: u64, split: &str, loss: Option<f64>) -> String {
    json!({
        "step": step, "split": split, "loss": loss, "perplexity": null, "learning_rate": null, "grad_norm": null,
        "tokens": step * 10, "tokens_per_second": null, "elapsed_seconds": 1.0,
    })
    .to_string()
        + "\n"
}

fn create_run(path: &Path, metrics: &str) -> RunLock {
    let model = tiny_model();
    let (run, lock) = RunFolder::create_run(path, |run| {
        let recipe = trainer::preset("debug").unwrap();
        run.save_description(model.gpt.config(), &model.tokenizer, &model.special_tokens, Some(recipe))?;
        run.save_weights(&model.gpt)
    })
    .unwrap();
    fs::write(run.metrics_path(), metrics).unwrap();
    lock
}

#[test]
fn runs_are_listed_with_their_losses() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let server = TestServer::with(Settings { runs: runs.clone(), ..Settings::default() });
    assert_eq!(server.get("/api/runs").ok(), json!([]), "the folder need not exist");

    let first = line(0, "valid", Some(3.0)) + &line(10, "train", Some(2.5)) + &line(10, "valid", Some(2.0));
    drop(create_run(&runs.join("first"), &first));
    let second = line(0, "valid", Some(3.0))
        + &line(5, "train", None)
        + &line(10, "train", Some(1.5))
        + &line(10, "valid", Some(1.0))
        + &line(20, "valid", Some(1.25))
        + "{\"step\": 30, \"spl";
    let lock = create_run(&runs.join("second run"), &second);

    let list = server.get("/api/runs").ok();
    let [newest, oldest] = &list.as_array().unwrap()[..] else { panic!("two runs: {list}") };
    let modified = newest["modified"].as_u64().unwrap();
    assert!(modified > 1_700_000_000, "{newest}");
    let max_steps = newest["max_steps"].as_u64().unwrap();
    assert_eq!(
        *newest,
        json!({
            "name": "second run", "step": 20, "max_steps": max_steps, "train_loss": 1.5, "val_loss": 1.25,
            "best_val_loss": 1.0, "modified": modified, "is_training": true,
        })
    );
    assert_eq!((&oldest["name"], &oldest["is_training"]), (&json!("first"), &json!(false)));
    drop(lock);
    assert_eq!(server.get("/api/runs").ok()[0]["is_training"], false);

    assert_eq!(
        server.get("/api/runs/second%20run/losses").ok(),
        json!({ "train": [[10, 1.5]], "val": [[0, 3.0], [10, 1.0], [20, 1.25]] })
    );
}

#[test]
fn a_request_can_not_read_outside_the_runs_folder() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    drop(create_run(&runs.join("inside"), &line(0, "valid", Some(1.0))));
    drop(create_run(&folder.path().join("outside"), &line(0, "valid", Some(2.0))));
    let server = TestServer::with(Settings { runs, ..Settings::default() });
    server.get("/api/runs/inside/losses").ok();
    let absolute = folder.path().join("outside").display().to_string().replace('/', "%2f");
    for name in [
        "outside",
        "..",
        "%2e%2e",
        "../outside",
        "..%2foutside",
        "%2e%2e%2foutside",
        "%2e%2e/outside",
        "inside%2f..%2f..%2foutside",
        "inside/../../outside",
        "..%5coutside",
        "inside%00",
        "inside%2f",
        "%252e%252e%252foutside",
        "%ff",
        &absolute,
    ] {
        let answer = server.get(&format!("/api/runs/{name}/losses"));
        answer.error(if name == "%ff" { 400 } else { 404 });
        assert!(!answer.body.contains("2.0"), "{name}: {}", answer.body);
    }
}
