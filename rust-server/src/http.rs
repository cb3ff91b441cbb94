//! GraphQL over HTTP, and the listener.

use crate::{
    app::App,
    config::Tier,
    errors::{Code, Failure, RequestError},
    health, log, profile,
    schema::ExecutionError,
    telemetry::Phases,
};
use async_graphql::{PathSegment, parser::types::OperationType};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header},
    routing::{any, get},
};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use spec::json::{self, Json};
use std::{
    borrow::Cow,
    future::Future,
    io,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Sleep, sleep, timeout},
};

/// How long a client may take over a request's head, or its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may lie idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const HEAD_BYTES: usize = 16 << 10;
/// Of a body that is too large, so much more is read that the client gets to read the answer.
const DRAIN_BYTES: usize = 8 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

const GRAPHQL_JSON: &str = "application/graphql-response+json; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/graphql", any(graphql))
        .route("/graphiql/{file}", get(graphiql_file))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .route("/profile", get(profile::profile))
        .fallback(async || plain_error(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(async || {
            let mut response = plain_error(StatusCode::METHOD_NOT_ALLOWED, "Only GET is allowed here.");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        })
        .with_state(app)
}

async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", app.render_metrics().into_bytes())
}

pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn plain_error(status: StatusCode, message: &'static str) -> Response<Body> {
    refusal(status, RequestError::new(Code::BadRequest, message))
}

/// An answer of one error, for what is no GraphQL.
pub fn refusal(status: StatusCode, error: RequestError) -> Response<Body> {
    respond(status, JSON, errors_body(&[error]))
}

/// What a request ends with. `code` is the first error's.
struct Answer {
    status: StatusCode,
    media: Media,
    body: Vec<u8>,
    code: Option<Code>,
    allow: Option<&'static str>,
    /// Whether the connection is of no more use.
    close: bool,
}

impl Answer {
    fn error(media: Media, error: RequestError) -> Answer {
        Answer::errors(media, vec![error])
    }

    fn errors(media: Media, errors: Vec<RequestError>) -> Answer {
        let code = errors.first().map_or(Code::InternalServerError, |error| error.code);
        let status = match (code.status(), media, code) {
            // A well-formed request that fails is 200 where plain JSON is accepted; what is not even a request is not.
            (400, Media::Json, code) if code != Code::BadRequest => 200,
            (status, _, _) => status,
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            media,
            body: errors_body(&errors),
            code: Some(code),
            allow: None,
            close: false,
        }
    }

    fn refused(media: Media, status: StatusCode, message: &'static str) -> Answer {
        Answer { status, ..Answer::error(media, RequestError::new(Code::BadRequest, message)) }
    }

    fn into_response(self) -> Response<Body> {
        let content_type = match self.media {
            Media::GraphqlJson => GRAPHQL_JSON,
            Media::Json => JSON,
        };
        let retry = self.code == Some(Code::ServiceUnavailable);
        let mut response = respond(self.status, content_type, self.body);
        let headers = response.headers_mut();
        if retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The media type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    GraphqlJson,
    Json,
}

/// `{"errors":[…]}`.
pub fn errors_body(errors: &[RequestError]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"errors\":[");
    for (at, error) in errors.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"message\":");
        write_string(&mut out, &error.message);
        write_locations(&mut out, error.locations.iter().copied());
        write_code(&mut out, error.code);
    }
    out.extend_from_slice(b"]}");
    out
}

fn write_locations(out: &mut Vec<u8>, locations: impl ExactSizeIterator<Item = (u32, u32)>) {
    if locations.len() == 0 {
        return;
    }
    out.extend_from_slice(b",\"locations\":[");
    for (at, (line, column)) in locations.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"line\":");
        write_integer(out, line);
        out.extend_from_slice(b",\"column\":");
        write_integer(out, column);
        out.push(b'}');
    }
    out.push(b']');
}

fn write_code(out: &mut Vec<u8>, code: Code) {
    out.extend_from_slice(b",\"extensions\":{\"code\":\"");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\"}}");
}

pub fn write_integer(out: &mut Vec<u8>, n: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// A JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_value(out: &mut Vec<u8>, value: &async_graphql::Value) {
    use async_graphql::Value;
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => write_integer(out, integer),
            None => {
                let _ = serde_json::to_writer(out, number);
            }
        },
        Value::String(text) => write_string(out, text),
        Value::Enum(name) => write_string(out, name),
        Value::List(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(out, value);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                // A name needs no escapes.
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                write_value(out, value);
            }
            out.push(b'}');
        }
        Value::Binary(_) => out.extend_from_slice(b"null"),
    }
}

/// `{"errors":[…],"data":…}`, without `errors` where there are none.
fn data_body(data: &async_graphql::Value, errors: &[ExecutionError]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.push(b'{');
    if !errors.is_empty() {
        out.extend_from_slice(b"\"errors\":[");
        for (at, error) in errors.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"message\":");
            write_string(&mut out, &error.failure.to_string());
            write_locations(&mut out, error.locations.iter().map(|at| (at.line as u32, at.column as u32)));
            out.extend_from_slice(b",\"path\":[");
            for (at, segment) in error.path.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                match segment {
                    PathSegment::Field(name) => write_string(&mut out, name),
                    PathSegment::Index(index) => write_integer(&mut out, *index),
                }
            }
            out.push(b']');
            write_code(&mut out, error.failure.code());
        }
        out.extend_from_slice(b"],");
    }
    out.extend_from_slice(b"\"data\":");
    write_value(&mut out, data);
    out.push(b'}');
    out
}

/// One request of a client, checked for its shape.
struct GraphqlRequest<'a> {
    query: Cow<'a, str>,
    operation_name: Option<Cow<'a, str>>,
    variables: json::Object<'a>,
}

fn bad_request(message: impl Into<Cow<'static, str>>) -> RequestError {
    RequestError::new(Code::BadRequest, message)
}

fn object<'a>(value: Option<Json<'a>>, message: &'static str) -> Result<json::Object<'a>, RequestError> {
    match value {
        None | Some(Json::Null) => Ok(json::Object::new()),
        Some(Json::Object(object)) => Ok(object),
        Some(_) => Err(bad_request(message)),
    }
}

fn check_shape(mut members: json::Object<'_>) -> Result<GraphqlRequest<'_>, RequestError> {
    let Some(Json::String(query)) = members.remove("query") else {
        return Err(bad_request("\"query\" must be a string."));
    };
    let operation_name = match members.remove("operationName") {
        None | Some(Json::Null) => None,
        Some(Json::String(name)) => Some(name),
        Some(_) => return Err(bad_request("\"operationName\" must be a string or null.")),
    };
    let variables = object(members.remove("variables"), "\"variables\" must be an object or null.")?;
    object(members.remove("extensions"), "\"extensions\" must be an object or null.")?;
    Ok(GraphqlRequest { query, operation_name, variables })
}

fn from_body(body: &[u8]) -> Result<GraphqlRequest<'_>, RequestError> {
    let text = std::str::from_utf8(body).map_err(|_| bad_request("Body is not UTF-8."))?;
    match Json::parse(text) {
        Ok(Json::Object(members)) => check_shape(members),
        Ok(_) => Err(bad_request("Body is not a JSON object.")),
        Err(error) => Err(bad_request(format!("Body is not JSON: {error}."))),
    }
}

type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

fn parameters(query: &str) -> Result<Vec<Parameter<'_>>, RequestError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// `query`, `operationName`, `variables`, `extensions` of a GET, the latter two as JSON. All but the query may be empty,
/// which is as good as not given.
fn from_parameters<'a>(parameters: &'a [Parameter<'_>]) -> Result<GraphqlRequest<'a>, RequestError> {
    let mut members = json::Object::new();
    for (name, value) in parameters {
        let value = match &**name {
            "operationName" | "variables" | "extensions" if value.is_empty() => Json::Null,
            "query" | "operationName" => Json::String(Cow::Borrowed(value)),
            "variables" | "extensions" => {
                Json::parse(value).map_err(|error| bad_request(format!("\"{name}\" is not JSON: {error}.")))?
            }
            _ => continue,
        };
        members.insert(Cow::Borrowed(name), value);
    }
    check_shape(members)
}

/// application/x-www-form-urlencoded, as URLs have it.
fn decode(text: &str) -> Result<Cow<'_, str>, RequestError> {
    let bytes = text.as_bytes();
    let broken = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .any(|(at, _)| !bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    if broken {
        return Err(bad_request("The URL is not well encoded."));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    decoded.map(|text| Cow::Owned(text.into_owned())).map_err(|_| bad_request("The URL is not UTF-8."))
}

/// What of the media types on offer is accepted, by quality: a more exact range before a vaguer one, then the first named.
#[derive(Debug, PartialEq)]
struct Accepted {
    media: Option<Media>,
    html: bool,
}

fn negotiate(headers: &HeaderMap) -> Accepted {
    let plain = |media| Accepted { media: Some(media), html: false };
    let values = headers.get_all(header::ACCEPT);
    let mut first_two = values.iter().map(HeaderValue::as_bytes);
    // What nearly every client says, without further thought.
    match (first_two.next(), first_two.next()) {
        (None, _) | (Some(b"" | b"application/json" | b"*/*"), None) => return plain(Media::Json),
        (Some(b"application/graphql-response+json"), None) => return plain(Media::GraphqlJson),
        _ => {}
    }
    // Per offer: exactness of the best match, its quality, its place.
    let mut best: [Option<(u8, f64, usize)>; 3] = [None; 3];
    let offers = ["application/json", "application/graphql-response+json", "text/html"];
    let mut place = 0;
    for value in values {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';');
            let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let quality = parts
                .filter_map(|part| part.trim().strip_prefix("q=").or_else(|| part.trim().strip_prefix("Q=")))
                .next()
                .map_or(Some(1.0), |quality| quality.trim().parse().ok())
                .filter(|quality| (0.0..=1.0).contains(quality))
                .unwrap_or(0.0);
            for (offer, best) in offers.iter().zip(&mut best) {
                let exactness = match kind.as_str() {
                    kind if kind == *offer => 2,
                    "application/*" if offer.starts_with("application/") => 1,
                    "text/*" if offer.starts_with("text/") => 1,
                    "*/*" => 0,
                    _ => continue,
                };
                if best.is_none_or(|(known, _, _)| exactness > known) {
                    *best = Some((exactness, quality, place));
                }
            }
            place += 1;
        }
    }
    let rank = |best: Option<(u8, f64, usize)>| {
        best.filter(|(_, quality, _)| *quality > 0.0)
            .map(|(exactness, quality, place)| (quality, exactness, usize::MAX - place))
    };
    let [json, graphql, html] = best.map(rank);
    let preferred = if json >= graphql { json } else { graphql };
    let media = match (json, graphql) {
        (None, None) => None,
        // At one range (`*/*`) both are as good: plain JSON.
        (json, graphql) if json >= graphql => Some(Media::Json),
        _ => Some(Media::GraphqlJson),
    };
    Accepted { media, html: html.is_some() && html > preferred }
}

/// Neither packed nor in an encoding of its own.
fn is_plain(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.map(HeaderValue::as_bytes).all(|value| value.is_empty() || value.eq_ignore_ascii_case(b"identity"))
}

/// Only JSON: what a browser sends without asking first (forms) is refused, which keeps other sites' pages out.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
            !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

async fn graphql(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let begun = Instant::now();
    let mut phases =
        request.headers().get("x-server-timing").is_some_and(|value| value == "1").then(|| Phases::begin(begun));
    let answer = match app.enter() {
        Ok(_) if wants_page(&app, &request) => return file(&app, "index.html").await,
        Ok(_entered) => answer(&app, request, &mut phases).await,
        Err(failure) => {
            let media = negotiate(request.headers()).media.unwrap_or(Media::Json);
            let mut answer = Answer::error(media, RequestError::from(&failure));
            answer.close = app.is_closing();
            answer
        }
    };
    app.metrics.request(answer.code, begun.elapsed());
    let mut response = answer.into_response();
    if let Some(phases) = phases
        && let Ok(value) = HeaderValue::from_str(&phases.header())
    {
        response.headers_mut().insert("server-timing", value);
    }
    response
}

/// GraphiQL, for a browser that asks for a page where it is switched on.
fn wants_page(app: &App, request: &Request<Body>) -> bool {
    app.config.graphiql && request.method() == Method::GET && negotiate(request.headers()).html
}

async fn graphiql_file(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response<Body> {
    match app.config.graphiql {
        true => file(&app, &name).await,
        false => plain_error(StatusCode::NOT_FOUND, "GraphiQL is switched off."),
    }
}

/// A file of contract/graphiql. A name is one plain file name: no folder, nothing hidden.
async fn file(app: &App, name: &str) -> Response<Body> {
    let content_type = match name.rsplit_once('.') {
        Some((_, "html")) => HTML,
        Some((_, "js" | "mjs")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "json" | "map")) => JSON,
        Some((_, "svg")) => "image/svg+xml",
        Some((_, "woff2")) => "font/woff2",
        Some((_, "ttf")) => "font/ttf",
        _ => return plain_error(StatusCode::NOT_FOUND, "There is no such file."),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.starts_with('.') || !name.bytes().all(is_plain) {
        return plain_error(StatusCode::NOT_FOUND, "There is no such file.");
    }
    let path = app.config.contract_dir.join("graphiql").join(name);
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(bytes)) => respond(StatusCode::OK, content_type, bytes),
        _ => plain_error(StatusCode::NOT_FOUND, "There is no such file."),
    }
}

/// The checks in the contract's order, then execution.
async fn answer(app: &App, request: Request<Body>, phases: &mut Option<Phases>) -> Answer {
    const ALLOW: &str = "GET, POST";
    let (head, body) = request.into_parts();
    let accepted = negotiate(&head.headers).media;
    let media = accepted.unwrap_or(Media::Json);
    // RFC 9112, section 3.2; hyper leaves it to us.
    if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
        return Answer { close: true, ..Answer::refused(media, StatusCode::BAD_REQUEST, "Header Host is missing.") };
    }
    let is_get = match head.method {
        Method::POST => false,
        Method::GET => true,
        _ => {
            let mut answer = Answer::refused(media, StatusCode::METHOD_NOT_ALLOWED, "Only GET and POST are allowed.");
            answer.allow = Some(ALLOW);
            return answer;
        }
    };
    if accepted.is_none() {
        let message = "Only application/graphql-response+json and application/json are on offer.";
        return Answer::refused(media, StatusCode::NOT_ACCEPTABLE, message);
    }
    let is_understood = is_get || (is_json(&head.headers) && is_plain(&head.headers));
    if !is_understood {
        let message = "Only application/json in UTF-8 is understood.";
        return Answer::refused(media, StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    let (bytes, decoded);
    let request = if is_get {
        match parameters(head.uri.query().unwrap_or_default()) {
            Ok(parameters) => decoded = parameters,
            Err(error) => return Answer::error(media, error),
        }
        from_parameters(&decoded)
    } else {
        match read_body(&head.headers, body, app.config.limits.body_bytes, media).await {
            Ok(body) => bytes = body,
            Err(answer) => return *answer,
        }
        from_body(&bytes)
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => return Answer::error(media, error),
    };
    match app.config.tier {
        Tier::Floor => floor(app, media, &request.query, phases).await,
        Tier::Mainstream => mainstream(app, media, is_get, &request, phases).await,
    }
}

async fn read_body(headers: &HeaderMap, mut body: Body, limit: usize, media: Media) -> Result<Bytes, Box<Answer>> {
    let too_large = || {
        let message = format!("Body is larger than {limit} bytes.");
        Answer::error(media, RequestError::new(Code::RequestTooLarge, message))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let result = match announced.is_some_and(|length| length > limit as u64) {
        true => Err(too_large()),
        false => match timeout(READ_TIMEOUT, collect(&mut body, limit)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(Unread::TooLarge)) => Err(too_large()),
            Ok(Err(Unread::CutShort)) => Err(Answer::refused(media, StatusCode::BAD_REQUEST, "Body was cut short.")),
            Err(_) => {
                let mut answer = Answer::refused(media, StatusCode::REQUEST_TIMEOUT, "Body took too long.");
                answer.close = true;
                return Err(Box::new(answer));
            }
        },
    };
    match result {
        Ok(bytes) => Ok(bytes),
        Err(mut answer) => {
            answer.close = !drain(body).await;
            Err(Box::new(answer))
        }
    }
}

enum Unread {
    TooLarge,
    CutShort,
}

async fn collect(body: &mut Body, limit: usize) -> Result<Bytes, Unread> {
    let mut whole: Option<Bytes> = None;
    let mut parts = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::CutShort)?.into_data() else { continue };
        if parts.len() + whole.as_ref().map_or(0, Bytes::len) + data.len() > limit {
            return Err(Unread::TooLarge);
        }
        // Nearly every body comes as one piece, which then is not copied.
        match whole.take() {
            None if parts.is_empty() => whole = Some(data),
            first => {
                parts.extend_from_slice(&first.unwrap_or_default());
                parts.extend_from_slice(&data);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| parts.freeze()))
}

/// Reads the rest, up to a bound; whether it came to the end.
async fn drain(mut body: Body) -> bool {
    let all = async {
        let mut left = DRAIN_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return false;
            }
        }
        true
    };
    timeout(DRAIN_TIMEOUT, all).await.unwrap_or(false)
}

async fn floor(app: &App, media: Media, query: &str, phases: &mut Option<Phases>) -> Answer {
    let Some(operation) = app.floor.as_ref().and_then(|floor| floor.recognise(query)) else {
        let message = "This tier answers the headline operations only.";
        return Answer::error(media, RequestError::new(Code::NotInThisTier, message));
    };
    if let Some(phases) = phases {
        phases.parsed();
        phases.validated();
    }
    let session = app.store.replica(phases.as_ref().map(|phases| phases.waits.clone()));
    let deadline = Instant::now() + app.config.request_timeout;
    let work = tokio::task::unconstrained(operation.fetch(session, app.environment.clone()));
    let result = match tokio::time::timeout_at(deadline.into(), AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::internal("panic")),
        Err(_) => Err(app.late()),
    };
    if let Some(phases) = phases {
        phases.executed();
    }
    match result {
        Ok(rows) => {
            let body = rows.write();
            if let Some(phases) = phases {
                phases.serialized();
            }
            Answer { status: StatusCode::OK, media, body, code: None, allow: None, close: false }
        }
        Err(failure) => {
            app.log_failure(&failure);
            Answer::error(media, RequestError::from(&failure))
        }
    }
}

async fn mainstream(
    app: &App,
    media: Media,
    is_get: bool,
    request: &GraphqlRequest<'_>,
    phases: &mut Option<Phases>,
) -> Answer {
    let schema = &app.schema;
    let prepared = match schema.cached(&request.query) {
        Some(prepared) => {
            if let Some(phases) = phases {
                phases.parsed();
            }
            prepared
        }
        None => {
            let document = schema.parse(&request.query);
            if let Some(phases) = phases {
                phases.parsed();
            }
            let document = match document {
                Ok(document) => document,
                Err(error) => return Answer::error(media, error),
            };
            match schema.validate(&request.query, document) {
                Ok(prepared) => prepared,
                Err(errors) => return Answer::errors(media, errors),
            }
        }
    };
    let mut is_mutation_by_get = false;
    let planned = schema.plan(&prepared, request.operation_name.as_deref(), &request.variables, |kind| {
        is_mutation_by_get = is_get && kind != OperationType::Query;
        match is_mutation_by_get {
            true => Err(bad_request("A mutation needs a POST.")),
            false => Ok(()),
        }
    });
    if let Some(phases) = phases {
        phases.validated();
    }
    let planned = match planned {
        Ok(planned) => planned,
        Err(error) if is_mutation_by_get => {
            let refused = Answer::error(media, error);
            return Answer { status: StatusCode::METHOD_NOT_ALLOWED, allow: Some("POST"), ..refused };
        }
        Err(error) => return Answer::error(media, error),
    };
    let clock = phases.as_ref().map(|phases| phases.waits.clone());
    let work = AssertUnwindSafe(app.execute(planned, clock)).catch_unwind();
    let (data, errors) = match work.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => return Answer::error(media, RequestError::from(&failure)),
        Err(_) => {
            let failure = Failure::internal("panic");
            app.log_failure(&failure);
            return Answer::error(media, RequestError::from(&failure));
        }
    };
    if let Some(phases) = phases {
        phases.executed();
    }
    let body = data_body(&data, &errors);
    if let Some(phases) = phases {
        phases.serialized();
    }
    let code = errors.first().map(|error| error.failure.code());
    Answer { status: StatusCode::OK, media, body, code, allow: None, close: false }
}

/// Whose turn it is on a connection: the client's head, or ours.
#[derive(Default)]
struct Turn(AtomicU8);

impl Turn {
    const IDLE: u8 = 0;
    const HEAD: u8 = 1;
    const BUSY: u8 = 2;
}

/// A stream that gives up on a head that does not come to its end, and on a client that has long been silent. hyper's own
/// limit is one for both, and costs a timer for each request; this one's are set only where a client makes us wait.
struct Timed {
    stream: TcpStream,
    turn: Arc<Turn>,
    /// For the head that has begun.
    head: Option<Pin<Box<Sleep>>>,
    /// Fires now and then, to look whether anything happened since.
    idle: Pin<Box<Sleep>>,
    last_read: Instant,
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    let _ = this.turn.0.compare_exchange(Turn::IDLE, Turn::HEAD, Relaxed, Relaxed);
                    this.last_read = Instant::now();
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                if this.turn.0.load(Relaxed) == Turn::HEAD {
                    ready!(this.head.get_or_insert_with(|| Box::pin(sleep(READ_TIMEOUT))).as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                this.head = None;
                while this.idle.as_mut().poll(cx).is_ready() {
                    let end = this.last_read + IDLE_TIMEOUT;
                    let is_idle = this.turn.0.load(Relaxed) == Turn::IDLE;
                    if is_idle && Instant::now() >= end {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    this.idle.as_mut().reset(end.max(Instant::now() + READ_TIMEOUT).into());
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

/// Accepts until `closing` says so, then lets what is under way finish, but for no longer than `grace`.
pub async fn serve(listener: TcpListener, router: Router, mut closing: watch::Receiver<bool>, grace: Duration) {
    // Every connection holds a sender: the last one gone is the end.
    let (open, mut ended) = mpsc::channel::<()>(1);
    loop {
        let stream = tokio::select! {
            biased;
            () = closed(&mut closing) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: waiting is all one can do.
                    log!(Warn, "accept failed", "error": error.to_string());
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let (router, closing, open) = (router.clone(), closing.clone(), open.clone());
        tokio::spawn(async move {
            connection(stream, router, closing).await;
            drop(open);
        });
    }
    drop((listener, open));
    let _ = timeout(grace, ended.recv()).await;
}

/// Until the server is to stop.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let turn = Arc::new(Turn::default());
    let router = TowerToHyperService::new(router);
    let service = {
        let turn = turn.clone();
        hyper::service::service_fn(move |request| {
            turn.0.store(Turn::BUSY, Relaxed);
            let (response, turn) = (hyper::service::Service::call(&router, request), turn.clone());
            async move {
                let response = response.await;
                turn.0.store(Turn::IDLE, Relaxed);
                response
            }
        })
    };
    let timed = Timed { stream, turn, head: None, idle: Box::pin(sleep(IDLE_TIMEOUT)), last_read: Instant::now() };
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .half_close(true)
        .serve_connection(TokioIo::new(timed), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // A broken connection is the client's business.
        _ = connection.as_mut() => return,
        () = closed(&mut closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
