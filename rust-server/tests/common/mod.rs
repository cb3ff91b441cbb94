//! An application on a port of its own over the database of TEST_DATABASE_URL, a freshly seeded `small` one.
#![allow(dead_code)]

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header::HeaderMap};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rust_server::{
    app::App,
    config::{Config, ConfigError},
    http,
};
use serde_json::{Value, json};
use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

pub fn database_url() -> String {
    std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL names a freshly seeded small database")
}

pub fn contract_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contract")
}

pub fn config(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_environment(|name| match settings.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Some((*value).to_owned()),
        None => match name {
            "CONTRACT_DIR" => contract_dir().to_str().map(str::to_owned),
            "DATABASE_URL" => {
                Some(std::env::var("TEST_DATABASE_URL").unwrap_or_else(|_| "postgres://nobody@127.0.0.1:1/none".into()))
            }
            "POOL_SIZE" => Some("4".into()),
            _ => None,
        },
    })
}

/// Runs a test as the server runs: on worker threads with a large stack. One after the other: some lock tables or end
/// connections.
pub fn run<F: Future<Output = ()> + Send + 'static>(test: F) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::spawn(test).await.expect("the test passes") });
}

pub struct Server {
    pub app: Arc<App>,
    pub url: String,
    pub address: std::net::SocketAddr,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
    close: watch::Sender<bool>,
    pub ended: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The first error's code.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    /// Listens at once; ready when the database and master data are there.
    pub async fn unready(settings: &[(&str, &str)]) -> Server {
        let app = App::new(config(settings).expect("good settings")).expect("an application");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (close, closing) = watch::channel(false);
        tokio::spawn(app.clone().run());
        let grace = app.config.request_timeout + Duration::from_secs(1);
        let ended = tokio::spawn(http::serve(listener, http::router(app.clone()), closing, grace));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Server { app, url: format!("http://{address}"), address, client, close, ended }
    }

    pub async fn start(settings: &[(&str, &str)]) -> Server {
        let server = Server::unready(settings).await;
        for _ in 0..600 {
            if server.get("/readyz").await.status == StatusCode::OK {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not ready after 30 s: is TEST_DATABASE_URL right?");
    }

    pub fn shut_down(&self) {
        self.app.close();
        self.close.send(true).expect("the server listens");
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = self.client.request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, body: impl Into<Bytes>) -> Answer {
        let headers = [("content-type", "application/json"), ("accept", "application/graphql-response+json")];
        self.send(Method::POST, "/graphql", &headers, body).await
    }

    pub async fn query(&self, query: &str, variables: Value) -> Answer {
        self.post(json!({ "query": query, "variables": variables }).to_string()).await
    }

    /// The data of a query that must not fail.
    pub async fn data(&self, query: &str) -> Value {
        let answer = self.query(query, Value::Null).await.json();
        assert_eq!(answer.get("errors"), None, "{query}");
        answer["data"].clone()
    }

    /// `lab_statements_total` by statement, without the zeros.
    pub async fn statements(&self) -> Vec<(String, u64)> {
        let metrics = self.get("/metrics").await;
        let text = std::str::from_utf8(&metrics.body).expect("text").to_owned();
        let lines = text.lines().filter_map(|line| line.strip_prefix("lab_statements_total{statement=\""));
        let counts = lines.map(|line| {
            let (name, count) = line.split_once("\"} ").expect("a sample");
            (name.to_owned(), count.parse().expect("a number"))
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// A connection of the test's own.
pub async fn sql() -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&database_url(), tokio_postgres::NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

/// The JSON that a statement without parameters answers with.
pub async fn sql_json(client: &tokio_postgres::Client, select: &str) -> Value {
    let row = client.query_one(&format!("select ({select})::text"), &[]).await.expect("a row");
    serde_json::from_str(row.get(0)).expect("JSON")
}
