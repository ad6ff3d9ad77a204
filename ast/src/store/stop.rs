//! Points at which the crash tests kill the real program. In a release build there are none.

/// Names the point that has been reached. With `AST_STOP_AT=N` in the environment of a debug build the N-th point kills this process,
/// counted from 0; with `AST_STOP_SHOW` every point is written to standard error.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let number = REACHED.fetch_add(1, Ordering::Relaxed);
    let here = std::env::var("AST_STOP_AT").is_ok_and(|at| at.parse() == Ok(number));
    if here || std::env::var_os("AST_STOP_SHOW").is_some() {
        eprintln!("stop point {number}: {name}");
    }
    if here {
        // The very signal that nothing can catch; if it could not be sent the test would see a process that went on.
        let _result = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}
