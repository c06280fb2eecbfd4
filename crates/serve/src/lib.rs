//! An OpenAI-compatible HTTP server for language models, with a page to try them.
//!
//! [`listen`] opens a port and [`run`] serves models on it until [`Control::stop`]. Requests wait in a bounded queue for
//! one engine thread, which generates all samples together. The crate does not print. Each request is logged through
//! `tracing`, without its prompt and its key.
//!
//! ```no_run
//! use std::net::Ipv4Addr;
//!
//! use engine::Models;
//! use serve::{Control, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = kernels::testing::test_device();
//! let model = Models::default().open("runs/tiny".as_ref())?.load(&device)?;
//! let listener = serve::listen(Ipv4Addr::LOCALHOST.into(), 8080)?;
//! serve::run(Settings::default(), vec![("tiny".to_owned(), model)], listener, &Control::default())?;
//! # Ok(())
//! # }
//! ```

mod app;
mod control;
mod settings;

mod body_limit;
mod listener;
mod log;
mod metrics;
mod routes;
mod security;

mod api;
mod worker;

mod error;

use std::{net::TcpListener as StdListener, sync::Arc};

use tokio::{net::TcpListener, runtime};

use crate::app::App;
pub use crate::{
    app::check_names,
    control::Control,
    error::{Error, Result},
    listener::listen,
    settings::{ApiKey, Origin, Settings},
};

/// Threads for requests. The model's thread and its pool use the other cores.
const N_THREADS: usize = 2;

/// Serves models on this thread until `control` stops the server and the requests that run are complete. A request
/// chooses a model by its name; the first model is the default.
///
/// # Errors
///
/// As [`serve`], and if threads can't be started.
pub fn run(
    settings: Settings,
    models: Vec<(String, engine::Model)>,
    listener: StdListener,
    control: &Control,
) -> Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(N_THREADS).enable_all().build();
    runtime.map_err(Error::Start)?.block_on(async {
        let listener = TcpListener::from_std(listener).map_err(Error::Start)?;
        serve(settings, models, listener, control).await
    })
}

/// Serves models within a tokio runtime until `control` stops the server and the requests that run are complete.
///
/// # Errors
///
/// If there are no models, or two have the same name.
pub async fn serve(
    settings: Settings,
    models: Vec<(String, engine::Model)>,
    listener: TcpListener,
    control: &Control,
) -> Result<()> {
    let address = listener.local_addr().map_err(Error::Start)?;
    let app = Arc::new(App::start(settings, models, control.clone())?);
    let drain = async {
        control.stopping().await;
        app.worker.drain();
    };
    tokio::join!(listener::serve_connections(listener, routes::router(&app, address), control), drain);
    Ok(())
}
