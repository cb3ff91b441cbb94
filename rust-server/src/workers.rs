//! Who does the work: the runtimes that `CONCURRENCY_MODEL` asks for, each with its part of the application.

use crate::{
    app::App,
    config::{ConcurrencyModel, Config},
};
use anyhow::Context;
use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
};

/// A plan may nest as deep as the limit of tokens lets it, and is walked by recursion.
const STACK_BYTES: usize = 16 << 20;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// `total` in `parts` that differ by one at most, the part at `index`.
pub fn share(total: usize, parts: usize, index: usize) -> usize {
    total / parts + usize::from(index < total % parts)
}

/// Builds the runtimes, and on each of them runs `serve` with its part of the application and its listener, until all
/// have ended or one of them fails.
///
/// Several runtimes listen at one port with SO_REUSEPORT: the kernel deals connections out by a hash of the addresses,
/// and a connection stays with its runtime. Threads are not pinned.
pub fn start_workers<S, F>(config: Config, serve: S) -> anyhow::Result<()>
where
    S: Fn(Arc<App>, TcpListener) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let runtimes = match config.concurrency_model {
        ConcurrencyModel::MultiThread => {
            let mut builder = Builder::new_multi_thread();
            vec![builder.worker_threads(config.workers).thread_stack_size(STACK_BYTES).enable_all().build()]
        }
        ConcurrencyModel::CurrentThread | ConcurrencyModel::PerCore => {
            (0..config.workers).map(|_| Builder::new_current_thread().enable_all().build()).collect()
        }
    };
    let runtimes = runtimes.into_iter().collect::<Result<Vec<_>, _>>().context("cannot start the runtime")?;
    let handles: Vec<_> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
    let sockets = sockets(&config.host, config.port, runtimes.len())?;
    let apps = App::for_each(config, &handles)?;
    let (ends, ended) = mpsc::channel();
    for ((runtime, socket), app) in runtimes.into_iter().zip(sockets).zip(apps) {
        let serve = serve.clone();
        let name = format!("runtime-{}", app.index);
        // A runtime of one thread runs on the one that waits for it, so that needs the stack.
        let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        let ends = ends.clone();
        thread.spawn(move || ends.send(run(runtime, socket, app, serve))).context("cannot start a thread")?;
    }
    drop(ends);
    // The others end with the process.
    ended.into_iter().collect()
}

fn run<S, F>(runtime: Runtime, socket: TcpSocket, app: Arc<App>, serve: S) -> anyhow::Result<()>
where
    S: Fn(Arc<App>, TcpListener) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    // block_on's own thread is no worker of a runtime of several threads: everything runs in a task.
    let result = runtime.block_on(async {
        let listener = socket.listen(BACKLOG).context("cannot listen")?;
        tokio::spawn(serve(app, listener)).await.context("the server panicked")?
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// As many sockets bound to the one address; port 0 is any free one, the same for all.
fn sockets(host: &str, port: u16, count: usize) -> anyhow::Result<Vec<TcpSocket>> {
    let cannot = || format!("cannot listen on {host}:{port}");
    let mut address: SocketAddr = (host, port).to_socket_addrs().with_context(cannot)?.next().with_context(cannot)?;
    if count > 1 {
        // Another server that shares its port would let these in, and get half of the connections.
        drop(std::net::TcpListener::bind(address).with_context(cannot)?);
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .with_context(cannot)?;
        socket.set_reuseaddr(true).with_context(cannot)?;
        // One socket alone must not share its port with another server.
        if count > 1 {
            socket.set_reuseport(true).with_context(cannot)?;
        }
        socket.bind(address).with_context(cannot)?;
        address = socket.local_addr().with_context(cannot)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up() {
        let shares = |total, parts| (0..parts).map(|index| share(total, parts, index)).collect::<Vec<_>>();
        assert_eq!(shares(16, 1), [16]);
        assert_eq!(shares(16, 3), [6, 5, 5]);
        assert_eq!(shares(3, 3), [1, 1, 1]);
    }
}
