//! Fine-tuning compared with PyTorch. `xtask/golden/finetune.py` made the fixture.

use std::{collections::BTreeMap, fs};

use crate::support::{fixture, run};
use serde::Deserialize;
use serde_json::Value;

/// Rounding in f32 changes the losses by 3e-7; the smallest of the usual mistakes changes them by 7e-3.
const LOSS: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    overrides: BTreeMap<String, Value>,
    losses: Vec<f64>,
}

#[test]
fn ten_steps_have_the_losses_of_pytorch() {
    let golden_folder = fixture("tests/fixtures/finetune");
    let path = |name: &str| golden_folder.join(name).to_str().unwrap().to_owned();
    let golden: Golden =
        serde_json::from_str(&fs::read_to_string(golden_folder.join("golden.json")).unwrap()).unwrap();

    let (model, text) = (path(""), path("text.txt"));
    let folder = tempfile::tempdir().unwrap();
    // A separate validation text, so that the whole text is used for training.
    let twice = fs::read_to_string(&text).unwrap().repeat(2);
    fs::write(folder.path().join("valid.txt"), twice).unwrap();
    let mut args = vec!["train", "finetune", "--init-from", &model, "--data", &text, "--valid", "valid.txt"];
    args.extend(["--run", "ten"]);
    let overrides: Vec<_> = golden.overrides.iter().map(|(key, value)| format!("{key}={value}")).collect();
    args.extend(overrides.iter().flat_map(|assignment| ["--set", assignment.as_str()]));
    run(folder.path(), &args).success();

    let metrics = fs::read_to_string(folder.path().join("runs/ten/metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let losses: Vec<f64> =
        lines.filter(|line| line["split"] == "train").map(|line| line["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), golden.losses.len());
    for (step, (got, expected)) in losses.iter().zip(&golden.losses).enumerate() {
        assert!((got - expected).abs() < LOSS, "step {step}: {got} is not {expected}");
    }
}
