//! The loader without a database: what it calls, and when.

use futures_util::future::join_all;
use rust_server::{
    errors::{Code, Failure},
    loaders::{Batch, Called, Dispatch, Loader, drive},
};
use std::sync::{Arc, Mutex};

/// Records its calls; answers key × 10 for even keys, in an order of its own.
#[derive(Clone, Default)]
struct Recorder {
    calls: Arc<Mutex<Vec<Vec<i32>>>>,
    fails: bool,
}

impl Batch for Recorder {
    type Key = i32;
    type Value = i32;

    fn call(&self, keys: Vec<i32>) -> Called<i32, i32> {
        self.calls.lock().unwrap().push(keys.clone());
        let fails = self.fails;
        Box::pin(async move {
            tokio::task::yield_now().await;
            match fails {
                true => Err(Failure::internal("the database says no")),
                false => Ok(keys.into_iter().rev().filter(|key| key % 2 == 0).map(|key| (key, key * 10)).collect()),
            }
        })
    }
}

impl Recorder {
    fn calls(&self) -> Vec<Vec<i32>> {
        self.calls.lock().unwrap().clone()
    }
}

fn loader(recorder: &Recorder) -> Arc<Loader<Recorder>> {
    Arc::new(Loader::new(recorder.clone()))
}

async fn load_all(loader: &Arc<Loader<Recorder>>, keys: &[i32]) -> Vec<Result<Option<i32>, Failure>> {
    drive(loader.clone(), join_all(keys.iter().map(|key| loader.load(*key)))).await
}

fn values(loaded: Vec<Result<Option<i32>, Failure>>) -> Vec<Option<i32>> {
    loaded.into_iter().map(|value| value.expect("no failure")).collect()
}

#[tokio::test]
async fn loader_batches_distinct_keys_into_one_call() {
    let recorder = Recorder::default();
    let loaded = load_all(&loader(&recorder), &[2, 4, 2, 6, 4]).await;
    assert_eq!(values(loaded), [Some(20), Some(40), Some(20), Some(60), Some(40)]);
    assert_eq!(recorder.calls(), [[2, 4, 6]]);
}

#[tokio::test]
async fn loader_keeps_key_order() {
    let recorder = Recorder::default();
    let keys: Vec<i32> = (0..100).map(|n| (n * 37) % 101 * 2).collect();
    let loaded = load_all(&loader(&recorder), &keys).await;
    assert_eq!(values(loaded), keys.iter().map(|key| Some(key * 10)).collect::<Vec<_>>());
    assert_eq!(recorder.calls(), [keys]);
}

#[tokio::test]
async fn loader_handles_a_missing_key() {
    let recorder = Recorder::default();
    let loaded = load_all(&loader(&recorder), &[1, 2, 3]).await;
    assert_eq!(values(loaded), [None, Some(20), None]);
}

#[tokio::test]
async fn loader_isolates_requests() {
    let recorder = Recorder::default();
    let (one, other) = (loader(&recorder), loader(&recorder));
    assert_eq!(values(load_all(&one, &[2]).await), [Some(20)]);
    assert_eq!(values(load_all(&other, &[2]).await), [Some(20)]);
    assert_eq!(recorder.calls(), [[2], [2]], "the second request must not be answered from the first one's cache");
}

#[tokio::test]
async fn loader_propagates_a_batch_error() {
    let recorder = Recorder { fails: true, ..Recorder::default() };
    let loaded = load_all(&loader(&recorder), &[2, 4]).await;
    assert_eq!(loaded.len(), 2);
    for failed in loaded {
        let failure = failed.expect_err("the batch failed");
        assert_eq!(failure.code(), Code::InternalServerError);
        assert_eq!(failure.to_string(), "Internal server error.", "the cause is for the log only");
    }
    assert_eq!(recorder.calls(), [[2, 4]]);
}

#[tokio::test]
async fn loader_sends_one_call_per_level() {
    let recorder = Recorder::default();
    let loader = loader(&recorder);
    // Each chain asks for its second key when its first one is there.
    let chain = |key: i32| {
        let loader = loader.clone();
        async move {
            loader.load(key).await?;
            loader.load(key + 100).await
        }
    };
    let loaded = drive(loader.clone(), join_all([2, 4, 6].map(chain))).await;
    assert_eq!(values(loaded), [Some(1020), Some(1040), Some(1060)]);
    assert_eq!(recorder.calls(), [[2, 4, 6], [102, 104, 106]]);
}

#[tokio::test]
async fn loader_keeps_a_level_together_where_some_keys_are_known() {
    let recorder = Recorder::default();
    let loader = loader(&recorder);
    load_all(&loader, &[2]).await;
    let chain = |key: i32| {
        let loader = loader.clone();
        async move {
            loader.load(key).await?;
            loader.load(key + 100).await
        }
    };
    let loaded = drive(loader.clone(), join_all([2, 4].map(chain))).await;
    assert_eq!(values(loaded), [Some(1020), Some(1040)]);
    assert_eq!(recorder.calls(), [vec![2], vec![4], vec![102, 104]]);
    assert_eq!(values(load_all(&loader, &[2, 4]).await), [Some(20), Some(40)], "only known keys");
}

#[tokio::test]
async fn loader_without_keys_sends_nothing() {
    let recorder = Recorder::default();
    let loader = loader(&recorder);
    drive(loader.clone(), tokio::task::yield_now()).await;
    assert!(loader.dispatch().is_empty());
    assert!(recorder.calls().is_empty());
}
