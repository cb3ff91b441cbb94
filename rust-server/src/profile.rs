//! CPU profiles of this process.
//!
//! The kernel gives the signal of the process's CPU timer to the thread that runs. A sample keeps the addresses, and not
//! only whose functions they are in, so that functions that were inlined into each other can be told apart.

use crate::{
    app::App,
    errors::{Code, RequestError},
    http::{refusal, respond},
    log,
};
use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{Response, StatusCode},
};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::{c_int, c_void},
    io, ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// Samples per second of CPU time.
const HERTZ: usize = 100;
/// The longest that one profile may take.
const MOST_SECONDS: u64 = 30;
/// Of a deeper stack the outermost frames are left out.
const MOST_FRAMES: usize = 128;

/// Samples the stacks of this process's CPU time for some seconds and answers with them folded. There is one timer: while
/// it is at work, a second profile is refused.
pub async fn profile(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    if !app.config.profiler {
        return refuse(StatusCode::NOT_FOUND, "Not found.".into());
    }
    let query = query.unwrap_or_default();
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("seconds=")).unwrap_or_default();
    let is_plain = asked.bytes().all(|byte| byte.is_ascii_digit());
    let Some(seconds) = asked.parse().ok().filter(|seconds| is_plain && (1..=MOST_SECONDS).contains(seconds)) else {
        let message = format!("\"seconds\" is {asked:?}: expected a whole number from 1 to {MOST_SECONDS}.");
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    let recording = match Recording::start(seconds) {
        Ok(Some(recording)) => recording,
        Ok(None) => return refuse(StatusCode::CONFLICT, "A profile is being taken already.".into()),
        Err(error) => return failed(&error.to_string()),
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    match tokio::task::spawn_blocking(move || fold(&recording.end())).await {
        Ok(folded) => respond(StatusCode::OK, "text/plain; charset=utf-8", folded),
        Err(error) => failed(&error.to_string()),
    }
}

fn refuse(status: StatusCode, message: String) -> Response<Body> {
    refusal(status, RequestError::new(Code::BadRequest, message))
}

fn failed(error: &str) -> Response<Body> {
    log!(Error, "profile failed", "error": error);
    refusal(StatusCode::INTERNAL_SERVER_ERROR, RequestError::new(Code::InternalServerError, "Internal server error."))
}

/// Where samples go: for each the addresses of its stack, the innermost first, up to the first 0. They are those at which
/// each function goes on, as the callers' are.
struct Samples {
    addresses: Box<[AtomicUsize]>,
    taken: AtomicUsize,
}

/// What the signal's handler writes to, and how many threads are at it.
static SAMPLES: AtomicPtr<Samples> = AtomicPtr::new(ptr::null_mut());
static SAMPLING: AtomicUsize = AtomicUsize::new(0);
static RECORDING: AtomicBool = AtomicBool::new(false);
/// Where the kernel has put code of its own into the process, which cannot be unwound everywhere; 0: nowhere.
static VDSO: AtomicUsize = AtomicUsize::new(0);
/// It is not larger than that.
const VDSO_BYTES: usize = 16 << 10;
/// A profile has room for so many CPUs at work.
const MOST_CORES: usize = 16;

/// A profile under way; dropped, it ends.
struct Recording(Arc<Samples>);

impl Recording {
    /// None where one is under way already.
    fn start(seconds: u64) -> io::Result<Option<Recording>> {
        if RECORDING.swap(true, SeqCst) {
            return Ok(None);
        }
        // What the unwinder makes ready at its first use must not be made in the handler.
        drop(backtrace::Backtrace::new_unresolved());
        // SAFETY: it reads what the kernel told the process at its start.
        VDSO.store(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize, SeqCst);
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_CORES);
        let most = (seconds as usize + 1) * HERTZ * cores;
        let recording = Recording(Arc::new(Samples {
            addresses: (0..most * MOST_FRAMES).map(|_| AtomicUsize::new(0)).collect(),
            taken: AtomicUsize::new(0),
        }));
        SAMPLES.store(Arc::as_ptr(&recording.0).cast_mut(), SeqCst);
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = sample;
        handle(handler as libc::sighandler_t)?;
        tick(1_000_000 / HERTZ as i64)?;
        Ok(Some(recording))
    }

    fn end(self) -> Arc<Samples> {
        self.0.clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // A signal that is under way is ignored: the default would end the process.
        let stopped = tick(0).and_then(|()| handle(libc::SIG_IGN));
        debug_assert!(stopped.is_ok(), "{stopped:?}");
        SAMPLES.store(ptr::null_mut(), SeqCst);
        while SAMPLING.load(SeqCst) > 0 {
            std::thread::yield_now();
        }
        RECORDING.store(false, SeqCst);
    }
}

/// Sets what happens at the timer's signal.
fn handle(handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: sigaction is plain data, for which zeroes are valid, and the kernel copies it.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &action, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the timer tick whenever this process has used so much CPU time; 0 ends it.
fn tick(microseconds: i64) -> io::Result<()> {
    let every = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the kernel copies the timer's setting.
    let result = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The handler: notes the stack that was interrupted. It neither allocates nor locks.
extern "C" fn sample(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: errno is this thread's own; what was interrupted finds it as it was.
    let errno = unsafe { *libc::__errno_location() };
    SAMPLING.fetch_add(1, SeqCst);
    // SAFETY: samples live until nobody is sampling any more: who drops a recording waits for that, the pointer gone.
    if let Some(samples) = unsafe { SAMPLES.load(SeqCst).as_ref() } {
        let first = samples.taken.fetch_add(1, SeqCst) * MOST_FRAMES;
        if let Some(slot) = samples.addresses.get(first..first + MOST_FRAMES) {
            let interrupted = interrupted_at(context);
            let mut depth = 0;
            if !(VDSO.load(SeqCst)..VDSO.load(SeqCst) + VDSO_BYTES).contains(&interrupted) {
                // SAFETY: what the unwinder has of its own is made ready before the timer starts, and looking up frames
                // takes no lock since glibc 2.35; the threads of a server that serves unwind for nothing else.
                unsafe {
                    backtrace::trace_unsynchronized(|frame| {
                        let address = frame.ip() as usize;
                        // The innermost frames are this handler's own.
                        if depth > 0 || address == interrupted {
                            slot[depth].store(address, SeqCst);
                            depth += 1;
                        }
                        depth < MOST_FRAMES
                    });
                }
            }
            slot[0].store(interrupted + 1, SeqCst);
        }
    }
    SAMPLING.fetch_sub(1, SeqCst);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Where a thread was when the signal came.
fn interrupted_at(context: *mut c_void) -> usize {
    // SAFETY: the kernel gives a handler with SA_SIGINFO the interrupted thread's context.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return machine.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return machine.pc as usize;
}

/// One line for each stack, from its root to the function that ran, with the number of samples; of functions that were
/// inlined into each other each has its place.
fn fold(samples: &Samples) -> String {
    let mut names: HashMap<usize, Vec<String>> = HashMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for stack in samples.addresses.chunks(MOST_FRAMES).take(samples.taken.load(SeqCst)) {
        let addresses = stack.iter().map(|address| address.load(SeqCst)).take_while(|address| *address != 0);
        let mut frames: Vec<String> = Vec::new();
        for address in addresses {
            frames.extend_from_slice(names.entry(address).or_insert_with(|| names_at(address)));
        }
        frames.reverse();
        *counts.entry(frames.join(";")).or_default() += 1;
    }
    // What was read of the program for it is not kept.
    backtrace::clear_symbol_cache();
    counts.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
}

/// The functions before an address, the innermost of those inlined first, each with the file that it is in, from its package
/// on: `fill<rust_server::loaders::UsersByIds> (src/loaders.rs)`, `insert<i32, ()> (hashbrown-0.17.1/src/map.rs)`. Of a file
/// without debug information there is the function alone.
fn names_at(address: usize) -> Vec<String> {
    let mut names = Vec::new();
    backtrace::resolve(address as *mut c_void, |symbol| {
        // The alternate form has no hash at its end.
        let mut name = symbol.name().map_or(UNKNOWN.into(), |name| format!("{name:#}"));
        if let Some(file) = symbol.filename() {
            name.push_str(&format!(" ({})", in_package(&file.to_string_lossy())));
        }
        names.push(name.replace([';', '\n'], ","));
    });
    if names.is_empty() {
        names.push(UNKNOWN.into());
    }
    names
}

/// The path of a source from its package on: of the standard library from `library/` on, of crates from the registry with the
/// crate's version, of this package from `src/` on.
fn in_package(file: &str) -> &str {
    for begins in ["/rustc/", "/registry/src/"] {
        if let Some((_, rest)) = file.split_once(begins) {
            // After the compiler's commit, or the registry's name.
            return rest.split_once('/').map_or(rest, |(_, path)| path);
        }
    }
    if let Some(at) = file.rfind("/library/") {
        return &file[at + 1..];
    }
    // The standard library's own crates are elsewhere.
    for begins in ["/rust-server/", "/rust/deps/"] {
        if let Some(at) = file.rfind(begins) {
            return &file[at + begins.len()..];
        }
    }
    file
}

/// A function whose name nobody knows.
const UNKNOWN: &str = "[unknown]";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[inline(never)]
    fn burn(until: Instant) -> u64 {
        let mut sum = 0_u64;
        while Instant::now() < until {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    #[test]
    fn what_runs_is_found_and_one_profile_is_taken_at_a_time() {
        // A machine that pauses may give a while without a sample.
        for _ in 0..50 {
            let recording = Recording::start(1).expect("a timer").expect("no other profile");
            assert!(Recording::start(1).expect("a timer").is_none());
            std::hint::black_box(burn(Instant::now() + Duration::from_millis(400)));
            let folded = fold(&recording.end());
            let name = "burn (src/profile.rs)";
            for line in folded.lines() {
                let (stack, count) = line.rsplit_once(' ').expect("a number of samples");
                assert!(!stack.is_empty() && count.parse::<u64>().is_ok_and(|count| count > 0), "{line}");
            }
            if let Some(line) = folded.lines().find(|line| line.contains(name)) {
                let outer = line.find("what_runs_is_found").expect("who called it");
                assert!(Some(outer) < line.find(name), "{line}");
                return;
            }
        }
        panic!("never seen at work");
    }

    #[test]
    fn files_are_told_from_their_package_on() {
        for (file, want) in [
            ("/rustc/59807616e1fa/library/core/src/ptr/mod.rs", "library/core/src/ptr/mod.rs"),
            ("/home/x/lib/rustlib/src/rust/library/alloc/src/vec/mod.rs", "library/alloc/src/vec/mod.rs"),
            (
                "/x/registry/src/index.example-1949cf8c6b5b557f/hashbrown-0.17.1/src/map.rs",
                "hashbrown-0.17.1/src/map.rs",
            ),
            ("/rust/deps/hashbrown-0.16.1/src/raw/mod.rs", "hashbrown-0.16.1/src/raw/mod.rs"),
            ("/src/rust-server/src/loaders.rs", "src/loaders.rs"),
            ("/src/rust-server/spec/src/lib.rs", "spec/src/lib.rs"),
            ("src/loaders.rs", "src/loaders.rs"),
            ("./nptl/pthread_create.c", "./nptl/pthread_create.c"),
        ] {
            assert_eq!(in_package(file), want);
        }
    }
}
