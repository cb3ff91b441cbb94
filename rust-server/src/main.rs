//! Wiring only.

use anyhow::Context;
use rust_server::{
    app::App,
    config::{Config, HELP},
    health, http, log, logging,
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A plan may nest as deep as the limit of tokens lets it, and is walked by recursion.
const STACK_BYTES: usize = 16 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["--version"] => {
            println!("{}", version());
            return ExitCode::SUCCESS;
        }
        ["--health"] => {
            return match health::check(|name| std::env::var(name).ok()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("rust-server: not healthy: {error:#}");
                    ExitCode::FAILURE
                }
            };
        }
        ["--help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("rust-server: unknown argument {:?}; try --help", arguments[0]);
            return ExitCode::from(2);
        }
    }
    let config = match Config::from_environment(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("rust-server: {error}");
            return ExitCode::from(2);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> serde_json::Value {
    serde_json::json!({
        "name": "rust",
        "language": "rust",
        "language_version": env!("RUSTC_VERSION"),
        "libraries": {
            "async-graphql": env!("VERSION_ASYNC_GRAPHQL"),
            "axum": env!("VERSION_AXUM"),
            "deadpool-postgres": env!("VERSION_DEADPOOL_POSTGRES"),
            "tokio": env!("VERSION_TOKIO"),
            "tokio-postgres": env!("VERSION_TOKIO_POSTGRES"),
        },
        "allocator": if cfg!(feature = "mimalloc") { "mimalloc" } else { "system" },
    })
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    // block_on's own thread is no worker: everything runs in a task.
    let result = runtime.block_on(async { tokio::spawn(listen(config)).await.context("the server panicked")? });
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

async fn listen(config: Config) -> anyhow::Result<()> {
    let address = (config.host.clone(), config.port);
    let app = App::new(config)?;
    let listener = TcpListener::bind(address.clone())
        .await
        .with_context(|| format!("cannot listen on {}:{}", address.0, address.1))?;
    let port = listener.local_addr()?.port();
    let host = if address.0.contains(':') { format!("[{}]", address.0) } else { address.0 };
    // The first line is there at any level: it says which port was free.
    log!(
        Info, "listening",
        "url": format!("http://{host}:{port}/graphql"),
        "port": port,
        "pid": std::process::id(),
        "workers": app.config.workers,
        "pool_size": app.config.pool_size,
    );
    logging::set_level(app.config.log_level);
    let (close, closing) = watch::channel(false);
    let background = tokio::spawn(app.clone().run());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signalled: Arc<App> = app.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log!(Info, "shutting down");
        signalled.close();
        let _ = close.send(true);
    });
    let grace = app.config.request_timeout + Duration::from_secs(1);
    http::serve(listener, http::router(app.clone()), closing, grace).await;
    background.abort();
    app.store.close();
    log!(Info, "stopped");
    Ok(())
}
