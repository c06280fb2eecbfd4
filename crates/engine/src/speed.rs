//! Timing of inference.

use std::time::{Duration, Instant};

use kernels::on_spin_pool;
use model::{Context, Decoder, Gpt};

/// Times `n_times` prefills of a synthetic prompt, up to the logits of the next token. It stops after the first and
/// `limit`, but not before two.
pub fn time_prefill(model: &Gpt, n_tokens: usize, n_times: usize, limit: Duration) -> Vec<Duration> {
    let (prompt, decoder) = (prompt(model, n_tokens), Decoder::new(model));
    time_each(n_times, limit, || {
        on_spin_pool(|| decoder.next_logits(&mut decoder.context(), &prompt).into_data()); // Waits for the device.
    })
}

/// Times each of `n_steps` steps of greedy decoding with `n_sequences` sequences. They start with one token, and again
/// whenever their block is full. It stops after the first step and `limit`, but not before two steps.
pub fn time_decode(model: &Gpt, n_steps: usize, n_sequences: usize, limit: Duration) -> Vec<Duration> {
    let decoder = Decoder::new(model);
    let mut contexts: Vec<Context> = (0..n_sequences).map(|_| decoder.context()).collect();
    let mut next = prompt(model, n_sequences);
    time_each(n_steps, limit, || {
        for context in &mut contexts {
            if context.n_until_slide() == 0 {
                context.truncate(0);
            }
        }
        let mut feeds: Vec<(&mut Context, &[u32])> = contexts.iter_mut().zip(next.chunks(1)).collect();
        let best = on_spin_pool(|| decoder.step(&mut feeds).argmax(1).into_data().convert::<i32>());
        next = best.iter::<i32>().map(i32::cast_unsigned).collect();
    })
}

/// The first run, which compiles kernels on a GPU, does not count for the limit.
fn time_each(n_times: usize, limit: Duration, mut run: impl FnMut()) -> Vec<Duration> {
    let (mut times, mut begin) = (Vec::new(), None::<Instant>);
    while times.len() < n_times && (times.len() < 2 || begin.is_none_or(|begin| begin.elapsed() < limit)) {
        let start = Instant::now();
        run();
        times.push(start.elapsed());
        begin.get_or_insert_with(Instant::now);
    }
    times
}

fn prompt(model: &Gpt, n_tokens: usize) -> Vec<u32> {
    let vocab_size = model.config().vocab_size;
    (0..n_tokens).map(|i| u32::try_from(i * 7 % vocab_size).unwrap_or(0)).collect()
}
