//! The page, driven in Chromium through chromedriver.
//!
//! Without either the tests are skipped with a line, unless `KINDLING_REQUIRE_BROWSER=1` is set: then they fail.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod browser;
mod server;

use browser::{Browser, ESCAPE, HOME, RIGHT};
use serde_json::{Value, json};
use server::Server;

/// More tokens than a browser waits for: a test that does not stop the generation exceeds its time limit.
const MANY_TOKENS: &str = "100000";

/// One session, since a browser takes a second to start.
#[test]
fn the_page_streams_text_stops_shows_probabilities_and_watches_a_run() {
    let server = Server::start();
    let Some(browser) = Browser::start() else { return };
    browser.open(&server.url(""));
    streamed_text_appears_and_can_be_stopped(&browser, &server);
    arrow_keys_show_the_rivals_of_each_token(&browser);
    a_model_without_a_chat_template_says_so(&browser);
    both_sides_of_a_comparison_stream(&browser);
    a_curve_grows_with_its_run(&browser, &server);
    settings_survive_a_reload(&browser);
    held_back_text_and_bytes_go_to_their_tokens(&browser);
    nothing_was_loaded_from_elsewhere(&browser, &server);
}

#[test]
fn every_tab_fits_a_width_of_360_pixels() {
    let server = Server::start();
    let Some(browser) = Browser::start_narrow() else { return };
    browser.open(&server.url(""));
    for tab in ["complete", "chat", "compare", "runs"] {
        browser.click(&format!("#tab-{tab}"));
        browser.see(&format!("#panel-{tab}:not([hidden])"));
        browser.run("for (const it of document.querySelectorAll('main details')) it.open = true");
        let width = browser.run("return document.scrollingElement.scrollWidth");
        assert_eq!(width, 360, "{tab}");
    }
}

#[test]
fn a_missing_key_moves_the_focus_to_its_field() {
    let server = Server::start_with_key("sk-browser");
    let Some(browser) = Browser::start() else { return };
    browser.open(&server.url(""));
    browser.see("#key:focus");
    browser.see_text("key-notice", "needs an API key");
    browser.type_into("#key", "sk-wrong\n");
    browser.see_text("key-notice", "rejected");
    browser.run("document.getElementById('key').value = ''");
    browser.type_into("#key", "sk-browser\n");
    browser.see_text("model", "tiny");
    let kept = browser.run("return [sessionStorage.length, 'kindling-api-key' in localStorage]");
    assert_eq!(kept, json!([1, false]), "the key is kept for this tab only");
}

fn streamed_text_appears_and_can_be_stopped(browser: &Browser, server: &Server) {
    browser.see_text("model", "tiny");
    browser.set("#sampling-max_tokens", MANY_TOKENS);
    browser.type_into("#prompt", "abc");
    browser.click("#generate");
    browser.see("#output [data-token='20']");
    browser.see("#generate:disabled");
    browser.click("#stop");
    browser.see("#generate:enabled");
    browser.see_text("stats", "tokens/s");
    browser.see_text("stats", "stopped");
    server.wait_until_idle();

    let text = browser.run("return document.getElementById('output').textContent");
    let text = text.as_str().unwrap();
    assert!(text.chars().all(|c| ('a'..='m').contains(&c)), "{text}");
    let n_tokens = browser.run("return document.querySelectorAll('#output [data-token]').length");
    assert_eq!(n_tokens, text.len(), "one letter per token");
}

fn arrow_keys_show_the_rivals_of_each_token(browser: &Browser) {
    browser.run("document.querySelector('#output [tabindex=\"0\"]').focus()");
    browser.see_text("token-panel", "token 1,");
    browser.press(RIGHT);
    browser.press(RIGHT);
    browser.see("#output [data-token='2']:focus");
    browser.see_text("token-panel", "token 3,");
    browser.see("#token-panel li.is-chosen");
    let n_rivals = browser.run("return document.querySelectorAll('#token-panel li').length");
    assert_eq!(n_rivals, 8);
    let described =
        "return document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent";
    let described = browser.run(described);
    assert!(described.as_str().unwrap().contains("rivals: "), "{described}");
}

fn a_model_without_a_chat_template_says_so(browser: &Browser) {
    browser.click("#tab-chat");
    browser.type_into("#chat-input", "abc\n");
    browser.see_text("chat-notice", "chat template");
    browser.see("#send:enabled");
}

fn both_sides_of_a_comparison_stream(browser: &Browser) {
    browser.click("#tab-compare");
    for side in ["a", "b"] {
        browser.run("for (const it of document.querySelectorAll('#pair details')) it.open = true");
        browser.set(&format!("#compare-{side}-max_tokens"), MANY_TOKENS);
    }
    browser.click("#compare-generate");
    browser.see("#output-a [data-token='3']");
    browser.see("#output-b [data-token='3']");
    browser.see("#compare-stop:enabled");
    browser.press(ESCAPE);
    browser.see("#compare-generate:enabled");
}

fn a_curve_grows_with_its_run(browser: &Browser, server: &Server) {
    server.log_losses(0..4);
    browser.click("#tab-runs");
    browser.click("[data-run='live']");
    browser.see("#loss-curve path.train[data-points='4']");
    server.log_losses(4..9);
    browser.see("#loss-curve path.train[data-points='9']");
    browser.see_text("curve-readout", "step 8");
    browser.click("#loss-curve");
    browser.press(HOME);
    browser.see("#loss-curve[aria-valuenow='0']");
    browser.see_text("curve-readout", "training 9.000");
}

fn settings_survive_a_reload(browser: &Browser) {
    browser.click("#tab-complete");
    browser.set("#sampling-temperature", "0.7");
    browser.reload();
    browser.see_text("model", "tiny");
    let kept = browser
        .run("return ['sampling-temperature', 'prompt'].map((id) => document.getElementById(id).value)");
    assert_eq!(kept, json!(["0.7", "abc"]));
}

/// The cases that a tiny model does not produce.
fn held_back_text_and_bytes_go_to_their_tokens(browser: &Browser) {
    let divide = |chunks: Value| {
        browser.run(&format!(
            "const {{ Aligner }} = await import('/page/align.js');
             const aligner = new Aligner();
             const pieces = {chunks}.flatMap(([text, tokens]) => aligner.push(text, tokens.map((text) => ({{ text }}))));
             return [...pieces, ...aligner.finish()].map(([, piece]) => piece);"
        ))
    };
    let held_back = json!([["on", ["on", "ce"]], ["", [" up"]], ["ce up", []], ["on", ["on"]]]);
    assert_eq!(divide(held_back), json!(["on", "ce", " up", "on"]));
    let bytes = json!([["a", ["a"]], ["", [r"bytes:\xe7\x8c"]], ["猫", [r"bytes:\xab"]], ["b", ["b"]]]);
    assert_eq!(divide(bytes), json!(["a", "", "猫", "b"]));
    let cut_at_a_stop_string = json!([["a", ["a"]], ["", ["bST"]], ["b", ["OP"]]]);
    assert_eq!(divide(cut_at_a_stop_string), json!(["a", "", "b"]));
    let eos = json!([["a", ["a"]], ["", ["token_id:2"]]]);
    assert_eq!(divide(eos), json!(["a", ""]));
    let without_tokens = json!([["a", []], ["b", []]]);
    assert_eq!(divide(without_tokens), json!(["a", "b"]));
}

fn nothing_was_loaded_from_elsewhere(browser: &Browser, server: &Server) {
    let loaded = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
    let loaded: Vec<String> = serde_json::from_value(loaded).unwrap();
    assert!(loaded.iter().any(|address| address.ends_with("/page/app.js")), "{loaded:?}");
    assert!(loaded.iter().all(|address| address.starts_with(&server.url(""))), "{loaded:?}");
}
