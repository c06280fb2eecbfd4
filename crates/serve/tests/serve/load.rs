//! Many clients at once, and clients that leave.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use engine::Model;
use hyper::StatusCode;
use model::GptConfig;
use serde_json::{Value, json};
use serve::Settings;
use tokenizer::{SpecialTokens, Tokenizer};
use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{COMPLETIONS, Server};

const N_CLIENTS: u64 = 64;
const N_SLOTS: usize = 8;
const BLOCK_SIZE: usize = 512;
const DURATION: Duration = Duration::from_secs(20);
/// Answers that each client keeps to compare. More would count as memory of the server, which is in this process.
const N_KEPT: usize = 30;
/// Two logits nearer than this may change places when a prompt is processed in other pieces.
const TIE: f64 = 1e-3;

/// A random generator with the constants of Knuth's MMIX.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// An untrained model of bytes with 150,000 parameters.
fn model() -> Model {
    let tokenizer = Tokenizer::byte();
    let config = GptConfig {
        vocab_size: tokenizer.vocab_size(),
        block_size: BLOCK_SIZE,
        n_embd: 64,
        ..GptConfig::debug_modern()
    };
    let gpt = config.init(3, &kernels::testing::test_device()).unwrap();
    Model { gpt, tokenizer, special_tokens: SpecialTokens::default() }
}

/// One of a few hundred greedy requests. Many start alike.
fn request(random: &mut Random) -> Value {
    let len = [3, 20, 100, 300, 450][usize::try_from(random.below(5)).unwrap()];
    let (start, step) = (random.below(4), 1 + random.below(6));
    let prompt: Vec<u64> = (0..len).map(|idx| (start + idx * step * (1 + idx / 40)) % 256).collect();
    json!({ "prompt": prompt, "max_tokens": 1 + random.below(40), "temperature": 0, "logprobs": 2 })
}

/// The memory of this process in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}

/// Sends requests until the time is over. Returns some choices by their requests, and the number of refused requests.
async fn client(server: Arc<Server>, number: u64, end: Instant) -> (BTreeMap<String, Value>, u64) {
    let mut random = Random(number);
    let (mut answers, mut n_refused) = (BTreeMap::new(), 0);
    while Instant::now() < end {
        let request = request(&mut random);
        let response = server.post(COMPLETIONS, &request).await;
        if response.status == StatusCode::TOO_MANY_REQUESTS {
            n_refused += 1;
            tokio::task::yield_now().await;
            continue;
        }
        assert_eq!(response.status, StatusCode::OK);
        let mut body: Value = serde_json::from_str(&response.text().await).unwrap();
        if answers.len() < N_KEPT {
            answers.insert(request.to_string(), body["choices"][0].take());
        }
    }
    (answers, n_refused)
}

/// Fails unless two greedy choices are equal, up to the first token for which the two best logits almost tie.
fn assert_equal_up_to_ties(request: &str, is: &Value, alone: &Value) {
    let tokens = |choice: &Value| choice["logprobs"]["tokens"].as_array().unwrap().clone();
    let (is_tokens, expected) = (tokens(is), tokens(alone));
    let Some(first) = is_tokens.iter().zip(&expected).position(|(is, expected)| is != expected) else {
        assert_eq!(is_tokens.len(), expected.len(), "{request}");
        return;
    };
    let top = alone["logprobs"]["top_logprobs"][first].as_object().unwrap();
    let mut logprobs: Vec<f64> = top.values().map(|logprob| logprob.as_f64().unwrap()).collect();
    logprobs.sort_by(|a, b| b.total_cmp(a));
    assert!(logprobs[0] - logprobs[1] < TIE, "{request}: token {first} is {} in company", is_tokens[first]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_get_the_answers_of_one_and_memory_stays_bounded() {
    let settings = Settings { n_slots: N_SLOTS, queue: 40, ..Settings::default() };
    let server = Arc::new(Server::start(vec![("tiny", model())], settings).await);
    let warm_up = Instant::now() + DURATION / 4;
    let (answers, _) = run_clients(&server, warm_up).await;
    let (n_before, memory_before) = (answers.len(), resident_bytes());
    let (answers, n_refused) = run_clients(&server, Instant::now() + DURATION * 3 / 4).await;
    let grown = resident_bytes().saturating_sub(memory_before);

    assert!(n_before > 100 && answers.len() > 100, "{n_before} and {} different answers", answers.len());
    assert!(n_refused > 0, "the queue was never full");
    let slots = model::estimate_slots(model().gpt.config(), N_SLOTS, BLOCK_SIZE, model::SlotType::F32);
    assert!(server.metric("kindling_cache_bytes").await <= slots);
    assert!(grown < slots + (64 << 20), "memory grew by {} MiB", grown >> 20);
    for metric in ["kindling_slots_busy", "kindling_queue_length"] {
        server.wait_for_metric(metric, 0).await;
    }

    // A new server has no other texts whose keys and values it could reuse.
    for (request, choice) in answers.iter().step_by(answers.len().div_ceil(100)) {
        let alone = Server::start(vec![("tiny", model())], Settings::default()).await;
        let request: Value = serde_json::from_str(request).unwrap();
        let expected = alone.json(COMPLETIONS, &request).await;
        assert_equal_up_to_ties(&request.to_string(), choice, &expected["choices"][0]);
    }
}

/// Runs all clients. Returns the answers and the number of refused requests.
async fn run_clients(server: &Arc<Server>, end: Instant) -> (BTreeMap<String, Value>, u64) {
    let clients = (0..N_CLIENTS).map(|number| client(server.clone(), number, end));
    let results = clients.collect::<JoinSet<_>>().join_all().await;
    let (mut answers, mut n_refused) = (BTreeMap::new(), 0);
    for (own, refused) in results {
        n_refused += refused;
        for (request, choice) in own {
            if let Some(earlier) = answers.get(&request) {
                assert_equal_up_to_ties(&request, &choice, earlier);
            }
            answers.insert(request, choice);
        }
    }
    (answers, n_refused)
}

/// What a client does before it vanishes.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    WithoutWord,
    InTheHeader,
    InTheBody,
    AfterTheRequest,
    InTheAnswer,
}

async fn vanish(server: Arc<Server>, leaving: Leaving) {
    let body = json!({ "prompt": "abc", "max_tokens": 4000, "stream": true }).to_string();
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = format!("{head}{body}");
    let sent = match leaving {
        Leaving::WithoutWord => "",
        Leaving::InTheHeader => &request[..30],
        Leaving::InTheBody => &request[..head.len() + 5],
        Leaving::AfterTheRequest => &request,
        Leaving::InTheAnswer => {
            let body = serde_json::from_str(&body).unwrap();
            let response = server.post(COMPLETIONS, &body).await;
            if response.status != StatusCode::TOO_MANY_REQUESTS {
                assert_eq!(response.status, StatusCode::OK);
            }
            return;
        }
    };
    let stream = TcpStream::connect(server.address()).await.unwrap();
    stream.writable().await.unwrap();
    assert_eq!(
        stream.try_write(sent.as_bytes()).unwrap(),
        sent.len(),
        "an empty buffer takes a short request"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_vanish_leave_no_slot_taken() {
    let settings = Settings { n_slots: N_SLOTS, queue: 40, ..Settings::default() };
    let server = Arc::new(Server::start(vec![("tiny", model())], settings).await);
    use Leaving::{AfterTheRequest, InTheAnswer, InTheBody, InTheHeader, WithoutWord};
    for _ in 0..20 {
        let ways = [WithoutWord, InTheHeader, InTheBody, AfterTheRequest, InTheAnswer];
        let clients = (0..50).map(|number| vanish(server.clone(), ways[number % ways.len()]));
        clients.collect::<JoinSet<_>>().join_all().await;
    }
    for metric in ["kindling_slots_busy", "kindling_queue_length"] {
        server.wait_for_metric(metric, 0).await;
    }
    let answer = server.json(COMPLETIONS, &json!({ "prompt": "abc", "max_tokens": 3 })).await;
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}
