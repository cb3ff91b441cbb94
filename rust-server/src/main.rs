//! Wiring only.

use rust_server::{
    app::App,
    bench::bench,
    config::{Config, HELP},
    health, http, log, logging,
    workers::start_workers,
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

#[cfg(all(feature = "mimalloc", feature = "jemalloc"))]
compile_error!("one allocator: --no-default-features --features jemalloc, or system-malloc");

#[cfg(feature = "mimalloc")]
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator and the version of its crate; the system's own comes with it.
const ALLOCATOR: (&str, &str) = if cfg!(feature = "mimalloc") {
    ("mimalloc", env!("VERSION_MIMALLOC"))
} else if cfg!(feature = "jemalloc") {
    ("tikv-jemallocator", env!("VERSION_TIKV_JEMALLOCATOR"))
} else {
    ("malloc", "system")
};

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
        ["bench", arguments @ ..] => {
            return match bench(arguments) {
                Ok(figures) => {
                    println!("{figures}");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("rust-server: {error:#}");
                    ExitCode::from(2)
                }
            };
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
            "redis": env!("VERSION_REDIS"),
            "tokio": env!("VERSION_TOKIO"),
            "tokio-postgres": env!("VERSION_TOKIO_POSTGRES"),
            ALLOCATOR.0: ALLOCATOR.1,
        },
    })
}

fn run(config: Config) -> anyhow::Result<()> {
    let (announced, close) = (watch::Sender::new(false), watch::Sender::new(false));
    start_workers(config, move |app, listener| serve(app, listener, announced.clone(), close.clone()))
}

/// One runtime's part. The first one also says where they all listen, before another one says anything, and ends them all.
async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    announced: watch::Sender<bool>,
    close: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let closing = close.subscribe();
    if app.index > 0 {
        announced.subscribe().wait_for(|announced| *announced).await?;
    } else {
        announce(&app, listener.local_addr()?.port());
        announced.send_replace(true);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let signalled = app.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            log!(Info, "shutting down");
            signalled.close();
            close.send_replace(true);
        });
    }
    let background = tokio::spawn(app.clone().run());
    let grace = app.config.request_timeout + Duration::from_secs(1);
    http::serve(listener, http::router(app.clone()), closing, grace).await;
    background.abort();
    app.store.close();
    if app.index == 0 {
        log!(Info, "stopped");
    }
    Ok(())
}

/// The first line is there at any level: it says which port was free.
fn announce(app: &App, port: u16) {
    let host = match app.config.host.contains(':') {
        true => format!("[{}]", app.config.host),
        false => app.config.host.clone(),
    };
    log!(
        Info, "listening",
        "url": format!("http://{host}:{port}/graphql"),
        "port": port,
        "pid": std::process::id(),
        "concurrency_model": app.config.concurrency_model.name(),
        "workers": app.config.workers,
        "pool_size": app.config.pool_size,
    );
    logging::set_level(app.config.log_level);
}
