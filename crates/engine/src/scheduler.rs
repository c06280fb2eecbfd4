//! Continuous batching: runs the samples of many requests in the steps of one model.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Add,
};

use kernels::INVARIANT_ROWS;
use model::{Context, Decoder, Gpt, LogitRows, Piece};
use rayon::prelude::*;
use sampler::{Logits, Sequence};
use tokenizer::Tokenizer;

use crate::{
    Error, MAX_PROMPT_LOOKUP, Output, Request, RequestId, Result, SampledToken,
    cache::{ContextCache, PIECE, Reuse},
    next_logits,
    prompt_lookup::PromptLookup,
    running::{MIN_LOGITS, Running, Task},
};

/// Maximum number of logits of a scored piece of a prompt: 16 MiB.
const MAX_LOGITS: usize = 1 << 22;

/// Runs requests together. Each step of the model processes one token of each running sample, and a piece of a prompt.
/// With [`Request::prompt_lookup`], it also processes guesses of the next tokens.
///
/// Samples are admitted to free slots between steps, in the order of their requests. The samples of one request share
/// the processing of their prompt. The KV caches of ended samples are kept while there are free slots, and the longest
/// common prefix of a prompt with another text is not processed again.
///
/// On the CPU, with products in f32 or of quantised weights, a sample has the same text whatever else runs, bit for bit, if its request is
/// [reproducible](Request::is_reproducible).
#[derive(Debug)]
pub struct Scheduler<'a> {
    decoder: Decoder,
    tokenizer: &'a Tokenizer,
    /// Number of tokens that can be sampled, without the padding of the vocabulary.
    n_tokens: usize,
    n_slots: usize,
    waiting: VecDeque<Waiting>,
    running: Vec<Running<'a>>,
    cache: ContextCache,
    next_id: u64,
    totals: Totals,
}

/// The state of a scheduler, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Samples in a slot.
    pub n_running: usize,
    /// Samples that wait for a slot.
    pub n_waiting: usize,
    /// Positions of all KV caches, including those of ended samples that are kept for reuse.
    pub n_cached: usize,
    /// The memory of all KV caches.
    pub cache_bytes: u64,
    pub totals: Totals,
}

/// Counts since a scheduler was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prompt tokens that the model has processed.
    pub n_prompt_tokens: u64,
    /// Prompt tokens whose keys and values were reused.
    pub n_reused_tokens: u64,
    pub n_sampled_tokens: u64,
    /// Tokens that prompt lookup proposed.
    pub n_proposed_tokens: u64,
    /// Proposed tokens that were sampled, each of which saved a step.
    pub n_accepted_tokens: u64,
}

/// A request with samples that have no slot yet.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    request: Request,
    /// The index of the next sample.
    next: u64,
}

/// A running sample's part of a step.
struct Turn {
    idx: usize,
    n: usize,
    logits: LogitRows,
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            n_prompt_tokens: self.n_prompt_tokens + other.n_prompt_tokens,
            n_reused_tokens: self.n_reused_tokens + other.n_reused_tokens,
            n_sampled_tokens: self.n_sampled_tokens + other.n_sampled_tokens,
            n_proposed_tokens: self.n_proposed_tokens + other.n_proposed_tokens,
            n_accepted_tokens: self.n_accepted_tokens + other.n_accepted_tokens,
        }
    }
}

impl<'a> Scheduler<'a> {
    /// A scheduler that runs at most `n_slots` samples at a time.
    ///
    /// # Panics
    ///
    /// If `n_slots` is 0.
    pub fn new(gpt: &Gpt, tokenizer: &'a Tokenizer, n_slots: usize) -> Self {
        assert!(n_slots > 0, "a scheduler needs a slot");
        Self {
            decoder: Decoder::new(gpt),
            tokenizer,
            n_tokens: tokenizer.vocab_size().min(gpt.config().vocab_size),
            n_slots,
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache: ContextCache::default(),
            next_id: 0,
            totals: Totals::default(),
        }
    }

    /// Adds the samples of a request to the queue.
    ///
    /// # Errors
    ///
    /// If an option is out of range, or the prompt is empty.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        request.options.check()?;
        if request.prompt.is_empty() {
            return Err(sampler::Error::EmptyPrompt.into());
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Waiting { id, next: request.samples.start, request });
        Ok(id)
    }

    /// Ends all samples of a request, without further results.
    pub fn cancel(&mut self, id: RequestId) {
        self.interrupt(id);
    }

    /// Ends all samples of a request. Returns a last result without a token for each sample in a slot, with the text
    /// that was held back as a possible stop string.
    pub fn interrupt(&mut self, id: RequestId) -> Vec<(RequestId, Output)> {
        self.waiting.retain(|waiting| waiting.id != id);
        let ended = self.running.extract_if(.., |running| running.task.request == id);
        let outputs = ended.map(|mut ended| {
            let text = ended.task.sequence.interrupt();
            self.cache.keep(ended.cached);
            (id, Output::Token(SampledToken { text, ..ended.task.without_token() }))
        });
        outputs.collect()
    }

    /// Whether a sample of the request has a slot.
    pub fn has_slot(&self, id: RequestId) -> bool {
        self.running.iter().any(|running| running.task.request == id)
    }

    /// Whether no sample runs or waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.iter().all(|waiting| waiting.n_samples() == 0)
    }

    /// The current state.
    pub fn load(&self) -> Load {
        let contexts = || self.running.iter().map(|running| &running.cached.context).chain(self.cache.iter());
        Load {
            n_running: self.running.len(),
            n_waiting: self.waiting.iter().map(Waiting::n_samples).sum(),
            n_cached: contexts().map(Context::n_cached).sum(),
            cache_bytes: contexts().map(Context::size_bytes).sum(),
            totals: self.totals,
        }
    }

    /// Runs one step of the model and returns its results. Those of a request are in ascending order of samples.
    ///
    /// # Errors
    ///
    /// If the logits can't be read from the device. Other errors concern one request: [`Output::Failed`].
    pub fn step(&mut self) -> Result<Vec<(RequestId, Output)>> {
        kernels::on_spin_pool(|| self.step_on_pool())
    }

    fn step_on_pool(&mut self) -> Result<Vec<(RequestId, Output)>> {
        let mut outputs = self.admit()?;
        self.propose();
        let turns = self.plan();
        if turns.is_empty() {
            return Ok(outputs);
        }
        let mut rows = self.process(&turns)?.into_iter();
        // For each running sample, the range of its rows in `next`. Forks of one prompt share a row.
        let (mut next, mut next_of) = (Vec::new(), vec![None; self.running.len()]);
        for Turn { idx, n, logits } in turns {
            let running = &mut self.running[idx];
            let n_prompt = n.min(running.n_prompt_left);
            self.totals.n_prompt_tokens += n_prompt as u64;
            let mut rows: Vec<Logits> = rows.by_ref().take(logits.n_rows(n)).collect();
            outputs.extend(running.end_piece(n_prompt, &rows));
            if running.cached.context.n_pending() > 0 {
                continue;
            }
            let own = rows.split_off(rows.len() - 1 - running.n_proposed);
            if n_prompt > 0 {
                self.fork(idx)?;
            }
            let range = next.len()..next.len() + own.len();
            next_of.resize(self.running.len(), Some(range.clone()));
            next_of[idx] = Some(range);
            next.extend(own);
        }
        let sampled: Vec<_> = self
            .running
            .par_iter_mut()
            .zip(next_of)
            .with_min_len((MIN_LOGITS / self.n_tokens).max(1))
            .filter_map(|(running, rows)| Some(running.sample(&next[rows?])))
            .collect();
        for sampled in sampled {
            self.totals.n_accepted_tokens += (sampled.len() - 1) as u64;
            outputs.extend(sampled);
        }
        let mut failed = BTreeSet::new();
        outputs.retain(|(id, output)| match output {
            Output::Failed(_) => failed.insert(*id),
            _ => !failed.contains(id),
        });
        self.end_samples(&outputs);
        Ok(outputs)
    }

    /// Moves waiting samples into free slots. Returns the results of samples that need none.
    fn admit(&mut self) -> Result<Vec<(RequestId, Output)>> {
        let mut outputs = Vec::new();
        let mut idx = 0;
        while self.running.len() < self.n_slots && idx < self.waiting.len() {
            let id = self.waiting[idx].id;
            let is_in_prefill = |it: &Running<'_>| it.task.request == id && it.n_prompt_left > 0;
            if self.running.iter().any(is_in_prefill) {
                idx += 1; // Its samples become forks when the prompt is processed.
                continue;
            }
            let Some(task) = self.take_sample(idx)? else {
                continue;
            };
            if task.is_complete() {
                outputs.push((task.request, Output::Token(task.without_token())));
                continue;
            }
            let others = self.running.iter().map(|running| &running.cached);
            let prompt = task.sequence.unseen();
            let n_free = self.n_slots - self.running.len();
            let cached = self.cache.start(prompt, task.reuse, &self.decoder, n_free, others);
            self.totals.n_reused_tokens += cached.context.n_cached() as u64;
            self.running.push(Running::new(task, cached));
            self.cache.shrink_to(self.n_slots - self.running.len());
        }
        Ok(outputs)
    }

    /// The next sample of the waiting request at `idx`. `None` removes a request without further samples.
    fn take_sample(&mut self, idx: usize) -> Result<Option<Task<'a>>> {
        let Waiting { id, request, next } = &mut self.waiting[idx];
        if *next >= request.samples.end {
            self.waiting.remove(idx);
            return Ok(None);
        }
        let n_guessed = request.prompt_lookup.min(MAX_PROMPT_LOOKUP);
        let number = *next;
        *next += 1;
        let sample = usize::try_from(number - request.samples.start).expect("samples are counted in a usize");
        let sequence = Sequence::new(request.options.clone(), number, request.prompt.clone())?;
        let scores_prompt = request.scores_prompt && sample == 0;
        Ok(Some(Task {
            request: *id,
            sample,
            stream: self.tokenizer.decode_stream_after(&request.prompt),
            sequence: sequence.with_constraint(request.constraint.clone()),
            n_top: request.n_top,
            scores_prompt,
            max_piece: match request.scores_prompt {
                true => (MAX_LOGITS / self.n_tokens).max(1),
                false => PIECE,
            },
            reuse: match request.is_reproducible {
                _ if scores_prompt => Reuse::Nothing,
                true => Reuse::Exact,
                false => Reuse::All,
            },
            lookup: (n_guessed > 0).then(|| PromptLookup::new(n_guessed)),
        }))
    }

    /// Proposes tokens for the samples that ask for it. They share the rows up to [`INVARIANT_ROWS`]: beyond, a step takes
    /// several passes over the weights.
    fn propose(&mut self) {
        let mut samples: Vec<_> = self.running.iter_mut().filter(|running| running.is_decoding()).collect();
        let mut n_rows = INVARIANT_ROWS.saturating_sub(samples.len());
        samples.retain(|running| running.task.lookup.is_some());
        for (n_left, running) in (1..=samples.len()).rev().zip(samples) {
            let n_proposed = running.propose(n_rows / n_left);
            n_rows -= n_proposed;
            self.totals.n_proposed_tokens += n_proposed as u64;
        }
    }

    /// The pieces of a step: all samples that decode, and others in their order up to [`PIECE`] tokens.
    fn plan(&self) -> Vec<Turn> {
        let mut budget = PIECE;
        let mut turns = Vec::new();
        for (idx, running) in self.running.iter().enumerate() {
            let n_pending = running.cached.context.n_pending();
            let scores = running.task.scores_prompt && running.n_prompt_left > 0;
            let is_short = n_pending == 1 || running.is_decoding();
            let n = match n_pending {
                _ if is_short => n_pending,
                _ if budget == 0 => continue,
                _ => running.cached.next_piece().min(running.task.max_piece),
            };
            if !is_short {
                budget = budget.saturating_sub(n);
            }
            let logits = match n == n_pending {
                _ if scores || running.n_proposed > 0 => LogitRows::All,
                true => LogitRows::Last,
                false => LogitRows::None,
            };
            turns.push(Turn { idx, n, logits });
        }
        turns
    }

    /// Runs the model, and returns the logits of all turns in their order.
    fn process(&mut self, turns: &[Turn]) -> Result<Vec<Logits>> {
        let mut next = turns.iter().peekable();
        let mut pieces = Vec::new();
        let mut n_best = Some(1);
        for (idx, running) in self.running.iter_mut().enumerate() {
            let Some(turn) = next.next_if(|turn| turn.idx == idx) else {
                continue;
            };
            if turn.logits != LogitRows::None {
                let is_scored = running.task.n_top.is_some() || running.task.scores_prompt;
                let n = running.task.sequence.n_best().filter(|_| !is_scored);
                n_best = n_best.zip(n).map(|(one, other)| one.max(other));
            }
            let context = &mut running.cached.context;
            pieces.push(Piece { context, n: turn.n, logits: turn.logits });
        }
        match self.decoder.process(pieces) {
            Some(logits) => next_logits::read(logits, self.n_tokens, n_best).map_err(Error::Logits),
            None => Ok(Vec::new()),
        }
    }

    /// Gives free slots to the waiting siblings of the running sample at `idx`, whose prompt is processed.
    fn fork(&mut self, idx: usize) -> Result<()> {
        let id = self.running[idx].task.request;
        while self.running.len() < self.n_slots
            && let Some(siblings) = self.waiting.iter().position(|waiting| waiting.id == id)
            && let Some(task) = self.take_sample(siblings)?
        {
            let fork = self.running[idx].fork(task);
            self.totals.n_reused_tokens += fork.cached.context.n_cached() as u64;
            self.running.push(fork);
            self.cache.shrink_to(self.n_slots - self.running.len());
        }
        Ok(())
    }

    /// Frees the slots of complete samples and failed requests.
    fn end_samples(&mut self, outputs: &[(RequestId, Output)]) {
        for (request, output) in outputs {
            match output {
                Output::Failed(_) => self.cancel(*request),
                Output::Token(token) if token.id.is_some() => self.totals.n_sampled_tokens += 1,
                _ => {}
            }
        }
        for ended in
            self.running.extract_if(.., |running| running.n_prompt_left == 0 && running.task.is_complete())
        {
            self.cache.keep(ended.cached);
        }
    }
}

impl Waiting {
    fn n_samples(&self) -> usize {
        usize::try_from(self.request.samples.end.saturating_sub(self.next)).unwrap_or(usize::MAX)
    }
}
