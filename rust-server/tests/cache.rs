//! Master data in Redis, at TEST_REDIS_URL. Where none is installed the tests are skipped, but not in CI.

use rust_server::cache::{Cache, Table, prefix};

/// One process's cache of a database of that name, which hears of changes.
fn cache(database: &str) -> Option<Cache> {
    let address = std::env::var("TEST_REDIS_URL").unwrap_or_default();
    if address.is_empty() {
        assert!(std::env::var("CI").is_err(), "TEST_REDIS_URL is not set");
        return None;
    }
    let cache = Cache::new(&address, prefix(&format!("postgres://nobody@127.0.0.1/{database}"))).expect("an address");
    cache.hears(true);
    Some(cache)
}

fn named(name: &str) -> Vec<(String, String)> {
    vec![("1".into(), name.into())]
}

#[test]
fn databases_are_told_apart_by_the_same_names_in_all_servers() {
    assert_eq!(prefix("postgres://lab:secret@127.0.0.1:5432/lab?sslmode=disable"), "lab:eff25a3ed2cc3d54:");
}

#[tokio::test]
async fn what_was_read_before_a_change_is_not_put_over_it() {
    let (Some(one), Some(two)) = (cache("rust-epochs"), cache("rust-epochs")) else { return };
    for cache in [&one, &two] {
        cache.forget(Table::Area).await.expect("Redis answers");
    }
    let first = ["1".to_owned()];
    let before = one.ask(Table::Area, Some(&first)).await.expect("Redis answers");
    assert!(before.names.is_empty());
    two.forget(Table::Area).await.expect("Redis answers"); // a change, after one read the old name and before it puts it there
    one.fill(Table::Area, &before.epoch, named("old"), false).await;
    let after = one.ask(Table::Area, Some(&first)).await.expect("Redis answers");
    assert!(after.names.is_empty());
    one.fill(Table::Area, &after.epoch, named("new"), true).await;
    for cache in [&one, &two] {
        let got = cache.ask(Table::Area, Some(&["1".to_owned(), "2".to_owned()])).await.expect("Redis answers");
        assert_eq!(got.names.into_iter().collect::<Vec<_>>(), named("new"));
        assert!(got.all);
    }
}

#[tokio::test]
async fn a_table_that_could_not_be_forgotten_is_not_asked_for() {
    let cache = Cache::new("redis://127.0.0.1:1", prefix("postgres://nobody@127.0.0.1/rust-away")).expect("an address");
    cache.hears(true);
    assert_eq!(cache.forget(Table::Area).await, None);
    assert_eq!(cache.pending(), Table::EVERY, "and no other table: there was no answer");
    assert!(cache.ask(Table::Area, Some(&["1".to_owned()])).await.is_none());
}

#[tokio::test]
async fn a_later_change_outlives_an_earlier_ones_success() {
    let Some(cache) = cache("rust-later") else { return };
    cache.forget(Table::Area).await.expect("Redis answers");
    assert!(cache.ask(Table::Area, Some(&["1".to_owned()])).await.is_some());
    cache.distrust(Table::Area);
    assert!(cache.ask(Table::Area, Some(&["1".to_owned()])).await.is_none());
    assert_eq!(cache.pending(), [Table::Area]);
}

#[tokio::test]
async fn an_answer_from_before_a_change_does_not_count() {
    let Some(cache) = cache("rust-meanwhile") else { return };
    cache.forget(Table::Area).await.expect("Redis answers");
    let first = ["1".to_owned()];
    // The question is on its way when the other begins: this runtime has one thread, and the answer comes by another task.
    let (before, epoch) = tokio::join!(cache.ask(Table::Area, Some(&first)), cache.forget(Table::Area));
    assert!(epoch.is_some());
    assert!(before.is_none());
    assert!(cache.ask(Table::Area, Some(&first)).await.is_some());
}

#[tokio::test]
async fn who_does_not_hear_of_changes_does_not_ask() {
    let Some(cache) = cache("rust-deaf") else { return };
    cache.forget(Table::Area).await.expect("Redis answers");
    cache.hears(false);
    assert!(cache.ask(Table::Area, Some(&["1".to_owned()])).await.is_none());
}
