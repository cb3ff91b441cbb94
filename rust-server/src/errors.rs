//! Error codes, their statuses, and what a client may know of a failure.

use std::{borrow::Cow, sync::Arc};

/// The codes of contract/README.md, as they stand in `extensions.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Code {
    ParseFailed,
    ValidationFailed,
    BadRequest,
    OperationResolutionFailure,
    BadUserInput,
    QueryTooLong,
    QueryTooDeep,
    QueryTooManyAliases,
    QueryTooCostly,
    RequestTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    UpstreamFailed,
    NotInThisTier,
    InternalServerError,
}

impl Code {
    pub const ALL: [Code; 15] = [
        Code::ParseFailed,
        Code::ValidationFailed,
        Code::BadRequest,
        Code::OperationResolutionFailure,
        Code::BadUserInput,
        Code::QueryTooLong,
        Code::QueryTooDeep,
        Code::QueryTooManyAliases,
        Code::QueryTooCostly,
        Code::RequestTooLarge,
        Code::RequestTimeout,
        Code::ServiceUnavailable,
        Code::UpstreamFailed,
        Code::NotInThisTier,
        Code::InternalServerError,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Code::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Code::BadRequest => "BAD_REQUEST",
            Code::OperationResolutionFailure => "OPERATION_RESOLUTION_FAILURE",
            Code::BadUserInput => "BAD_USER_INPUT",
            Code::QueryTooLong => "QUERY_TOO_LONG",
            Code::QueryTooDeep => "QUERY_TOO_DEEP",
            Code::QueryTooManyAliases => "QUERY_TOO_MANY_ALIASES",
            Code::QueryTooCostly => "QUERY_TOO_COSTLY",
            Code::RequestTooLarge => "REQUEST_TOO_LARGE",
            Code::RequestTimeout => "REQUEST_TIMEOUT",
            Code::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Code::UpstreamFailed => "UPSTREAM_FAILED",
            Code::NotInThisTier => "NOT_IN_THIS_TIER",
            Code::InternalServerError => "INTERNAL_SERVER_ERROR",
        }
    }

    /// The status of a request that failed as a whole, where
    /// `application/graphql-response+json` is accepted.
    pub fn status(self) -> u16 {
        match self {
            Code::RequestTooLarge => 413,
            Code::RequestTimeout => 504,
            Code::ServiceUnavailable => 503,
            Code::NotInThisTier => 501,
            Code::InternalServerError | Code::UpstreamFailed => 500,
            _ => 400,
        }
    }
}

/// What went wrong while a request was executed. `Display` is what the client reads; a cause is for the log only.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    UserInput(Cow<'static, str>),
    #[error("Upstream failed.")]
    Upstream { cause: Arc<str> },
    #[error("Service unavailable.")]
    Unavailable { cause: Arc<str> },
    #[error("Request took longer than {limit_ms} ms.")]
    Timeout { limit_ms: u64 },
    #[error("Internal server error.")]
    Internal { cause: Arc<str> },
}

impl Failure {
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Failure::Internal { cause: cause.to_string().into() }
    }

    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Failure::Unavailable { cause: cause.to_string().into() }
    }

    pub fn upstream(cause: impl std::fmt::Display) -> Self {
        Failure::Upstream { cause: cause.to_string().into() }
    }

    pub fn code(&self) -> Code {
        match self {
            Failure::UserInput(_) => Code::BadUserInput,
            Failure::Upstream { .. } => Code::UpstreamFailed,
            Failure::Unavailable { .. } => Code::ServiceUnavailable,
            Failure::Timeout { .. } => Code::RequestTimeout,
            Failure::Internal { .. } => Code::InternalServerError,
        }
    }

    /// What the log may say of it, and nobody else.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Failure::Upstream { cause } | Failure::Unavailable { cause } | Failure::Internal { cause } => Some(cause),
            Failure::UserInput(_) | Failure::Timeout { .. } => None,
        }
    }

    /// Whether it ends the whole request, whatever else could still be answered.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Failure::Unavailable { .. } | Failure::Timeout { .. })
    }
}

/// A request that is answered with errors and no data.
#[derive(Clone, Debug)]
pub struct RequestError {
    pub code: Code,
    pub message: Cow<'static, str>,
    /// 1-based line and column in the document.
    pub locations: Vec<(u32, u32)>,
}

impl RequestError {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        RequestError { code, message: message.into(), locations: Vec::new() }
    }

    pub fn at(code: Code, message: impl Into<Cow<'static, str>>, location: (u32, u32)) -> Self {
        RequestError { code, message: message.into(), locations: vec![location] }
    }

    /// A rule of the specification that the document or its variables broke.
    pub fn broken(code: Code, error: spec::Error) -> Self {
        let locations = error.position.map(|at| (at.line as u32, at.column as u32)).into_iter().collect();
        RequestError { code, message: error.message.into(), locations }
    }

    /// The status with `application/graphql-response+json`.
    pub fn status(&self) -> u16 {
        self.code.status()
    }
}

impl From<&Failure> for RequestError {
    fn from(failure: &Failure) -> Self {
        RequestError::new(failure.code(), failure.to_string())
    }
}
