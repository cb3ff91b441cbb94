//! `--health`: what a container's health check calls.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
};

/// Status and standard error of the health check with nothing in the environment but these.
fn health(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rust-server"))
        .arg("--health")
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs");
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// A server that answers one request; its port, and what it was asked.
fn answering(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // What is left unread when the connection closes would reset it, with the answer in it.
        let mut asked = String::new();
        while !asked.ends_with("\r\n\r\n") {
            let mut part = [0; 1024];
            let length = stream.read(&mut part).expect("a request");
            assert!(length > 0, "half a request: {asked:?}");
            asked.push_str(&String::from_utf8_lossy(&part[..length]));
        }
        stream.write_all(answer.as_bytes()).expect("the answer is taken");
        asked
    });
    (port, server)
}

#[test]
fn a_ready_server() {
    for host in ["", "127.0.0.1", "0.0.0.0"] {
        let (port, server) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let got = health(&[("HOST", host), ("PORT", &port), ("http_proxy", "http://127.0.0.1:1")]);
        assert_eq!(got, (Some(0), String::new()), "HOST={host}");
        assert!(server.join().expect("it answered").starts_with("GET /readyz HTTP/1.1\r\n"));
    }
}

#[test]
fn a_server_that_is_not_ready() {
    let (port, server) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"the reason\"}");
    let (status, problem) = health(&[("PORT", &port)]);
    server.join().expect("it answered");
    assert_eq!(status, Some(1));
    assert!(problem.contains("503") && problem.contains("the reason"), "{problem}");
}

#[test]
fn no_server() {
    let (status, problem) = health(&[("PORT", "1")]);
    assert_eq!(status, Some(1));
    assert!(problem.contains("refused"), "{problem}");
}

#[test]
fn a_port_that_is_none() {
    for port in ["http", "0"] {
        let (status, problem) = health(&[("PORT", port)]);
        assert_eq!(status, Some(1));
        assert!(problem.contains(&format!("PORT={port:?}")), "{problem}");
    }
}
