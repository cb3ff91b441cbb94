//! GraphQL over HTTP and hostile input, row by row.

mod common;

use common::{Server, run};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn requests_that_fail() {
    run(async {
        let server = Server::start(&[]).await;
        let q = |query: &str| json!({ "query": query }).to_string().into_bytes();
        let v =
            |query: &str, variables: Value| json!({ "query": query, "variables": variables }).to_string().into_bytes();
        let item = "query($id: ID!) { item(id: $id) { id } }";
        let digits = "9".repeat(1000);
        let variables = |query: &str, value: &str| {
            format!("{{\"query\":{},\"variables\":{{\"n\":{value}}}}}", json!(query)).into_bytes()
        };
        let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
            ("an empty query", q(""), 400, "GRAPHQL_PARSE_FAILED"),
            ("a bad character", q("{ areas { id } } ?"), 400, "GRAPHQL_PARSE_FAILED"),
            ("2,000 tokens", q(&format!("{{{}}}", " __typename".repeat(1998))), 200, ""),
            ("2,001 tokens", q(&format!("{{{}}}", " __typename".repeat(1999))), 400, "QUERY_TOO_LONG"),
            ("an unknown field", q("{ nothing }"), 400, "GRAPHQL_VALIDATION_FAILED"),
            (
                "a fragment cycle",
                q("{ item(id: 1) { ...A } } fragment A on Item { ...B } fragment B on Item { ...A }"),
                400,
                "GRAPHQL_VALIDATION_FAILED",
            ),
            ("no such date", q("{ businessDay(from: \"2026-02-30\", days: 1) }"), 400, "GRAPHQL_VALIDATION_FAILED"),
            ("an integer beyond 32 bits", q("{ items(first: 2147483648) { id } }"), 400, "GRAPHQL_VALIDATION_FAILED"),
            (
                "introspection in circles",
                q("{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }"),
                400,
                "GRAPHQL_VALIDATION_FAILED",
            ),
            (
                "no operation named",
                q("query A { areas { id } } query B { areas { id } }"),
                400,
                "OPERATION_RESOLUTION_FAILURE",
            ),
            ("a variable left out", v(item, json!({})), 400, "BAD_USER_INPUT"),
            ("a variable that is null", v(item, json!({ "id": null })), 400, "BAD_USER_INPUT"),
            ("a boolean for an id", v(item, json!({ "id": true })), 400, "BAD_USER_INPUT"),
            ("a float for an id", v(item, json!({ "id": 1.5 })), 400, "BAD_USER_INPUT"),
            ("an exponent beyond 53 bits for an id", v(item, json!({ "id": 1e30 })), 400, "BAD_USER_INPUT"),
            ("minus 0 for an id", v(item, json!({ "id": -0.0 })), 200, "BAD_USER_INPUT"),
            (
                "null in a list, through a default",
                v(
                    &format!("query($n: Int = 1) {{ ranking(weights: [$n{}]) {{ score }} }}", " 1".repeat(31)),
                    json!({ "n": null }),
                ),
                200,
                "BAD_USER_INPUT",
            ),
            (
                "null for @skip",
                v("query($s: Boolean = true) { areas @skip(if: $s) { id } }", json!({ "s": null })),
                200,
                "",
            ),
            ("a day beyond 9999", q("{ businessDay(from: \"9999-12-31\", days: 1) }"), 200, "BAD_USER_INPUT"),
            (
                "an integer of a thousand digits",
                variables("query($n: Int!) { items(first: $n) { id } }", &digits),
                400,
                "BAD_USER_INPUT",
            ),
            ("an id of a thousand digits", variables("query($n: ID!) { item(id: $n) { id } }", &digits), 200, ""),
            ("a thousand digits nobody asked for", variables("{ areas { id } }", &digits), 200, ""),
            (
                "128 levels nobody asked for",
                variables("{ areas { id } }", &format!("{}{}", "[".repeat(126), "]".repeat(126))),
                200,
                "",
            ),
            (
                "129 levels nobody asked for",
                variables("{ areas { id } }", &format!("{}{}", "[".repeat(127), "]".repeat(127))),
                400,
                "BAD_REQUEST",
            ),
            (
                "50,000 brackets that are closed",
                variables("{ areas { id } }", &format!("{}{}", "[".repeat(49_000), "]".repeat(49_000))),
                400,
                "BAD_REQUEST",
            ),
            ("variables nobody declared", v("{ item(id: 1) { id } }", json!({ "x": 1 })), 200, ""),
            ("depth 10", q(&nested(10)), 200, ""),
            ("depth 11", q(&nested(11)), 400, "QUERY_TOO_DEEP"),
            ("depth 300", q(&nested(300)), 400, "QUERY_TOO_DEEP"),
            (
                "lists in lists",
                q(&format!("{{ ranking(weights: {}{}) {{ score }} }}", "[".repeat(990), "]".repeat(990))),
                400,
                "GRAPHQL_VALIDATION_FAILED",
            ),
            ("30 aliases", q(&aliases(30)), 200, ""),
            ("31 aliases", q(&aliases(31)), 400, "QUERY_TOO_MANY_ALIASES"),
            ("cost 10,000", q("{ items(first: 500) { reviews(first: 19) { id } } }"), 200, ""),
            (
                "cost 10,001",
                q("{ items(first: 500) { reviews(first: 19) { id } } item(id: 1) { id } }"),
                400,
                "QUERY_TOO_COSTLY",
            ),
            (
                "a cost that overflows",
                q(
                    "{ items(first: 2147483647) { reviews(first: 2147483647) { item { reviews(first: 2147483647) { id } } } } }",
                ),
                400,
                "QUERY_TOO_COSTLY",
            ),
            ("a page too large", q("{ items(first: 501) { id } }"), 200, "BAD_USER_INPUT"),
            ("a negative page", q("{ items(first: -1) { id } }"), 200, "BAD_USER_INPUT"),
            ("an id that is none", q("{ item(id: \"01\") { id } }"), 200, "BAD_USER_INPUT"),
            (
                "U+0000",
                v("query($t: String!) { search(text: $t) { id } }", json!({ "t": "\0" })),
                200,
                "BAD_USER_INPUT",
            ),
            ("an array", b"[]".to_vec(), 400, "BAD_REQUEST"),
            ("no JSON", b"{".to_vec(), 400, "BAD_REQUEST"),
            ("trailing data", b"{\"query\":\"{areas{id}}\"}{}".to_vec(), 400, "BAD_REQUEST"),
            ("invalid UTF-8", b"{\"query\":\"{areas{id}}\xff\"}".to_vec(), 400, "BAD_REQUEST"),
            ("a lone surrogate", br#"{"query":"{areas{id}}","x":"\ud800"}"#.to_vec(), 400, "BAD_REQUEST"),
            ("duplicate keys", br#"{"query":7,"query":"{areas{id}}"}"#.to_vec(), 200, ""),
            ("50,000 brackets", "[".repeat(50_000).into_bytes(), 400, "BAD_REQUEST"),
            (
                "50,000 brackets in variables",
                format!("{{\"query\":\"{{areas{{id}}}}\",\"variables\":{}", "[".repeat(50_000)).into_bytes(),
                400,
                "BAD_REQUEST",
            ),
            (
                "50,000 brackets elsewhere",
                format!("{{\"query\":\"{{areas{{id}}}}\",\"x\":{}", "[".repeat(50_000)).into_bytes(),
                400,
                "BAD_REQUEST",
            ),
            ("a name that is a number", br#"{"query":"{areas{id}}","operationName":1}"#.to_vec(), 400, "BAD_REQUEST"),
            ("extensions that are a list", br#"{"query":"{areas{id}}","extensions":[]}"#.to_vec(), 400, "BAD_REQUEST"),
            ("a body of 100,000 bytes", padded(100_000), 200, ""),
            ("a body of 100,001 bytes", padded(100_001), 413, "REQUEST_TOO_LARGE"),
            ("a body of 3 MB", padded(3_000_000), 413, "REQUEST_TOO_LARGE"),
        ];
        for (what, body, status, code) in rows {
            let answer = server.post(body).await;
            let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
            assert_eq!(answer.status.as_u16(), status, "{what}: {text}");
            assert_eq!(answer.code(), code, "{what}: {text}");
            // An error of the request has no data; one of a field has.
            assert_eq!(answer.json().get("data").is_some(), status == 200, "{what}: {text}");
            assert_eq!(answer.headers["content-length"], answer.body.len().to_string().as_str(), "{what}");
        }
        assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
    });
}

/// A query of that depth: `item`, then `category` and `items` in turn, `id` last.
fn nested(depth: usize) -> String {
    let field = |level: usize| match level {
        1 => "item(id: 1)",
        level if level % 2 == 0 => "category",
        _ => "items(first: 1)",
    };
    let open: Vec<&str> = (1..depth).map(field).collect();
    format!("{{ {} {{ id {}", open.join(" { "), "}".repeat(depth))
}

fn aliases(count: usize) -> String {
    let fields: Vec<String> = (0..count).map(|n| format!("a{n}: __typename")).collect();
    format!("{{ {} }}", fields.join(" "))
}

fn padded(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"query":"{areas{id}}"}"#.to_vec();
    body.resize(bytes, b' ');
    body
}

/// What, method, headers, body, status.
type Refused<'a> = (&'a str, Method, &'a [(&'a str, &'a str)], &'a str, u16);

#[test]
fn media_types_and_methods() {
    const GRAPHQL: &str = "application/graphql-response+json; charset=utf-8";
    const JSON: &str = "application/json; charset=utf-8";
    run(async {
        let server = Server::start(&[]).await;
        let body = r#"{"query":"{ areas { id } }"}"#;
        let accepts = [
            (None, JSON),
            (Some("*/*"), JSON),
            (Some("application/*"), JSON),
            (Some("application/json"), JSON),
            (Some("application/graphql-response+json"), GRAPHQL),
            (Some("application/graphql-response+json, application/json;q=0.9"), GRAPHQL),
            (Some("application/json, application/graphql-response+json;q=0.5"), JSON),
            (Some("application/graphql-response+json, */*"), GRAPHQL),
            (Some("application/json;q=0, */*"), GRAPHQL),
            (Some("text/html, application/json;q=0.1"), JSON),
            (Some("application/json, application/graphql-response+json"), JSON),
            (Some("application/json;q=0.5, application/json, */*;q=0.7"), GRAPHQL),
            (Some("application/json;q=0.0001"), JSON),
            (Some("application/json; charset=latin1"), JSON),
            (Some(""), JSON),
        ];
        for (accept, expected) in accepts {
            let mut headers = vec![("content-type", "application/json; charset=UTF-8")];
            headers.extend(accept.map(|accept| ("accept", accept)));
            let answer = server.send(Method::POST, "/graphql", &headers, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{accept:?}");
            assert_eq!(answer.headers["content-type"], expected, "{accept:?}");
        }
        let refused: [Refused; 12] = [
            ("PUT", Method::PUT, &[("content-type", "application/json")], body, 405),
            ("DELETE", Method::DELETE, &[], "", 405),
            (
                "nothing on offer",
                Method::POST,
                &[("content-type", "application/json"), ("accept", "text/plain")],
                body,
                406,
            ),
            (
                "a quality above 1",
                Method::POST,
                &[("content-type", "application/json"), ("accept", "application/json;q=1.5")],
                body,
                406,
            ),
            (
                "another coding",
                Method::POST,
                &[("content-type", "application/json"), ("content-encoding", "gzip")],
                body,
                415,
            ),
            ("charset=utf8", Method::POST, &[("content-type", "application/json; charset=utf8")], body, 415),
            ("plain text", Method::POST, &[("content-type", "text/plain")], body, 415),
            (
                "a form",
                Method::POST,
                &[("content-type", "application/x-www-form-urlencoded")],
                "query=%7Bareas%7Bid%7D%7D",
                415,
            ),
            ("a form with files", Method::POST, &[("content-type", "multipart/form-data; boundary=x")], "", 415),
            ("no content type", Method::POST, &[], body, 415),
            ("another charset", Method::POST, &[("content-type", "application/json; charset=latin1")], body, 415),
            (
                "PUT before media type",
                Method::PUT,
                &[("content-type", "text/plain"), ("accept", "text/plain")],
                body,
                405,
            ),
        ];
        for (what, method, headers, body, status) in refused {
            let answer = server.send(method, "/graphql", headers, body).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, "BAD_REQUEST"), "{what}");
            if status == 405 {
                assert_eq!(answer.headers["allow"], "GET, POST", "{what}");
            }
        }
        let unsound =
            server.send(Method::POST, "/graphql", &[("content-type", "application/json")], r#"{"query":"{"}"#).await;
        assert_eq!((unsound.status, unsound.code().as_str()), (StatusCode::OK, "GRAPHQL_PARSE_FAILED"), "plain JSON");
    });
}

#[test]
fn requests_by_get() {
    run(async {
        let server = Server::start(&[]).await;
        let answer = server.get("/graphql?query=query+Q(%24id:ID!)%7Bitem(id:%24id)%7Bid%7D%7D&variables=%7B%22id%22:%223%22%7D&operationName=Q").await;
        assert_eq!(answer.json()["data"], json!({ "item": { "id": "3" } }));
        let empty = "?query=%7B&query=%7Bitem(id:3)%7Bid%7D%7D&variables=&operationName=&extensions=";
        assert_eq!(server.get(&format!("/graphql{empty}")).await.json()["data"], json!({ "item": { "id": "3" } }));
        let bad = [
            ("", 400),
            ("?query=%", 400),
            ("?query=%ff", 400),
            ("?query=%7Bareas%7Bid%7D%7D&variables=nope", 400),
            ("?query=%7Bareas%7Bid%7D%7D&variables=[]", 400),
            ("?query=mutation%7BrenameArea(id:1,name:%22x%22)%7Bid%7D%7D", 405),
        ];
        for (query, status) in bad {
            let answer = server.get(&format!("/graphql{query}")).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, "BAD_REQUEST"), "{query}");
        }
    });
}

#[test]
fn server_timing_is_told_when_asked_for() {
    run(async {
        let server = Server::start(&[]).await;
        let body = r#"{"query":"{ items(first: 100) { name reviews { body author { name } } } }"}"#;
        let headers = [("content-type", "application/json")];
        let plain = server.send(Method::POST, "/graphql", &headers, body).await;
        assert!(!plain.headers.contains_key("server-timing"));
        for settings in [headers.as_slice(), &headers] {
            let mut settings = settings.to_vec();
            settings.push(("x-server-timing", "1"));
            let answer = server.send(Method::POST, "/graphql", &settings, body).await;
            assert_eq!(answer.body, plain.body);
            let timing = answer.headers["server-timing"].to_str().expect("text").to_owned();
            let phases: Vec<(String, f64)> = timing
                .split(", ")
                .map(|phase| phase.split_once(";dur=").expect("a duration"))
                .map(|(name, ms)| (name.to_owned(), ms.parse().expect("a number")))
                .collect();
            let names: Vec<&str> = phases.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["parse", "validate", "execute", "db", "serialize", "total"]);
            let sum: f64 = phases[..5].iter().map(|(_, ms)| ms).sum();
            let total = phases[5].1;
            assert!((sum - total).abs() <= 0.05 * total, "disjoint phases that add up: {timing}");
            assert!(phases[3].1 > 0.0, "statements take time: {timing}");
        }
    });
}

#[test]
fn introspection_tells_the_contract() {
    run(async {
        let server = Server::start(&[]).await;
        let data = server
            .data("{ __schema { queryType { name } mutationType { name } subscriptionType { name } directives { name } } \
                   __type(name: \"Item\") { fields { name args { name defaultValue type { kind ofType { name } } } } interfaces { name } } }")
            .await;
        let fields: Vec<&str> = data["__type"]["fields"]
            .as_array()
            .expect("fields")
            .iter()
            .filter_map(|field| field["name"].as_str())
            .collect();
        let expected = [
            "id",
            "name",
            "description",
            "priceCents",
            "openedOn",
            "updatedAt",
            "category",
            "area",
            "genre",
            "owner",
            "editor",
            "reviews",
            "reviewStats",
        ];
        assert_eq!(fields, expected);
        assert_eq!(data["__type"]["fields"][11]["args"][0]["defaultValue"], "3");
        assert_eq!(data["__schema"]["queryType"]["name"], "Query");
        assert_eq!(data["__schema"]["mutationType"]["name"], "Mutation");
        assert_eq!(data["__schema"]["subscriptionType"], Value::Null);
        let names: Vec<&str> = data["__schema"]["directives"]
            .as_array()
            .expect("directives")
            .iter()
            .filter_map(|d| d["name"].as_str())
            .collect();
        // oneOf is the library's own: contender.yaml lists it.
        assert_eq!(names, ["deprecated", "include", "oneOf", "skip", "specifiedBy"]);
    });
}

#[test]
fn introspection_tells_the_interfaces() {
    run(async {
        let server = Server::start(&[]).await;
        let data = server
            .data("{ __schema { types { ...T } } __type(name: \"Named\") { all: interfaces { name } fields { type { ...T } } } } \
                   fragment T on __Type { interfaces { name } of: kind name }")
            .await;
        let types = data["__schema"]["types"].as_array().expect("types");
        let fields = data["__type"]["fields"].as_array().expect("fields");
        let mut kinds = std::collections::BTreeSet::new();
        for ty in types.iter().chain(fields.iter().map(|field| &field["type"])) {
            let keys: Vec<&String> = ty.as_object().expect("a type").keys().collect();
            assert_eq!(keys, ["interfaces", "name", "of"], "nothing but what was asked for");
            let kind = ty["of"].as_str().expect("a kind");
            match kind {
                "INTERFACE" => assert_eq!(ty["interfaces"], json!([]), "{ty}"),
                "OBJECT" => assert!(ty["interfaces"].is_array(), "{ty}"),
                _ => assert_eq!(ty["interfaces"], Value::Null, "{ty}"),
            }
            kinds.insert(kind);
        }
        assert!(kinds.is_superset(&["INTERFACE", "OBJECT", "SCALAR", "UNION", "NON_NULL"].into()), "{kinds:?}");
        assert_eq!(data["__type"]["all"], json!([]));
    });
}

#[test]
fn graphiql_only_where_it_is_switched_on() {
    run(async {
        let (off, on) = (Server::start(&[]).await, Server::start(&[("GRAPHIQL", "on")]).await);
        let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
        assert_eq!(off.send(Method::GET, "/graphql", &browser, "").await.code(), "BAD_REQUEST");
        let page = on.send(Method::GET, "/graphql", &browser, "").await;
        let there = common::contract_dir().join("graphiql/index.html").exists();
        assert_eq!(page.status.as_u16(), if there { 200 } else { 404 });
        for path in [
            "/graphiql/..%2fschema.graphql",
            "/graphiql/%2e%2e/schema.graphql",
            "/graphiql/.hidden.js",
            "/graphiql/nothing.js",
        ] {
            assert_eq!(on.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(on.get("/graphql?query=%7Bareas%7Bid%7D%7D").await.status, StatusCode::OK);
    });
}

/// What a server answers to raw bytes.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(bytes).await.expect("bytes to be taken");
    stream.shutdown().await.expect("half a close");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn raw_bytes_do_no_harm() {
    run(async {
        let server = Server::start(&[]).await;
        let huge = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
        let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}\r\n");
        let half = "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"query\"";
        let chunked = "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                       Transfer-Encoding: chunked\r\n\r\n17\r\n{\"query\":\"{areas{id}}\"}\r\n0\r\n\r\n";
        for (what, bytes, expected) in [
            ("a huge header", huge.as_str(), ["HTTP/1.1 431", ""]),
            ("many headers", &many, ["HTTP/1.1 431", ""]),
            ("no Host", "GET /graphql?query=%7Bareas%7Bid%7D%7D HTTP/1.1\r\n\r\n", ["HTTP/1.1 400", ""]),
            ("no HTTP", "\0\0\0\0 what?\r\n\r\n", ["HTTP/1.1 400", ""]),
            ("half a request", half, ["HTTP/1.1 400", ""]),
            ("chunks", chunked, ["HTTP/1.1 200", "HTTP/1.1 200"]),
        ] {
            let answer = raw(&server, bytes.as_bytes()).await;
            let status = answer.get(..12).unwrap_or_default();
            assert!(expected.contains(&status), "{what}: {answer:.200}");
        }
        assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
    });
}
