//! How long inference takes.

use std::time::{Duration, Instant};

use kernels::on_pool;
use model::{Decoder, Gpt};

/// Times reading a prompt of tokens without a meaning, up to the logits of the next token.
pub fn time_prefill(model: &Gpt, n_tokens: usize, n_times: usize) -> Vec<Duration> {
    let (prompt, decoder) = (prompt(model, n_tokens), Decoder::new(model));
    let times = (0..n_times).map(|_| {
        let start = Instant::now();
        on_pool(|| decoder.next_logits(&mut decoder.context(), &prompt).into_data()); // Waits for the device.
        start.elapsed()
    });
    times.collect()
}

/// Times each of so many tokens that are written, each the most probable one.
pub fn time_decode(model: &Gpt, n_tokens: usize) -> Vec<Duration> {
    let decoder = Decoder::new(model);
    let mut context = decoder.context();
    let mut next = prompt(model, 1)[0];
    let times = (0..n_tokens).map(|_| {
        let start = Instant::now();
        let best =
            on_pool(|| decoder.next_logits(&mut context, &[next]).argmax(0).into_data().convert::<i32>());
        next = best.as_slice::<i32>().map_or(0, |best| best[0].cast_unsigned());
        start.elapsed()
    });
    times.collect()
}

fn prompt(model: &Gpt, n_tokens: usize) -> Vec<u32> {
    let vocab_size = model.config().vocab_size;
    (0..n_tokens).map(|i| u32::try_from(i * 7 % vocab_size).unwrap_or(0)).collect()
}
