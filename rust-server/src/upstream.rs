//! The outside service that quotes prices.

use crate::errors::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_BYTES: usize = 64 << 10;

/// A keep-alive client of `GET {url}/quote?itemId=ID&guests=N`.
pub struct Upstream {
    url: Option<String>,
    client: Client<HttpConnector, Empty<Bytes>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    pub total_cents: i32,
    pub currency: String,
}

impl Upstream {
    pub fn new(url: Option<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(TIMEOUT));
        Upstream { url, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// The price of an item, within a second. The request's own deadline, where it is sooner, drops this future.
    pub async fn quote(&self, item_id: &str, guests: i32) -> Result<Price, Failure> {
        let Some(url) = &self.url else { return Err(Failure::upstream("UPSTREAM_URL is not set")) };
        let uri = format!("{url}/quote?itemId={item_id}&guests={guests}");
        match tokio::time::timeout(TIMEOUT, self.get(&uri)).await {
            Ok(price) => price,
            Err(_) => Err(Failure::upstream("timeout")),
        }
    }

    async fn get(&self, uri: &str) -> Result<Price, Failure> {
        let uri = uri.parse().map_err(Failure::upstream)?;
        let answer = self.client.get(uri).await.map_err(Failure::upstream)?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(Failure::upstream(format_args!("status {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(Failure::upstream)?;
        serde_json::from_slice(&body.to_bytes()).map_err(Failure::upstream)
    }
}
