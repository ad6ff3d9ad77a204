//! `/etc/ast/autoupdate.toml` and `/etc/ast/autoupdate.d/*.toml`: fragments of what people wrote → one merged input → checked settings.
//!
//! Nobody is there to read an error: what cannot be understood is a warning, and the default holds in its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::space::Space;
use crate::sys::file;

/// When the machine may restart into an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reboot {
    /// As soon as nobody is logged in and nothing holds it up.
    Immediately,
    /// The same, in one of the windows only.
    Window,
    /// When somebody restarts it.
    Never,
}

/// A time of the day, on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Monday first.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u16,
    /// The same; at or before `from` it is on the next day.
    to: u16,
}

/// Local time, as far as windows need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 is Monday.
    pub weekday: u8,
    /// Minutes after midnight.
    pub minute: u16,
}

/// Which old updates stay, besides what runs, the default, its fallback and whatever a person made, changed or pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub updates: u32,
    /// Those that are not older than that; zero keeps none for its age.
    pub within: Duration,
    /// While less of the disk is free, neither of the two above keeps anything; `None` when they always hold.
    pub min_free: Option<Space>,
}

impl Keep {
    /// The newest so many, whatever their age and the disk.
    pub const fn newest(updates: u32) -> Self {
        Self { updates, within: Duration::ZERO, min_free: None }
    }
}

/// What holds for updates on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether updates are looked for at all.
    pub enabled: bool,
    /// When to restart.
    pub reboot: Reboot,
    /// For [`Reboot::Window`].
    pub windows: Vec<Window>,
    /// People whose sessions hold nothing up: the kiosk's own.
    pub ignore_users: Vec<String>,
    /// How long sessions and inhibitors may hold a restart up.
    pub patience: Duration,
    /// Which old updates stay.
    pub keep: Keep,
    /// What one health check may take.
    pub check: Duration,
    /// What all of them may take together.
    pub deadline: Duration,
    /// How long a trial has to hold after the checks, before units are counted.
    pub settle: Duration,
    /// Units that never count.
    pub ignore_units: Vec<String>,
}

/// Seconds of a day.
const DAY: u64 = 24 * 3600;
/// A day: long enough for every shift to end, short enough that an update is not forgotten.
const PATIENCE: Duration = Duration::from_secs(DAY);
/// Weeks of updates to go back to, where each costs what it changed and little more.
const KEEP_UPDATES: u32 = 3;
/// A check that needs longer than a minute on a kiosk is hung.
const CHECK: Duration = Duration::from_secs(60);
/// Well below the deadline of the trial itself (15 minutes), so that the verdict with its evidence comes first.
const DEADLINE: Duration = Duration::from_secs(300);
/// Most of that. The gate's unit ends after 9 minutes, of which it may wait 20 s for the memory, 60 s for the store and 30 s for each of two
/// answers of systemd; one that is ended by its unit fails every trial, and the machine would never update again.
const DEADLINE_MOST: u32 = 400;
/// A service that crashes does so in the first seconds.
const SETTLE: Duration = Duration::from_secs(5);

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            reboot: Reboot::Immediately,
            windows: vec![Window { days: [true; 7], from: 2 * 60, to: 5 * 60 }],
            ignore_users: Vec::new(),
            patience: PATIENCE,
            keep: Keep::newest(KEEP_UPDATES),
            check: CHECK,
            deadline: DEADLINE,
            settle: SETTLE,
            ignore_units: Vec::new(),
        }
    }
}

/// What one file says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fragment {
    enabled: Option<bool>,
    reboot: Option<Reboot>,
    windows: Option<Vec<String>>,
    ignore_users: Option<Vec<String>>,
    patience_hours: Option<u32>,
    keep_updates: Option<u32>,
    keep_days: Option<u32>,
    min_free: Option<String>,
    health: HealthFragment,
    #[serde(flatten)]
    unknown: toml::Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HealthFragment {
    check_seconds: Option<u32>,
    deadline_seconds: Option<u32>,
    settle_seconds: Option<u32>,
    ignore_units: Option<Vec<String>>,
    #[serde(flatten)]
    unknown: toml::Table,
}

/// The settings of the system at `root`, and what in its files could not be understood.
pub fn load(root: &Path) -> (Settings, Vec<String>) {
    let mut warnings = Vec::new();
    let dir = root.join("etc/ast/autoupdate.d");
    let more = file::names(&dir).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        Vec::new()
    });
    let more = more.into_iter().filter(|name| name.to_string_lossy().ends_with(".toml")).map(|name| dir.join(name));
    let paths: Vec<PathBuf> = std::iter::once(root.join("etc/ast/autoupdate.toml")).chain(more).collect();
    let mut settings = Settings::default();
    for path in paths {
        match file::read_if_exists(&path) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                for warning in settings.take(&String::from_utf8_lossy(&bytes)) {
                    warnings.push(format!("{}: {warning}", path.display()));
                }
            }
            Err(error) => warnings.push(error.to_string()),
        }
    }
    (settings, warnings)
}

impl Settings {
    /// In memory only: what `text` says holds over what held before. What of it could not be understood.
    pub fn take(&mut self, text: &str) -> Vec<String> {
        let fragment: Fragment = match toml::from_str(text) {
            Ok(fragment) => fragment,
            Err(error) => return vec![format!("nothing in this file holds: {}", error.to_string().trim_end())],
        };
        let unknown = fragment.unknown.keys().cloned().chain(fragment.health.unknown.keys().map(|k| format!("health.{k}")));
        let mut warnings: Vec<String> = unknown.map(|key| format!("{key} means nothing to this version")).collect();
        let seconds = |n: u32| Duration::from_secs(u64::from(n.max(1)));
        set(&mut self.enabled, fragment.enabled);
        set(&mut self.reboot, fragment.reboot);
        set(&mut self.ignore_users, fragment.ignore_users);
        set(&mut self.patience, fragment.patience_hours.map(|h| Duration::from_secs(u64::from(h) * 3600)));
        set(&mut self.keep.updates, fragment.keep_updates);
        set(&mut self.keep.within, fragment.keep_days.map(|days| Duration::from_secs(u64::from(days) * DAY)));
        if let Some(text) = fragment.min_free {
            match text.parse::<Space>() {
                // A later file switches it off with "0".
                Ok(space) => self.keep.min_free = Some(space).filter(|space| *space != Space::Bytes(0)),
                Err(error) => warnings.push(format!("min_free: {error}")),
            }
        }
        set(&mut self.check, fragment.health.check_seconds.map(seconds));
        if fragment.health.deadline_seconds.is_some_and(|n| n > DEADLINE_MOST) {
            warnings.push(format!("health.deadline_seconds: {DEADLINE_MOST} is taken, since the gate's unit ends soon after that"));
        }
        set(&mut self.deadline, fragment.health.deadline_seconds.map(|n| seconds(n.min(DEADLINE_MOST))));
        set(&mut self.settle, fragment.health.settle_seconds.map(|n| Duration::from_secs(u64::from(n))));
        set(&mut self.ignore_units, fragment.health.ignore_units);
        if let Some(texts) = fragment.windows {
            let (good, bad): (Vec<_>, Vec<_>) = texts.iter().map(|t| Window::parse(t).ok_or(t)).partition(Result::is_ok);
            warnings.extend(bad.into_iter().filter_map(Result::err).map(|t| format!("{t:?} is no window, as \"Mon..Fri 02:00-04:30\" is")));
            // With no window left nothing would ever be updated: then those before hold on.
            let good: Vec<_> = good.into_iter().flatten().collect();
            if !good.is_empty() {
                self.windows = good;
            }
        }
        warnings
    }

    /// Whether a restart fits the time of the day.
    pub fn in_window(&self, now: LocalTime) -> bool {
        match self.reboot {
            Reboot::Immediately => true,
            Reboot::Window => self.windows.iter().any(|w| w.contains(now)),
            Reboot::Never => false,
        }
    }
}

fn set<T>(to: &mut T, from: Option<T>) {
    if let Some(value) = from {
        *to = value;
    }
}

impl Window {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// The window in `text`: `02:00-04:30`, `Sat,Sun 01:00-06:00`, `Mon..Fri 23:00-01:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (days, times) = match text.trim().rsplit_once(' ') {
            Some((days, times)) => (Self::parse_days(days.trim())?, times),
            None => ([true; 7], text.trim()),
        };
        let (from, to) = times.split_once('-')?;
        Some(Self { days, from: minute(from)?, to: minute(to)? })
    }

    fn parse_days(text: &str) -> Option<[bool; 7]> {
        let day = |name: &str| Self::DAYS.iter().position(|d| name.trim().eq_ignore_ascii_case(d));
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = match part.split_once("..") {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(part)?, day(part)?),
            };
            // `Sat..Mon` goes round the end of the week.
            let span = (last + 7 - first) % 7;
            (0..=span).for_each(|step| days[(first + step) % 7] = true);
        }
        Some(days)
    }

    /// Whether `now` is in it.
    pub fn contains(&self, now: LocalTime) -> bool {
        let today = self.days.get(usize::from(now.weekday)).copied().unwrap_or(false);
        let yesterday = self.days.get(usize::from((now.weekday + 6) % 7)).copied().unwrap_or(false);
        if self.from < self.to {
            return today && (self.from..self.to).contains(&now.minute);
        }
        (today && now.minute >= self.from) || (yesterday && now.minute < self.to)
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour <= 24 && minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(weekday: u8, hour: u16, minute: u16) -> LocalTime {
        LocalTime { weekday, minute: hour * 60 + minute }
    }

    #[test]
    fn windows_are_as_written() {
        let table: [(&str, LocalTime, bool); 9] = [
            ("02:00-04:30", at(3, 4, 29), true),
            ("02:00-04:30", at(3, 4, 30), false),
            ("Sat,Sun 01:00-06:00", at(5, 1, 0), true),
            ("Sat,Sun 01:00-06:00", at(4, 1, 0), false),
            ("Mon..Fri 23:00-01:00", at(4, 23, 30), true),
            ("Mon..Fri 23:00-01:00", at(5, 0, 30), true),
            ("Mon..Fri 23:00-01:00", at(0, 0, 30), false),
            ("sat..mon 00:00-24:00", at(6, 12, 0), true),
            ("sat..mon 00:00-24:00", at(2, 12, 0), false),
        ];
        for (text, now, inside) in table {
            assert_eq!(Window::parse(text).map(|w| w.contains(now)), Some(inside), "{text} at {now:?}");
        }
        for bad in ["", "-", "2-4", "25:00-26:00", "Foo 02:00-03:00", "02:61-03:00", "Mon.. 02:00-03:00", "99999999:00-1:00"] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_a_warning_and_the_rest_holds() {
        let mut settings = Settings::default();
        let warnings =
            settings.take("reboot = \"window\"\nflux = 1\nwindows = [\"rubbish\", \"03:00-04:00\"]\n[health]\nmood = 1\ncheck_seconds = 7");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert_eq!((settings.reboot, settings.check.as_secs(), settings.windows.len()), (Reboot::Window, 7, 1));
        assert!(settings.in_window(at(0, 3, 30)) && !settings.in_window(at(0, 5, 0)));
        let before = settings.clone();
        for broken in ["reboot = \"sometimes\"", "reboot = ", "windows = 3", "windows = [\"never\"]", "\u{0}"] {
            assert_eq!(settings.take(broken).len(), 1, "{broken}");
            assert_eq!(settings, before, "{broken}");
        }
    }

    #[test]
    fn u3_no_setting_lets_the_gate_outlive_its_unit() {
        let unit = include_str!("../../../packaging/systemd/ast-health.service");
        assert!(unit.contains("\nTimeoutStartSec=9min\n"), "the number below, and DEADLINE_MOST, follow from it");
        let mut settings = Settings::default();
        let warnings = settings.take("[health]\ndeadline_seconds = 3600");
        assert!(warnings.len() == 1 && warnings[0].contains("deadline_seconds"), "{warnings:?}");
        // What the gate waits for besides its checks: two answers of systemd, the memory, the store.
        assert!(settings.deadline + Duration::from_secs(2 * 30 + 20 + 60) <= Duration::from_secs(9 * 60), "{settings:?}");
        assert_eq!(settings.take("[health]\ndeadline_seconds = 400"), Vec::<String>::new());
    }

    #[test]
    fn u8_what_is_kept_has_a_count_an_age_and_a_share_of_the_disk() {
        let mut settings = Settings::default();
        assert_eq!(settings.keep, Keep::newest(3));
        assert_eq!(settings.take("keep_updates = 1\nkeep_days = 30\nmin_free = \"10%\""), Vec::<String>::new());
        let wanted = Keep { updates: 1, within: Duration::from_secs(30 * DAY), min_free: Some(Space::Percent(10)) };
        assert_eq!(settings.keep, wanted);
        let warnings = settings.take("min_free = \"plenty\"");
        assert!(warnings.len() == 1 && warnings[0].contains("min_free: \"plenty\" is no amount"), "{warnings:?}");
        assert_eq!(settings.take("keep_days = -1").len(), 1);
        assert_eq!(settings.keep, wanted, "what cannot be understood changes nothing");
        assert_eq!(settings.take("keep_days = 0\nmin_free = \"0\""), Vec::<String>::new());
        assert_eq!(settings.keep, Keep::newest(1));
    }

    #[test]
    fn fragments_come_after_the_file_in_their_order() {
        let root = tempfile::tempdir().expect("dir");
        let dir = root.path().join("etc/ast/autoupdate.d");
        file::make_dirs(&dir).expect("dirs");
        file::replace(&root.path().join("etc/ast/autoupdate.toml"), b"reboot = \"never\"\nenabled = false").expect("file");
        file::replace(&dir.join("20-site.toml"), b"reboot = \"immediately\"").expect("file");
        file::replace(&dir.join("10-first.toml"), b"reboot = \"window\"").expect("file");
        file::replace(&dir.join("30-not.toml.pacnew"), b"reboot = \"never\"").expect("file");
        let (settings, warnings) = load(root.path());
        assert_eq!((settings.reboot, settings.enabled, warnings), (Reboot::Immediately, false, vec![]));
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        let mut settings = Settings::default();
        let text = include_str!("../../../packaging/etc/autoupdate.toml");
        assert_eq!(settings.take(text), Vec::<String>::new());
        assert_eq!(settings, Settings::default());
        // Each line that is commented out is one that could be taken as it is.
        let all: String =
            text.lines().map(|l| l.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(l)).collect::<Vec<_>>().join("\n");
        assert_eq!(Settings::default().take(&all), Vec::<String>::new());
    }
}
