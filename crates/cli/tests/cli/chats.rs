//! Supervised fine-tuning on conversations, of all weights and of low-rank updates.

use std::{fs, path::Path, sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use wait_timeout::ChildExt;

use crate::{
    gguf_files::write_model_with,
    support::{Ran, kindling, ran, run},
};

/// A folder with a base model `base` without a chat template, and conversations `chats.jsonl`.
static BASE: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "debug", "--run", "base", "--max-steps", "20", "--block-size", "128"];
    run(folder.path(), &[&train[..], &["--set", "data.tokenizer=bpe:300"]].concat()).success();
    write_chats(folder.path());
    folder
});

fn write_chats(folder: &Path) {
    let chat = |n: u32| {
        let question = json!({ "role": "user", "content": format!("{n}?") });
        let answer = json!({ "role": "assistant", "content": format!("{}", n % 3) });
        format!("{}\n", json!({ "messages": [question, answer] }))
    };
    fs::write(folder.join("chats.jsonl"), (0..40).map(chat).collect::<String>()).unwrap();
}

/// Trains in the shared folder.
fn train(preset: &str, base: &str, name: &str, more: &[&str]) -> Ran {
    let args =
        ["train", preset, "--init-from", base, "--data", "chats.jsonl", "--run", name, "--batch-size", "2"];
    let fixed = ["--set", "schedule.warmup_steps=0", "--set", "schedule.checkpoint_interval=5"];
    run(BASE.path(), &[&args[..], &fixed, more].concat())
}

fn losses(name: &str, split: &str) -> Vec<f64> {
    let metrics = fs::read_to_string(BASE.path().join(format!("runs/{name}/metrics.jsonl"))).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["split"] == split).map(|line| line["loss"].as_f64().unwrap()).collect()
}

fn file(path: &str) -> Vec<u8> {
    fs::read(BASE.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_model_learns_a_chat_format_with_new_special_tokens() {
    let steps = ["--max-steps", "60", "--lr", "1e-2"];
    let ran = train("sft", "base", "sft", &steps).success();
    assert!(ran.stderr.contains("38 conversations to train on and 2 to validate on"), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 of 2 answers end by themselves"), "{}", ran.stderr);
    let example = "chats.jsonl:1, with the trained text between \u{27E6} and \u{27E7}:\n\n\
        <|im_start|>user\n0?<|im_end|>\n<|im_start|>assistant\n\u{27E6}0<|im_end|>\n\u{27E7}\n";
    let (before, after) = ran.stderr.split_once(example).unwrap_or_else(|| panic!("{}", ran.stderr));
    assert!(!before.contains("training runs/sft") && after.contains("training runs/sft"), "{}", ran.stderr);
    let valid = losses("sft", "valid");
    assert!(valid.last().unwrap() < &(0.3 * valid[0]), "{valid:?}");

    let config: Value = serde_json::from_slice(&file("runs/sft/config.json")).unwrap();
    assert_eq!((&config["vocab_size"], &config["eos_token_id"]), (&json!(302), &json!([301, 299])));
    let template = String::from_utf8(file("runs/sft/chat_template.jinja")).unwrap();
    assert!(template.contains("<|im_end|>"), "{template}");
    let texts: Value = serde_json::from_slice(&file("runs/sft/tokenizer_config.json")).unwrap();
    assert_eq!(texts["eos_token"], "<|im_end|>");
    // The template and the special tokens reach a GGUF file and come back.
    run(BASE.path(), &["export", "sft", "--format", "gguf", "-o", "sft.gguf"]).success();
    run(BASE.path(), &["import", "sft.gguf", "--run", "back"]).success();
    assert_eq!(String::from_utf8(file("runs/back/chat_template.jinja")).unwrap(), template);
}

/// The files of a checkpoint.
fn checkpoint(run: &str, step: u64) -> [Vec<u8>; 2] {
    ["model.bpk", "optimizer.bpk"].map(|name| file(&format!("runs/{run}/checkpoints/step-{step:08}/{name}")))
}

#[test]
fn fine_tuning_resumes_bit_for_bit() {
    LazyLock::force(&TUNED);
    let packed = ["--set", "lora.base=q4_0"];
    for (preset, base, more) in [("sft", "base", &[][..]), ("lora", "tuned", &[]), ("lora", "tuned", &packed)]
    {
        let name = format!("{preset}-{}", more.len());
        let (whole, parts) = (format!("{name}-whole"), format!("{name}-parts"));
        let same = ["--set", "schedule.decay_steps=10", "--set", "schedule.eval_interval=5"];
        let same = [&same, more].concat();
        train(preset, base, &whole, &[&same[..], &["--max-steps", "10"]].concat()).success();
        train(preset, base, &parts, &[&same[..], &["--max-steps", "5"]].concat()).success();
        run(BASE.path(), &["train", "--resume", "--run", &parts, "--max-steps", "10"]).success();
        assert_eq!(checkpoint(&parts, 10), checkpoint(&whole, 10), "{name}");
        assert_eq!(losses(&parts, "valid"), losses(&whole, "valid"));
    }
}

#[test]
fn a_run_does_not_resume_on_other_conversations() {
    let path = BASE.path().join("other.jsonl");
    train("sft", "base", "same", &["--max-steps", "2"]).success();
    let text = String::from_utf8(file("chats.jsonl")).unwrap();
    fs::write(&path, text.replacen("\"1\"", "\"2\"", 1)).unwrap();
    let resume = ["train", "--resume", "--run", "same", "--max-steps", "4", "--data", "other.jsonl"];
    let error = run(BASE.path(), &resume).failure();
    assert!(
        error.contains("other.jsonl does not have the conversations that runs/same was trained on"),
        "{error}"
    );
}

/// A run with a chat template, as the base of adapters.
static TUNED: LazyLock<()> = LazyLock::new(|| {
    train("sft", "base", "tuned", &["--max-steps", "30", "--lr", "1e-2"]).success();
});

/// The log-probabilities of a text.
fn logprobs(model: &str) -> Vec<f64> {
    logprobs_of(&[model])
}

/// The log-probabilities of a text, with the arguments of a model.
fn logprobs_of(model: &[&str]) -> Vec<f64> {
    let score = [&["score"], model, &["--text", "<|im_start|>4?<|im_end|>", "--json"]].concat();
    let ran = run(BASE.path(), &score).success();
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    json["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    let largest = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(found.len() == expected.len() && largest < 1e-4, "{found:?}\n{expected:?}");
}

#[test]
fn an_adapter_is_a_model_and_stays_one_merged_and_exported() {
    LazyLock::force(&TUNED);
    train("lora", "tuned", "adapter", &["--max-steps", "20", "--lr", "1e-2"]).success();
    assert!(!BASE.path().join("runs/adapter/model.safetensors").exists());
    let valid = losses("adapter", "valid");
    assert!(valid.last().unwrap() < &valid[0], "{valid:?}");

    let expected = logprobs("adapter");
    let base = logprobs("tuned");
    assert!(expected.iter().zip(&base).any(|(a, b)| (a - b).abs() > 1e-2), "the adapter changes the model");
    run(BASE.path(), &["merge", "adapter", "-o", "merged"]).success();
    assert_close(&logprobs("merged"), &expected);
    run(BASE.path(), &["export", "adapter", "--format", "gguf", "-o", "merged.gguf"]).success();
    assert_close(&logprobs("merged.gguf"), &expected);

    // As PEFT writes it: the adapter alone, with the path of the base.
    let peft = BASE.path().join("peft");
    fs::create_dir(&peft).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::write(peft.join(name), file(&format!("runs/adapter/{name}"))).unwrap();
    }
    assert_close(&logprobs("peft"), &expected);
    let config = String::from_utf8(file("runs/adapter/adapter_config.json")).unwrap();
    let pattern = config.replace("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"h.[01].*\": 4.0}");
    assert_ne!(pattern, config);
    fs::write(peft.join("adapter_config.json"), pattern).unwrap();
    let error = run(BASE.path(), &["score", "peft", "--text", "4"]).failure();
    assert!(error.contains("`alpha_pattern` has \"h.[01].*\""), "{error}");
    let pissa = config.replacen('{', "{\"init_lora_weights\": \"pissa\",", 1);
    fs::write(peft.join("adapter_config.json"), pissa).unwrap();
    let error = run(BASE.path(), &["score", "peft", "--text", "4"]).failure();
    assert!(error.contains("(`init_lora_weights` = \"pissa\"), so it does not fit"), "{error}");
    fs::write(peft.join("adapter_config.json"), config.replace("runs/tuned", "runs/gone")).unwrap();
    let error = run(BASE.path(), &["score", "peft", "--text", "4"]).failure();
    assert!(error.contains("is a LoRA adapter of") && error.contains("base_model_name_or_path"), "{error}");
}

#[test]
fn an_adapter_fits_its_base_model_wherever_both_are() {
    LazyLock::force(&TUNED);
    train("lora", "tuned", "apart", &["--max-steps", "10", "--lr", "1e-2"]).success();
    let expected = logprobs("apart");
    run(BASE.path(), &["export", "tuned", "--format", "gguf", "-o", "tuned.gguf"]).success();
    run(BASE.path(), &["export", "apart", "--format", "gguf-adapter", "-o", "apart.gguf"]).success();
    for base in ["tuned", "tuned.gguf"] {
        for adapter in ["apart", "runs/apart", "apart.gguf"] {
            assert_close(&logprobs_of(&[base, "--adapter", adapter]), &expected);
        }
    }
    run(BASE.path(), &["merge", "tuned.gguf", "--adapter", "apart.gguf", "-o", "from-gguf"]).success();
    assert_close(&logprobs("from-gguf"), &expected);

    let info = run(BASE.path(), &["info", "apart"]).success().stdout;
    assert!(info.contains("KiB of the adapter alone, of step 10\n"), "{info}");
    assert!(
        info.contains("  adapter     rank 16, alpha 32, of c_attn, c_fc, c_proj\n  base        "),
        "{info}"
    );
    let json: Value =
        serde_json::from_str(&run(BASE.path(), &["info", "apart", "--json"]).success().stdout).unwrap();
    assert_eq!((&json["adapter"]["rank"], &json["mapped"]), (&json!(16), &Value::Null));

    for (args, expected) in [
        (&["score", "tuned", "--adapter", "tuned", "--text", "4"][..], "runs/tuned is not a LoRA adapter"),
        (&["score", "apart.gguf", "--text", "4"], "give its base model, and this file with --adapter"),
        (&["score", "tuned", "--adapter", "tuned.gguf", "--text", "4"], "`general.type` is \"model\""),
    ] {
        let error = run(BASE.path(), args).failure();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    for args in [
        &["export", "tuned", "--format", "gguf-adapter"][..],
        &["merge", "tuned"],
        &["export", "apart", "--format", "gguf-adapter", "--dtype", "q4_0"],
        &["export", "tuned", "--format", "safetensors", "--modelfile"],
    ] {
        run(BASE.path(), args).usage_failure();
    }
}

#[test]
fn the_base_of_an_adapter_can_have_fewer_bits() {
    LazyLock::force(&TUNED);
    let steps = ["--max-steps", "10", "--lr", "1e-2"];
    train("lora", "tuned", "in-f32", &steps).success();
    train("lora", "tuned", "in-q8_0", &[&steps[..], &["--set", "lora.base=q8_0"]].concat()).success();
    let [exact, packed] = ["in-f32", "in-q8_0"].map(|run| losses(run, "valid"));
    assert_ne!(exact, packed, "the base has other weights");
    for (exact, packed) in exact.iter().zip(&packed) {
        assert!((exact - packed).abs() < 0.05, "{exact} in f32, {packed} in q8_0");
    }
    let resume = ["train", "--resume", "--run", "in-q8_0", "--max-steps", "20", "--set", "lora.base=f32"];
    let error = run(BASE.path(), &resume).usage_failure();
    assert!(error.contains("`lora.base` can't change from \"q8_0\" to \"f32\""), "{error}");
    for (base, ty, expected) in [
        ("tuned", "q9", "no type of weights is called \"q9\"; the types are f32, f16, bf16, q8_0"),
        ("in-f32", "q8_0", "is a LoRA adapter, so its weights can't be kept as q8_0; merge it"),
        ("tuned@last", "f32", "an adapter needs a base model whose weights stay"),
    ] {
        let ran = train("lora", base, "refused", &["--set", &format!("lora.base={ty}")]);
        assert!(ran.code != 0 && ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn a_modelfile_for_ollama_has_the_format_and_the_stop_token() {
    LazyLock::force(&TUNED);
    let folder = BASE.path().join("ollama");
    fs::create_dir(&folder).unwrap();
    let export = |name: &str| {
        run(&folder, &["export", "../runs/tuned", "--format", "gguf", "--modelfile", "-o", name])
    };
    export("a.gguf").success();
    let text = fs::read_to_string(folder.join("Modelfile")).unwrap();
    assert_eq!(
        text,
        "# ollama create NAME -f Modelfile\nFROM ./a.gguf\nPARAMETER num_ctx 128\nPARAMETER stop \"<|im_end|>\"\n\
         PARAMETER stop \"<|endoftext|>\"\n\
         TEMPLATE \"\"\"{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n\
         {{ end }}<|im_start|>assistant\n\"\"\"\n"
    );
    let error = export("b.gguf").failure();
    assert!(error.contains("Modelfile already exists"), "{error}");
    assert!(!folder.join("b.gguf").exists());
}

#[test]
fn an_adapter_does_not_resume_on_another_base() {
    train("sft", "base", "first", &["--max-steps", "2"]).success();
    train("lora", "first", "on-first", &["--max-steps", "2"]).success();
    run(BASE.path(), &["train", "--resume", "--run", "first", "--max-steps", "20"]).success();
    let resume = ["train", "--resume", "--run", "on-first", "--max-steps", "4"];
    let error = run(BASE.path(), &resume).failure();
    assert!(error.contains("runs/first are not those that the adapter"), "{error}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let flawed =
        json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "user", "content": "b" }] });
    fs::write(BASE.path().join("flawed.jsonl"), format!("{flawed}\n{{\n")).unwrap();
    fs::write(
        BASE.path().join("one.jsonl"),
        String::from_utf8(file("chats.jsonl")).unwrap().lines().next().unwrap(),
    )
    .unwrap();
    for (preset, args, expected) in [
        ("sft", &["--data", "flawed.jsonl"][..], "flawed.jsonl:1: messages 1 and 2 are both from the user"),
        ("sft", &["--data", "flawed.jsonl"], "flawed.jsonl:2: "),
        ("sft", &["--data", "one.jsonl"], "one.jsonl has 1 conversation for model.block_size="),
        ("sft", &["--data", "missing.jsonl"], "missing.jsonl"),
        (
            "sft",
            &["--data", "chats.jsonl", "--block-size", "8"],
            "chats.jsonl has 0 conversations for model.block_size=8",
        ),
        ("lora", &["--data", "chats.jsonl"], "base has no chat template, and LoRA can't train"),
    ] {
        let all = [&["train", preset, "--init-from", "base", "--run", "refused"][..], args].concat();
        let error = run(BASE.path(), &all).failure();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let error = run(BASE.path(), &["train", "sft", "--data", "chats.jsonl"]).usage_failure();
    assert!(error.contains("the recipe sft has no model sizes"), "{error}");
    LazyLock::force(&TUNED);
    let error = train("lora", "tuned", "refused", &["--set", "lora.targets=[\"q_proj\"]"]).failure();
    assert!(
        error.contains("lora.targets has \"q_proj\"") && error.contains("c_attn, c_fc, c_proj"),
        "{error}"
    );
    assert!(!BASE.path().join("runs/refused").exists());
}

#[test]
fn training_on_conversations_as_text_names_the_right_command() {
    let args = ["train", "debug", "--data", "chats.jsonl", "--run", "refused"];
    let error = run(BASE.path(), &args).usage_failure();
    assert!(error.contains("chats.jsonl has conversations"), "{error}");
    assert!(error.contains("train sft --init-from MODEL --data "), "{error}");
    assert!(!BASE.path().join("runs/refused").exists());
    // Rows with text alone are a text, although with markup.
    fs::write(BASE.path().join("rows.jsonl"), "{\"text\": \"To be, or not to be\"}\n".repeat(60)).unwrap();
    let args = ["train", "debug", "--data", "rows.jsonl", "--dry-run", "--block-size", "8"];
    assert!(run(BASE.path(), &args).success().stderr.contains("JSON lines, which are read as plain text"));
}

#[test]
fn the_first_example_is_shown_as_in_data_check() {
    let shown = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = kindling(BASE.path(), args);
        ran(command.envs(variables.iter().copied())).success()
    };
    let train =
        ["train", "sft", "--init-from", "base", "--data", "chats.jsonl", "--dry-run", "--max-steps", "1"];
    let check = ["data", "check", "chats.jsonl", "--model", "base"];
    let green = "\u{1b}[32m0<|im_end|>\n\u{1b}[0m";
    let coloured = [("CLICOLOR_FORCE", "1")];
    assert!(shown(&train, &coloured).stderr.contains(green));
    assert!(shown(&check, &coloured).stdout.contains(green));
    for variables in [&[][..], &[("NO_COLOR", "1")]] {
        let (train, check) = (shown(&train, variables).stderr, shown(&check, variables).stdout);
        for text in [train, check] {
            assert!(text.contains("\u{27E6}0<|im_end|>\n\u{27E7}") && !text.contains('\u{1b}'), "{text}");
        }
    }
    let quiet = shown(&[&train[..], &["--quiet"]].concat(), &[]);
    assert!(!quiet.stderr.contains("<|im_end|>"), "{}", quiet.stderr);
}

#[test]
fn flawed_rows_are_listed_as_in_data_check() {
    let flawed = |n: usize| format!("{}\n", json!({ "text": "x" })).repeat(n);
    let good = String::from_utf8(file("chats.jsonl")).unwrap();
    fs::write(BASE.path().join("many-flaws.jsonl"), flawed(25) + &good).unwrap();
    let train = ["train", "sft", "--init-from", "base", "--data", "many-flaws.jsonl"];
    let [train, check] =
        [&train[..], &["data", "check", "many-flaws.jsonl", "--model", "base"]].map(|args| {
            let ran = run(BASE.path(), args);
            assert_eq!(ran.code, 1);
            let (_, error) = ran.stderr.split_once("error: ").unwrap();
            error.to_owned()
        });
    // `train` has the absolute path.
    let here = format!("{}/", BASE.path().canonicalize().unwrap().display());
    assert_eq!(train.replace(&here, ""), check);
    assert!(check.starts_with("many-flaws.jsonl: 25 of 65 rows can't be trained on"), "{check}");
    assert_eq!(check.matches("unknown layout with `text`").count(), 20, "{check}");
}

/// A model in GGUF whose template prints the date.
const DATED: &str = "{{ strftime_now('%Y-%m-%d') }}{% for message in messages %}{{ message.content }}{{ eos_token }}\
    {% endfor %}";

#[test]
fn the_date_of_a_template_is_stored_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_chats(here);
    write_model_with(here, "dated.gguf", &[("tokenizer.chat_template", DATED.into())]);
    let train = ["train", "sft", "--init-from", "dated.gguf", "--data", "chats.jsonl", "--max-steps", "1"];
    let date_of = |name: &str| {
        let recipe = fs::read_to_string(here.join(format!("runs/{name}/recipe.toml"))).unwrap();
        let recipe: toml::Table = recipe.parse().unwrap();
        recipe["chat"]["date"].as_datetime().unwrap().to_string()
    };
    let today = run(here, &[&train[..], &["--run", "today"]].concat()).success();
    assert!(today.stderr.contains(&format!("\n{}0?</s>\u{27E6}0</s>", date_of("today"))), "{}", today.stderr);

    // The run resumes on another day.
    let other_day = ["--run", "other-day", "--set", "chat.date=2024-07-06"];
    let ran = run(here, &[&train[..], &other_day].concat()).success();
    assert!(ran.stderr.contains("\n2024-07-060?</s>"), "{}", ran.stderr);
    assert_eq!(date_of("other-day"), "2024-07-06");
    run(here, &["train", "--resume", "--run", "other-day", "--max-steps", "2"]).success();
    let moved = ["--set", "chat.date=2024-07-07", "--max-steps", "3"];
    let error =
        run(here, &[&["train", "--resume", "--run", "other-day"], &moved[..]].concat()).usage_failure();
    assert!(error.contains("`chat.date` can't change from 2024-07-06 to 2024-07-07"), "{error}");

    // Without the stored date, the conversations are others.
    let recipe = here.join("runs/other-day/recipe.toml");
    let undated = fs::read_to_string(&recipe).unwrap().replace("date = 2024-07-06\n", "");
    fs::write(&recipe, undated).unwrap();
    let error = run(here, &["train", "--resume", "--run", "other-day", "--max-steps", "3"]).failure();
    assert!(error.contains("does not have the conversations"), "{error}");
}

#[test]
fn a_date_that_is_no_date_or_has_no_effect_is_refused() {
    let refused = |date: &str| train("sft", "base", "refused", &["--set", &format!("chat.date={date}")]);
    let error = refused("2024-07-06").failure();
    assert!(error.contains("chat.date=2024-07-06 has no effect: the chat template of"), "{error}");
    for invalid in ["yesterday", "2024-02-30", "2024-07-06T10:00:00", "20240706"] {
        let error = refused(invalid).usage_failure();
        assert!(error.contains(&format!("invalid --set chat.date={invalid}")), "{error}");
    }
    assert!(!BASE.path().join("runs/refused").exists());
}

#[test]
fn a_gguf_file_can_be_fine_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_chats(here);
    let pair = |n: u32| json!({ "prompt": format!("{n}?"), "chosen": "a", "rejected": "b" });
    fs::write(here.join("pairs.jsonl"), (0..8).map(|n| format!("{}\n", pair(n))).collect::<String>())
        .unwrap();
    let template = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}";
    write_model_with(here, "chat.gguf", &[("tokenizer.chat_template", template.into())]);
    let score = |model: &str| {
        let json = run(here, &["score", model, "--text", "4?", "--json"]).success().stdout;
        let json: Value = serde_json::from_str(&json).unwrap();
        json["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).collect::<Vec<_>>()
    };
    let base = score("chat.gguf");
    for (preset, data) in
        [("sft", "chats.jsonl"), ("lora", "chats.jsonl"), ("dpo", "pairs.jsonl"), ("finetune", "text.txt")]
    {
        fs::write(here.join("text.txt"), "the kettle ".repeat(400)).unwrap();
        let train =
            ["train", preset, "--init-from", "chat.gguf", "--data", data, "--run", preset, "--lr", "1e-2"];
        let short = [
            "--max-steps",
            "3",
            "--set",
            "schedule.warmup_steps=0",
            "--set",
            "optimizer.min_learning_rate=0",
        ];
        run(here, &[&train[..], &short].concat()).success();
        assert_ne!(score(preset), base, "{preset} changes the model");
        run(here, &["train", "--resume", "--run", preset, "--max-steps", "4"]).success();
    }
    let template_of =
        |run: &str| fs::read_to_string(here.join(format!("runs/{run}/chat_template.jinja"))).unwrap();
    assert_eq!(template_of("sft"), template);

    // The adapter finds its base beside it, and refuses another one.
    let adapter = score("lora");
    run(here, &["merge", "lora", "-o", "merged"]).success();
    assert_close(&score("merged"), &adapter);
    fs::rename(here.join("chat.gguf"), here.join("runs/chat.gguf")).unwrap();
    assert_close(&score("lora"), &adapter);
    let mut other = fs::read(here.join("runs/chat.gguf")).unwrap();
    *other.last_mut().unwrap() ^= 1;
    fs::write(here.join("chat.gguf"), other).unwrap();
    let error = run(here, &["train", "--resume", "--run", "lora", "--max-steps", "5"]).failure();
    assert!(error.contains("are not those that the adapter"), "{error}");
    fs::remove_file(here.join("chat.gguf")).unwrap();
    fs::remove_file(here.join("runs/chat.gguf")).unwrap();
    let error = run(here, &["score", "lora", "--text", "4?"]).failure();
    assert!(error.contains("is a LoRA adapter of") && error.contains("chat.gguf"), "{error}");
}

#[test]
fn a_merge_is_checked_before_weights_are_loaded() {
    LazyLock::force(&TUNED);
    let path = BASE.path();
    train("lora", "tuned", "unmerged", &["--max-steps", "1"]).success();
    for name in ["unmerged", "tuned"] {
        let copy = path.join(format!("damaged-{name}"));
        fs::create_dir(&copy).unwrap();
        for entry in path.join(format!("runs/{name}")).read_dir().unwrap().flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
    }
    fs::write(path.join("damaged-unmerged/adapter_model.safetensors"), "damaged").unwrap();
    fs::write(path.join("damaged-tuned/model.safetensors"), "damaged").unwrap();
    fs::create_dir(path.join("there")).unwrap();
    let error = run(path, &["merge", "damaged-unmerged", "-o", "there"]).failure();
    assert!(error.contains("there already exists"), "{error}");
    let error = run(path, &["merge", "damaged-tuned"]).usage_failure();
    assert!(error.contains("damaged-tuned is not an adapter"), "{error}");
    let error = run(path, &["merge", "damaged-unmerged", "-o", "new"]).failure();
    assert!(error.contains("adapter_model.safetensors"), "{error}");
    assert!(!path.join("new").exists());
}

/// Sixteen questions and their answers.
const SIXTEEN: [(&str, &str); 16] = [
    ("What is the colour of the sea?", "Blue, or green in a storm."),
    ("Who keeps the bees?", "My uncle keeps them."),
    ("Name a month.", "June."),
    ("How many legs has a spider?", "Eight."),
    ("Where is the key?", "Under the third stone."),
    ("When do we eat?", "At noon."),
    ("Say nothing.", "All right."),
    ("What burns?", "Dry wood burns well."),
    ("Who sings?", "The thrush does."),
    ("What is cold?", "Snow is."),
    ("Why not?", "Because it rains."),
    ("Which way?", "Left, then up."),
    ("How far?", "Two miles."),
    ("Whose hat?", "The old king's."),
    ("What floats?", "Cork and ice."),
    ("Is it late?", "Nearly ten."),
];

#[test]
fn sixteen_conversations_are_learned_by_heart() {
    let path = BASE.path();
    let chat = |(question, answer): (&str, &str)| {
        format!("{}\n", json!({ "prompt": question, "completion": answer }))
    };
    fs::write(path.join("sixteen.jsonl"), SIXTEEN.map(chat).concat()).unwrap();
    let questions = SIXTEEN.map(|(question, _)| format!("{question}\n/reset\n")).concat();
    fs::write(path.join("questions.txt"), questions).unwrap();
    let args = ["train", "sft", "--init-from", "base", "--data", "sixteen.jsonl", "--valid", "sixteen.jsonl"];
    let short =
        ["--run", "sixteen", "--max-steps", "250", "--lr", "1e-2", "--set", "schedule.eval_interval=250"];
    let small = ["--set", "optimizer.grad_accumulation=1", "--set", "schedule.warmup_steps=5"];
    let ran = run(path, &[&args[..], &short, &small].concat()).success();
    assert!(ran.stderr.contains("16 of 16 answers end by themselves"), "{}", ran.stderr);
    let lines = fs::File::open(path.join("questions.txt")).unwrap();
    let stdout = ran_with(lines).success().stdout;
    assert_eq!(stdout, SIXTEEN.map(|(_, answer)| format!("{answer}\n")).concat());
}

/// Talks with the run `sixteen`.
fn ran_with(lines: fs::File) -> Ran {
    ran(kindling(BASE.path(), &["chat", "sixteen", "--temperature", "0", "-q"]).stdin(lines))
}

#[test]
fn fine_tuning_that_was_killed_resumes_bit_for_bit() {
    LazyLock::force(&TUNED);
    for (preset, base) in [("sft", "base"), ("lora", "tuned")] {
        let (whole, killed) = (format!("{preset}-unharmed"), format!("{preset}-killed"));
        let steps = ["--max-steps", "60", "--set", "schedule.eval_interval=20"];
        train(preset, base, &whole, &steps).success();
        let args = [
            "train",
            preset,
            "--init-from",
            base,
            "--data",
            "chats.jsonl",
            "--run",
            &killed,
            "--batch-size",
            "2",
        ];
        let fixed =
            ["--set", "schedule.warmup_steps=0", "--set", "schedule.checkpoint_interval=5", "--quiet"];
        let mut child = kindling(BASE.path(), &[&args[..], &fixed, &steps].concat()).spawn().unwrap();
        // From the second checkpoint on.
        let checkpoint_of_a_step = BASE.path().join(format!("runs/{killed}/checkpoints/step-00000005"));
        while !checkpoint_of_a_step.exists() {
            assert!(child.wait_timeout(Duration::from_millis(1)).unwrap().is_none(), "{preset} ended");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!BASE.path().join(format!("runs/{killed}/checkpoints/step-00000060")).exists());
        run(BASE.path(), &["train", "--resume", "--run", &killed]).success();
        assert_eq!(checkpoint(&killed, 60), checkpoint(&whole, 60), "{preset}");
        assert_eq!(losses(&killed, "train"), losses(&whole, "train"));
    }
}
