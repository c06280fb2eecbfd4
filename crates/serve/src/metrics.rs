//! Metrics for Prometheus.

use std::sync::Arc;

use engine::Load;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The metrics of a server. A clone shares their values.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Answer, Counter>,
    /// In the order of the served models.
    models: Arc<[ModelMetrics]>,
    first_token: Histogram,
    duration: Histogram,
    speed: Histogram,
}

/// The labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    /// The pattern of its path, so that the number of labels is bounded.
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

/// The metrics of one model.
#[derive(Debug)]
struct ModelMetrics {
    n_running: Gauge,
    n_waiting: Gauge,
    n_cached: Gauge,
    cache_bytes: Gauge,
    prompt_tokens: Counter,
    reused_tokens: Counter,
    generated_tokens: Counter,
    proposed_tokens: Counter,
    accepted_tokens: Counter,
}

impl Metrics {
    /// Metrics of models with these ids and `n_slots` slots each.
    pub(crate) fn new<'a>(models: impl IntoIterator<Item = &'a str>, n_slots: usize) -> Self {
        let mut registry = Registry::with_prefix("kindling");
        let requests = Family::default();
        registry.register("requests", "HTTP requests by route and status", requests.clone());

        let mut gauge = |name: &str, help: &str| {
            let family = Family::<ModelLabel, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        };
        let slots = gauge("slots", "Samples that can run at a time");
        let running = gauge("slots_busy", "Samples that run");
        let waiting = gauge("queue_length", "Samples that wait for a slot");
        let cached = gauge("cache_positions", "Positions in the KV caches");
        let bytes = gauge("cache_bytes", "Memory of the KV caches in bytes");

        let mut counter = |name: &str, help: &str| {
            let family = Family::<ModelLabel, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let prompt = counter("prompt_tokens", "Prompt tokens that the model has processed");
        let reused = counter("reused_prompt_tokens", "Prompt tokens whose keys and values were reused");
        let generated = counter("generated_tokens", "Generated tokens");
        let proposed = counter("proposed_tokens", "Tokens that prompt lookup proposed");
        let accepted = counter("accepted_tokens", "Proposed tokens that were generated");

        let mut histogram = |name: &str, help: &str, unit: Unit, buckets: (f64, f64, u16)| {
            let (start, factor, n) = buckets;
            let histogram = Histogram::new(exponential_buckets(start, factor, n));
            registry.register_with_unit(name, help, unit, histogram.clone());
            histogram
        };
        let first_token =
            histogram("time_to_first_token", "Time to the first token", Unit::Seconds, (0.001, 2.0, 18));
        let duration =
            histogram("generation_duration", "Time to the last token", Unit::Seconds, (0.001, 2.0, 20));
        let per_second = Unit::Other("tokens_per_second".to_owned());
        let speed = histogram("generation_speed", "Generated tokens per second", per_second, (1.0, 2.0, 16));

        let models = models.into_iter().map(|model| {
            let label = ModelLabel { model: model.to_owned() };
            slots.get_or_create(&label).set(gauge_value(n_slots));
            ModelMetrics {
                n_running: running.get_or_create_owned(&label),
                n_waiting: waiting.get_or_create_owned(&label),
                n_cached: cached.get_or_create_owned(&label),
                cache_bytes: bytes.get_or_create_owned(&label),
                prompt_tokens: prompt.get_or_create_owned(&label),
                reused_tokens: reused.get_or_create_owned(&label),
                generated_tokens: generated.get_or_create_owned(&label),
                proposed_tokens: proposed.get_or_create_owned(&label),
                accepted_tokens: accepted.get_or_create_owned(&label),
            }
        });
        let models = models.collect();
        Self { registry: Arc::new(registry), requests, models, first_token, duration, speed }
    }

    /// Counts a response. `route` is a pattern of paths, not the path of a request.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        self.requests.get_or_create(&Answer { route: route.to_owned(), status }).inc();
    }

    /// The state of a model's scheduler after a step. `model` is its index.
    pub(crate) fn observe_load(&self, model: usize, load: Load) {
        let metrics = &self.models[model];
        metrics.n_running.set(gauge_value(load.n_running));
        metrics.n_waiting.set(gauge_value(load.n_waiting));
        metrics.n_cached.set(gauge_value(load.n_cached));
        metrics.cache_bytes.set(gauge_value(load.cache_bytes));
        raise(&metrics.prompt_tokens, load.totals.n_prompt_tokens);
        raise(&metrics.reused_tokens, load.totals.n_reused_tokens);
        raise(&metrics.generated_tokens, load.totals.n_sampled_tokens);
        raise(&metrics.proposed_tokens, load.totals.n_proposed_tokens);
        raise(&metrics.accepted_tokens, load.totals.n_accepted_tokens);
    }

    /// The time from the arrival of a request to its first token.
    pub(crate) fn first_token(&self, seconds: f64) {
        self.first_token.observe(seconds);
    }

    /// The generated tokens of a request and its time from arrival to the last token.
    pub(crate) fn finished(&self, n_tokens: u64, seconds: f64) {
        self.duration.observe(seconds);
        if n_tokens > 0 && seconds > 0.0 {
            self.speed.observe(n_tokens as f64 / seconds);
        }
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// Raises a counter to a total that was counted elsewhere.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn gauge_value(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use engine::Totals;

    use super::*;

    #[test]
    fn each_value_appears_under_its_name() {
        let metrics = Metrics::new(["a", "b/c"], 4);
        let before = metrics.to_text();
        assert!(before.contains("kindling_slots{model=\"a\"} 4\n"), "{before}");
        assert!(before.contains("kindling_slots_busy{model=\"b/c\"} 0\n"), "{before}");

        metrics.answered("/v1/completions", 200);
        metrics.answered("/v1/completions", 429);
        metrics.answered("/v1/completions", 200);
        let load = Load {
            n_running: 3,
            n_waiting: 2,
            n_cached: 70,
            cache_bytes: 8_000,
            totals: Totals {
                n_prompt_tokens: 50,
                n_reused_tokens: 20,
                n_sampled_tokens: 9,
                n_proposed_tokens: 6,
                n_accepted_tokens: 4,
            },
        };
        metrics.observe_load(1, load);
        let totals = Totals { n_sampled_tokens: 10, ..load.totals };
        metrics.observe_load(1, Load { n_running: 0, totals, ..load });
        metrics.first_token(0.003);
        metrics.finished(10, 2.0);

        let text = metrics.to_text();
        for line in [
            "kindling_requests_total{route=\"/v1/completions\",status=\"200\"} 2",
            "kindling_requests_total{route=\"/v1/completions\",status=\"429\"} 1",
            "kindling_slots_busy{model=\"a\"} 0",
            "kindling_slots_busy{model=\"b/c\"} 0",
            "kindling_queue_length{model=\"b/c\"} 2",
            "kindling_cache_positions{model=\"b/c\"} 70",
            "kindling_cache_bytes{model=\"b/c\"} 8000",
            "kindling_prompt_tokens_total{model=\"b/c\"} 50",
            "kindling_reused_prompt_tokens_total{model=\"b/c\"} 20",
            "kindling_generated_tokens_total{model=\"b/c\"} 10",
            "kindling_generated_tokens_total{model=\"a\"} 0",
            "kindling_proposed_tokens_total{model=\"b/c\"} 6",
            "kindling_accepted_tokens_total{model=\"b/c\"} 4",
            "kindling_time_to_first_token_seconds_bucket{le=\"0.002\"} 0",
            "kindling_time_to_first_token_seconds_bucket{le=\"0.004\"} 1",
            "kindling_time_to_first_token_seconds_count 1",
            "kindling_generation_duration_seconds_sum 2.0",
            "kindling_generation_speed_tokens_per_second_sum 5.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_request_without_tokens_has_no_speed() {
        let metrics = Metrics::new(["a"], 1);
        metrics.finished(0, 0.0);
        assert!(metrics.to_text().contains("generation_speed_tokens_per_second_count 0"));
    }
}
