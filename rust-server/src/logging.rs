//! JSON lines on stdout: `time`, `level`, `msg`, then fields in snake_case with units.

use serde_json::Value;
use std::{
    io::Write,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Relaxed);
}

pub fn enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Relaxed)
}

/// Writes one line. `fields` is a JSON object; its members follow the fixed ones.
pub fn log(level: Level, msg: &str, fields: Value) {
    if !enabled(level) {
        return;
    }
    let quoted = |text: &str| Value::from(text).to_string();
    let mut line =
        format!("{{\"time\":{},\"level\":{},\"msg\":{}", quoted(&now()), quoted(level.as_str()), quoted(msg));
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            line.push_str(&format!(",{}:{value}", quoted(&name)));
        }
    }
    line.push_str("}\n");
    // One write per line, so that lines of several threads don't mix; a closed stdout is nobody's fault.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// `log(level, msg, json!({…}))` that builds its fields only where the level is on.
#[macro_export]
macro_rules! log {
    ($level:ident, $msg:expr $(, $($fields:tt)+)?) => {
        if $crate::logging::enabled($crate::logging::Level::$level) {
            $crate::logging::log($crate::logging::Level::$level, $msg, serde_json::json!({ $($($fields)+)? }));
        }
    };
}

/// The time in UTC, RFC 3339 with milliseconds.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    crate::store::DateTime::from_unix_ms(since.as_millis() as i64).to_string()
}
