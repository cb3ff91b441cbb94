//! The environment, and the process that refuses a bad one.

mod common;

use common::config;
use rust_server::config::{MasterSource, Tier, parse_duration};
use std::{process::Command, time::Duration};

#[test]
fn bad_config_fails() {
    let cases = [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://localhost/lab"),
        ("DATABASE_REPLICA_URL", "nonsense"),
        ("POOL_SIZE", "0"),
        ("POOL_SIZE", "many"),
        ("UPSTREAM_URL", "ftp://127.0.0.1/"),
        ("TIER", "compiled"),
        ("TIER", "fast"),
        ("LOADER", "yes"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("MASTER", "disk"),
        ("MASTER_MB", "-1"),
        ("MASTER_MB", "1025"),
        ("START", "later"),
        ("WORKERS", "0"),
        ("CONCURRENCY_MODEL", "cluster"),
        ("REQUEST_TIMEOUT", "5"),
        ("REQUEST_TIMEOUT", "0s"),
        ("REQUEST_TIMEOUT", "-1s"),
        ("GRAPHIQL", "1"),
        ("PROFILER", "yes"),
        ("LOG_LEVEL", "loud"),
        ("CONTRACT_DIR", "/nowhere"),
    ];
    for (variable, value) in cases {
        let error = config(&[(variable, value)]).expect_err(&format!("{variable}={value} is refused"));
        assert_eq!(error.variable, variable, "{variable}={value}");
        let output = Command::new(env!("CARGO_BIN_EXE_rust-server"))
            .env_clear()
            .env("CONTRACT_DIR", common::contract_dir())
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
            .env(variable, value)
            .output()
            .expect("the server's binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(variable) && stderr.contains("expected"), "{stderr}");
    }
}

#[test]
fn good_config_is_read() {
    let config = config(&[
        ("TIER", "floor"),
        ("MASTER", "none"),
        ("LOADER", "off"),
        ("REQUEST_TIMEOUT", "300ms"),
        ("DATABASE_REPLICA_URL", "postgres://nobody@127.0.0.1:2/none"),
    ])
    .expect("all values are good");
    assert_eq!(config.tier, Tier::Floor);
    assert_eq!(config.master, MasterSource::None);
    assert!(!config.loader && !config.one_address);
    assert_eq!(config.request_timeout, Duration::from_millis(300));
    assert_eq!(config.limits.cost, 10_000);
}

#[test]
fn what_workers_means_is_the_concurrency_model() {
    let workers = |settings: &[(&str, &str)]| config(settings).map(|config| config.workers);
    assert_eq!(workers(&[("CONCURRENCY_MODEL", "current-thread")]), Ok(1));
    assert_eq!(workers(&[("CONCURRENCY_MODEL", "multi-thread"), ("WORKERS", "3")]), Ok(3));
    assert_eq!(workers(&[("CONCURRENCY_MODEL", "per-core"), ("WORKERS", "3")]), Ok(3));
    let refused = |settings: &[(&str, &str)]| config(settings).expect_err("refused").variable;
    assert_eq!(refused(&[("CONCURRENCY_MODEL", "current-thread"), ("WORKERS", "2")]), "WORKERS");
    // The tests' pool has four connections.
    assert_eq!(refused(&[("CONCURRENCY_MODEL", "per-core"), ("WORKERS", "5")]), "POOL_SIZE");
}

#[test]
fn durations_are_read() {
    let cases = [
        ("5s", Some(5000)),
        ("300ms", Some(300)),
        ("1m", Some(60_000)),
        ("1.5s", Some(1500)),
        ("s", None),
        ("5", None),
        ("5h", None),
        ("", None),
        ("0ms", None),
    ];
    for (text, expected_ms) in cases {
        assert_eq!(parse_duration(text), expected_ms.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn a_password_is_not_repeated() {
    let error = config(&[("DATABASE_URL", "postgres:/secret")]).expect_err("no URL").to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn arguments_are_looked_at() {
    let run = |argument: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rust-server")).arg(argument).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, version) = run("--version");
    assert_eq!(status, Some(0));
    let version: serde_json::Value = serde_json::from_str(&version).expect("one line of JSON");
    assert_eq!(version["name"], "rust");
    assert!(version["libraries"]["async-graphql"].as_str().is_some_and(|version| version.starts_with('8')));
    let (status, help) = run("--help");
    assert_eq!(status, Some(0));
    for variable in
        ["DATABASE_URL", "POOL_SIZE", "TIER", "LOADER", "MASTER", "REQUEST_TIMEOUT", "CONCURRENCY_MODEL", "WORKERS"]
    {
        assert!(help.contains(variable), "{variable}");
    }
    assert_eq!(run("--fast").0, Some(2));
}

#[test]
fn master_data_in_redis_needs_an_address_and_is_not_of_the_floor() {
    let error = config(&[("MASTER", "redis")]).expect_err("there is no address");
    assert_eq!(error.variable, "REDIS_URL");
    let address = ("REDIS_URL", "redis://127.0.0.1:6379");
    let error = config(&[("MASTER", "redis"), address, ("TIER", "floor")]).expect_err("the floor has no cache");
    assert_eq!(error.variable, "MASTER");
    assert_eq!(config(&[("MASTER", "redis"), address]).expect("both are there").master, MasterSource::Redis);
}
