//! `kindling serve`.

use std::{net::IpAddr, process::ExitCode, time::Duration};

use console::report;
use engine::Model;
use journal::summary::plural;
use serve::{ApiKey, Control, Origin, Settings};

use crate::{
    ctrl_c::on_each_stop_signal,
    kv_cache_args::KvCacheArgs,
    memory,
    model_args::{ModelsArgs, WeightsArgs, models},
    sampling_args::PromptLookupArgs,
    usage::{ResultExt, at_least, bail_usage},
};

/// Serves models over HTTP for OpenAI clients, with a page to try them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "OpenAI clients use the base URL http://127.0.0.1:8080/v1 and any key. A request chooses a model by
its name; without one, it gets the first. Ctrl-C finishes the requests that run; a second Ctrl-C
quits immediately. Requests are logged without their prompts.

Only this machine can reach the server by default. With --host 0.0.0.0, others can too, so --api-key
or --no-key is required. There is no encryption: on an untrusted network, put a proxy with TLS in
front.

Examples:
  kindling serve                                  the newest run
  kindling serve runs/tiny runs/wider             two models, for requests that name either
  kindling serve --host 0.0.0.0 --api-key KEY     for other machines"
)]
pub(crate) struct Args {
    #[command(flatten)]
    models: ModelsArgs,

    #[command(flatten)]
    weights: WeightsArgs,

    /// IP address to listen on; 0.0.0.0 is every IPv4 address of this machine.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = parse_host)]
    host: IpAddr,

    /// Port to listen on; 0 selects a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    prompt_lookup: PromptLookupArgs,

    #[command(flatten)]
    kv_cache: KvCacheArgs,

    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Samples to generate at a time, per model [default: up to 16, as many as fit in half of the free memory].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    slots: Option<usize>,

    /// Samples that may wait for a slot; when the queue is full, requests are answered with status 429.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 256,
        allow_negative_numbers = true,
        value_parser = at_least(1_usize)
    )]
    queue: usize,

    /// Stop a request after this time.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600,
        allow_negative_numbers = true,
        value_parser = at_least(1_u64)
    )]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access")]
struct AccessArgs {
    /// Key that requests must send as `Authorization: Bearer KEY`. Other users of this machine can see the arguments of
    /// a program, but not its environment.
    #[arg(long, value_name = "KEY", env = "KINDLING_API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// Let everyone who reaches --host send requests.
    #[arg(long, conflicts_with = "api_key")]
    no_key: bool,

    // Not a doc comment, which would need a link.
    #[arg(
        long,
        value_name = "ORIGIN",
        help = "Let web pages of this origin send requests, such as https://example.org, or * for any; repeatable"
    )]
    cors: Vec<Origin>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let api_key = args.access.api_key.map(ApiKey::new).transpose().usage()?;
    if !args.host.is_loopback() && api_key.is_none() && !args.access.no_key {
        bail_usage!(
            "--host {} lets other machines send requests; set a key with --api-key or KINDLING_API_KEY, or allow \
             everyone with --no-key",
            args.host
        );
    }
    let sources = args.models.open()?;
    serve::check_names(sources.iter().map(|(name, _)| name.as_str())).usage()?;
    // A port in use is reported before the time it takes to load models.
    let listener = serve::listen(args.host, args.port)?;
    let models = args.models.load(sources, &args.weights)?.into_iter().map(|(name, model)| {
        let gpt = args.kv_cache.apply(model.gpt)?;
        Ok((name, Model { gpt, ..model }))
    });
    let models = models.collect::<anyhow::Result<Vec<_>>>()?;
    let gpts: Vec<_> = models.iter().map(|(_, model)| &model.gpt).collect();
    let n_slots = match args.limits.slots {
        Some(n_slots) => {
            memory::check_slots(&gpts, n_slots)?;
            n_slots
        }
        None => memory::default_slots(&gpts),
    };

    let control = Control::default();
    stop_on_signal(&control)?;
    let names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
    let url = format!("http://{}", listener.local_addr()?);
    report(format_args!("serving {} on {url}", names.join(", ")));
    report(format_args!("base URL for OpenAI clients: {url}/v1; {} per model", plural(n_slots, "slot")));
    let settings = Settings {
        n_slots,
        queue: args.limits.queue,
        prompt_lookup: args.prompt_lookup.n_max(),
        api_key,
        origins: args.access.cors,
        time_limit: Duration::from_secs(args.limits.timeout),
        runs: self::models().runs,
    };
    serve::run(settings, models, listener, &control)?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the server at the first signal, and exits at the second.
fn stop_on_signal(control: &Control) -> anyhow::Result<()> {
    let control = control.clone();
    let mut is_stopping = false;
    on_each_stop_signal(move |exit_code| {
        if is_stopping {
            std::process::exit(exit_code.into());
        }
        is_stopping = true;
        match control.n_running() {
            0 => report(format_args!("\nstopping")),
            n => report(format_args!("\nfinishing {}; Ctrl-C again quits now", plural(n, "request"))),
        }
        control.stop();
    })
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    let address = if text == "localhost" { "127.0.0.1" } else { text };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address.parse().map_err(|_| "must be an IP address of this machine, such as 0.0.0.0".to_owned())
}
