//! `/health` and `/metrics`.

use serde_json::json;
use serve::Settings;

use crate::support::TestServer;

/// The value of a metric, named with its labels.
fn value(server: &TestServer, name: &str) -> f64 {
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().contains("openmetrics-text"));
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn health_is_ok() {
    assert_eq!(TestServer::start().get("/health").ok(), json!({ "status": "ok" }));
}

#[test]
fn prompt_lookup_keeps_the_text_and_is_counted() {
    let request = json!({
        "prompt": "abcabcabcabc", "max_tokens": 100, "ignore_eos": true, "temperature": 0
    });
    let [plain, server] =
        [0, 8].map(|prompt_lookup| TestServer::with(Settings { prompt_lookup, ..Settings::default() }));
    let [expected, text] = [&plain, &server]
        .map(|server| server.post("/v1/completions", &request).ok()["choices"][0]["text"].clone());
    assert_eq!(text, expected);
    let counts = |server: &TestServer| {
        while value(server, "kindling_generated_tokens_total{model=\"tiny\"}") < 100.0 {}
        ["proposed", "accepted"]
            .map(|kind| value(server, &format!("kindling_{kind}_tokens_total{{model=\"tiny\"}}")))
    };
    assert_eq!(counts(&plain), [0.0, 0.0]);
    let [n_proposed, n_accepted] = counts(&server);
    assert!(0.0 < n_accepted && n_accepted <= n_proposed, "{n_accepted} of {n_proposed}");
}

#[test]
fn metrics_move_with_requests() {
    let server = TestServer::with(Settings { n_slots: 3, ..Settings::default() });
    let metric = |name| value(&server, name);
    assert_eq!(metric("kindling_slots{model=\"tiny\"}"), 3.0);
    assert_eq!(metric("kindling_generated_tokens_total{model=\"tiny\"}"), 0.0);

    let request =
        json!({ "prompt": "Once upon a time", "max_tokens": 7, "ignore_eos": true, "temperature": 0 });
    server.post("/v1/completions", &request).ok();
    server.post("/v1/completions", &json!({ "prompt": 7.5 })).error(400);
    server.get("/none").error(404);

    // The engine thread reports a step just after its results are sent.
    while metric("kindling_generated_tokens_total{model=\"tiny\"}") < 7.0 {}
    assert_eq!(metric("kindling_generated_tokens_total{model=\"tiny\"}"), 7.0);
    assert_eq!(metric("kindling_prompt_tokens_total{model=\"tiny\"}"), 16.0);
    let ok = "kindling_requests_total{route=\"/v1/completions\",status=\"200\"}";
    assert_eq!(metric(ok), 1.0);
    assert_eq!(metric("kindling_requests_total{route=\"/v1/completions\",status=\"400\"}"), 1.0);
    assert_eq!(metric("kindling_requests_total{route=\"unknown\",status=\"404\"}"), 1.0);
    assert_eq!(metric("kindling_time_to_first_token_seconds_count"), 1.0);
    assert_eq!(metric("kindling_generation_duration_seconds_count"), 1.0);
    assert_eq!(metric("kindling_generation_speed_tokens_per_second_count"), 1.0);
    while metric("kindling_slots_busy{model=\"tiny\"}") > 0.0 {}
    assert_eq!(metric("kindling_queue_length{model=\"tiny\"}"), 0.0);

    server.post("/v1/completions", &request).ok();
    while metric("kindling_reused_prompt_tokens_total{model=\"tiny\"}") == 0.0 {}
    assert!(metric("kindling_cache_positions{model=\"tiny\"}") >= 16.0, "the slot is kept for reuse");
    assert!(metric("kindling_cache_bytes{model=\"tiny\"}") > 0.0);
    assert_eq!(metric(ok), 2.0);
}
