//! A floor under the wall clock (C3): a device without a battery starts in 1970 or 2001, where no certificate and no signature is valid yet.
//!
//! The wall clock is never asked for what an update does (U5); but TLS and pacman ask it. So it is never earlier than this program's build,
//! nor than the last time that this machine knew.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ast::layout::{Layout, MACHINE, UPDATES};
use ast::sys::SysError;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

/// A known time this much later than the build is a mistake of a clock that was wrong once, and would be one for ever: 20 years, twice what a
/// kiosk is to live.
const BELIEVED: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The clock is at least the floor. The time it was set to, if it was.
///
/// If interrupted: the clock is as it was, or set.
pub fn raise(layout: &Layout) -> Result<Option<SystemTime>, SysError> {
    let floor = floor(modified(Path::new("/proc/self/exe")), known(layout));
    let Some(floor) = floor.filter(|floor| *floor > SystemTime::now()) else { return Ok(None) };
    let since = floor.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since)) {
        Ok(()) => Ok(Some(floor)),
        Err(error) => Err(SysError { action: "set", path: "the clock".into(), source: error.into() }),
    }
}

/// The last time that this machine knew: when it last remembered something of its updates, or was installed.
fn known(layout: &Layout) -> Option<SystemTime> {
    modified(&layout.document(UPDATES)).or_else(|| modified(&layout.document(MACHINE)))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// What the clock must not be earlier than.
fn floor(built: Option<SystemTime>, known: Option<SystemTime>) -> Option<SystemTime> {
    let believed = known.filter(|known| built.is_none_or(|built| *known <= built + BELIEVED));
    built.max(believed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn year(year: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 365 * 24 * 3600))
    }

    #[test]
    fn c3_the_clock_is_at_least_the_build_and_the_last_known_time() {
        assert_eq!(floor(year(2026), year(2030)), year(2030));
        // A new program on a machine that was off for long.
        assert_eq!(floor(year(2031), year(2030)), year(2031));
        assert_eq!((floor(year(2026), None), floor(None, year(2030)), floor(None, None)), (year(2026), year(2030), None));
        // A clock that was wrong once does not stay wrong for ever.
        assert_eq!(floor(year(2026), year(2099)), year(2026));
    }
}
