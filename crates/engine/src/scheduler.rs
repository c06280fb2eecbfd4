//! Continuous batching: runs the samples of many requests in the steps of one model.

use std::collections::{BTreeSet, VecDeque};

use model::{Context, Decoder, Gpt, LogitRows, Piece};
use sampler::{Logits, Sequence, top_logprobs};
use tokenizer::{DecodeStream, Tokenizer};

use crate::{
    Error, Output, Request, RequestId, Result, SampledToken, ScoredToken,
    cache::{CachedContext, ContextCache, PIECE, Reuse},
    next_logits,
};

/// Maximum number of logits of a scored piece of a prompt: 16 MiB.
const MAX_LOGITS: usize = 1 << 22;

/// Runs requests together. Each step of the model processes one token of each running sample, and a piece of a prompt.
///
/// Samples are admitted to free slots between steps, in the order of their requests. The samples of one request share
/// the processing of their prompt. The KV caches of ended samples are kept while there are free slots, and the longest
/// common prefix of a prompt with another text is not processed again.
///
/// On the CPU in f32, a sample has the same text whatever else runs, bit for bit, if its request is
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
}

/// A request with samples that have no slot yet.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    request: Request,
    /// The index of the next sample.
    next: u64,
}

/// A sample that has a slot, or gets one.
#[derive(Debug)]
struct Task<'a> {
    request: RequestId,
    sample: usize,
    sequence: Sequence,
    stream: DecodeStream<'a>,
    n_top: Option<usize>,
    scores_prompt: bool,
    reuse: Reuse,
}

/// A sample with a slot.
#[derive(Debug)]
struct Running<'a> {
    task: Task<'a>,
    cached: CachedContext,
    /// Whether the prompt is processed from its start in whole pieces.
    is_exact: bool,
    /// Prompt tokens that are not processed yet. The last piece of the prompt makes it 0.
    n_prompt_left: usize,
    prompt_scores: Vec<ScoredToken>,
}

/// What a step does for the running sample at an index.
struct Turn {
    idx: usize,
    n: usize,
    logits: LogitRows,
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
        self.waiting.retain(|waiting| waiting.id != id);
        for ended in self.running.extract_if(.., |running| running.task.request == id) {
            self.cache.keep(ended.cached);
        }
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
        let mut outputs = self.admit()?;
        let turns = self.plan();
        if turns.is_empty() {
            return Ok(outputs);
        }
        let mut logits = kernels::on_pool(|| self.process(&turns))?.into_iter();
        for Turn { idx, n, logits: rows } in turns {
            let running = &mut self.running[idx];
            let n_prompt = n.min(running.n_prompt_left);
            running.n_prompt_left -= n_prompt;
            self.totals.n_prompt_tokens += n_prompt as u64;
            let n_rows = match rows {
                LogitRows::None => 0,
                LogitRows::Last => 1,
                LogitRows::All => n,
            };
            let rows: Vec<Logits> = logits.by_ref().take(n_rows).collect();
            if running.task.scores_prompt && n_prompt > 0 {
                running.score_prompt(&rows);
            }
            let Some(last) = rows.last().filter(|_| running.cached.context.n_pending() == 0) else {
                continue;
            };
            if n_prompt > 0 {
                running.end_prompt(&mut outputs);
                self.fork(idx, last, &mut outputs)?;
            } else {
                running.sample(last, &mut outputs);
            }
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
            let mut cached = self.cache.start(prompt, task.reuse, &self.decoder, others);
            let n_reused = cached.context.ids().len();
            self.totals.n_reused_tokens += n_reused as u64;
            cached.context.push(&prompt[n_reused..]);
            self.running.push(Running {
                is_exact: n_reused == cached.n_exact && task.reuse != Reuse::Nothing,
                n_prompt_left: cached.context.n_pending(),
                prompt_scores: Vec::new(),
                task,
                cached,
            });
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
            reuse: match request.is_reproducible {
                _ if scores_prompt => Reuse::Nothing,
                true => Reuse::Exact,
                false => Reuse::All,
            },
        }))
    }

    /// The pieces of a step: all samples with one pending token, and others in their order up to [`PIECE`] tokens.
    fn plan(&self) -> Vec<Turn> {
        let mut budget = PIECE;
        let mut turns = Vec::new();
        for (idx, running) in self.running.iter().enumerate() {
            let n_pending = running.cached.context.n_pending();
            let scores = running.task.scores_prompt && running.n_prompt_left > 0;
            let n = match n_pending {
                1 => 1,
                _ if budget == 0 => continue,
                _ if scores => running.cached.next_piece().min((MAX_LOGITS / self.n_tokens).max(1)),
                _ => running.cached.next_piece(),
            };
            if n_pending > 1 {
                budget = budget.saturating_sub(n);
            }
            let logits = match n == n_pending {
                _ if scores => LogitRows::All,
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
                let n = running.task.sequence.n_best().filter(|_| running.task.n_top.is_none());
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

    /// Samples the first token of the running sample at `idx`, and of its waiting siblings as far as slots are free.
    fn fork(&mut self, idx: usize, logits: &Logits, outputs: &mut Vec<(RequestId, Output)>) -> Result<()> {
        let id = self.running[idx].task.request;
        let first = self.running.len();
        while self.running.len() < self.n_slots
            && let Some(siblings) = self.waiting.iter().position(|waiting| waiting.id == id)
        {
            let Some(task) = self.take_sample(siblings)? else {
                break;
            };
            let Running { cached, is_exact, .. } = &self.running[idx];
            let (cached, is_exact) = (cached.prefix(cached.context.ids().len()), *is_exact);
            self.totals.n_reused_tokens += cached.context.n_cached() as u64;
            self.running.push(Running {
                task,
                cached,
                is_exact,
                n_prompt_left: 0,
                prompt_scores: Vec::new(),
            });
            self.cache.shrink_to(self.n_slots - self.running.len());
        }
        for number in std::iter::once(idx).chain(first..self.running.len()) {
            self.running[number].sample(logits, outputs);
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

impl Task<'_> {
    /// Whether nothing is left to do but to score the prompt.
    fn is_complete(&self) -> bool {
        self.sequence.stopped_by().is_some() && !self.scores_prompt
    }

    /// The only result of a sample with `max_tokens` 0.
    fn without_token(&self) -> SampledToken {
        SampledToken {
            sample: self.sample,
            id: None,
            score: None,
            text: String::new(),
            stopped_by: self.sequence.stopped_by().cloned(),
        }
    }
}

impl Running<'_> {
    /// Scores the prompt tokens that follow the positions of `rows`.
    fn score_prompt(&mut self, rows: &[Logits]) {
        let n_top = self.task.n_top.unwrap_or_default();
        let prompt = &self.cached.context.ids()[self.prompt_scores.len() + 1..];
        let scores = rows.iter().zip(prompt).map(|(logits, &id)| score(logits, id, n_top));
        self.prompt_scores.extend(scores);
    }

    /// Records that the prompt is processed.
    fn end_prompt(&mut self, outputs: &mut Vec<(RequestId, Output)>) {
        if self.is_exact {
            self.cached.n_exact = self.cached.context.n_cached() / PIECE * PIECE;
        }
        if self.task.scores_prompt {
            self.task.scores_prompt = false;
            let scores = std::mem::take(&mut self.prompt_scores);
            outputs.push((self.task.request, Output::Prompt(scores)));
        }
    }

    /// Samples a token.
    fn sample(&mut self, logits: &Logits, outputs: &mut Vec<(RequestId, Output)>) {
        let task = &mut self.task;
        if task.is_complete() {
            outputs.push((task.request, Output::Token(task.without_token())));
            return;
        }
        let output = match task.sequence.step(logits, |id| task.stream.push(id)) {
            Err(error) => Output::Failed(error.into()),
            Ok(text) => {
                let id = task.sequence.unseen()[0];
                let stopped_by = task.sequence.stopped_by().cloned();
                if stopped_by.is_none() {
                    self.cached.context.push(&[id]);
                }
                let score = task.n_top.map(|n_top| score(logits, id, n_top));
                Output::Token(SampledToken { sample: task.sample, id: Some(id), score, text, stopped_by })
            }
        };
        outputs.push((task.request, output));
    }
}

/// The log-probabilities of a token and of the most probable ones. The logits must be [`Logits::All`].
fn score(logits: &Logits, id: u32, n_top: usize) -> ScoredToken {
    let Logits::All(logits) = logits else { panic!("scores need every logit") };
    let (logprob, top) = top_logprobs(logits, id, n_top);
    ScoredToken { id, logprob, top }
}
