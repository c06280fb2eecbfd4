//! Timing of inference.

use std::time::{Duration, Instant};

use kernels::on_pool;
use model::{Context, Decoder, Gpt};

/// Times `n_times` prefills of a synthetic prompt, up to the logits of the next token.
pub fn time_prefill(model: &Gpt, n_tokens: usize, n_times: usize) -> Vec<Duration> {
    let (prompt, decoder) = (prompt(model, n_tokens), Decoder::new(model));
    let times = (0..n_times).map(|_| {
        let start = Instant::now();
        on_pool(|| decoder.next_logits(&mut decoder.context(), &prompt).into_data()); // Waits for the device.
        start.elapsed()
    });
    times.collect()
}

/// Times each of `n_steps` steps of greedy decoding with `n_sequences` sequences.
pub fn time_decode(model: &Gpt, n_steps: usize, n_sequences: usize) -> Vec<Duration> {
    let decoder = Decoder::new(model);
    let mut contexts: Vec<Context> = (0..n_sequences).map(|_| decoder.context()).collect();
    let mut next = prompt(model, n_sequences);
    let times = (0..n_steps).map(|_| {
        let start = Instant::now();
        let mut feeds: Vec<(&mut Context, &[u32])> = contexts.iter_mut().zip(next.chunks(1)).collect();
        let best = on_pool(|| decoder.step(&mut feeds).argmax(1).into_data().convert::<i32>());
        next = best.iter::<i32>().map(i32::cast_unsigned).collect();
        start.elapsed()
    });
    times.collect()
}

fn prompt(model: &Gpt, n_tokens: usize) -> Vec<u32> {
    let vocab_size = model.config().vocab_size;
    (0..n_tokens).map(|i| u32::try_from(i * 7 % vocab_size).unwrap_or(0)).collect()
}
