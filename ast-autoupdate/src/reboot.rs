//! Whether the machine may restart now (U6): window, people, inhibitors.

use std::time::Duration;

use ast::config::autoupdate::{LocalTime, Reboot, Settings};
use ast::exec::{self, Ended, ExecError, Invocation, Options, Program};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The bus answers at once; this is for a loaded machine (20 s).
const PATIENCE: Duration = Duration::from_secs(20);
const LOGIND: &str = "org.freedesktop.login1";

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The name.
    pub user: String,
    /// logind's class: `user…` are people, `greeter`, `manager…`, `background` are not.
    pub class: String,
}

/// Something that asks for no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibitor {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
}

/// What keeps the machine from restarting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    /// Local time, unless it cannot be told: then no window is waited for.
    pub time: Option<LocalTime>,
    /// Who is logged in.
    pub sessions: Vec<Session>,
    /// Who asks for no restart.
    pub inhibitors: Vec<Inhibitor>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Restart.
    Now,
    /// Not yet, because of this.
    Wait(String),
    /// Not by us.
    Never,
}

/// Whether to restart: pure.
pub fn decide(settings: &Settings, now: &Now, waited: Duration) -> Answer {
    if settings.reboot == Reboot::Never {
        return Answer::Never;
    }
    if now.time.is_some_and(|time| !settings.in_window(time)) {
        return Answer::Wait("the next window".to_owned());
    }
    if waited >= settings.patience {
        return Answer::Now;
    }
    let person = |s: &&Session| s.class.starts_with("user") && !settings.ignore_users.contains(&s.user);
    if let Some(session) = now.sessions.iter().find(person) {
        return Answer::Wait(format!("{} to log out", session.user));
    }
    match now.inhibitors.first() {
        Some(inhibitor) => Answer::Wait(format!("{} ({})", inhibitor.who, inhibitor.why)),
        None => Answer::Now,
    }
}

/// What keeps this machine from restarting. Who cannot be asked holds nothing up; the reasons come along as warnings.
pub fn look() -> (Now, Vec<String>) {
    let mut warnings = Vec::new();
    let now = Now {
        time: keep(time(), &mut warnings),
        sessions: keep(sessions(), &mut warnings).unwrap_or_default(),
        inhibitors: keep(inhibitors(), &mut warnings).unwrap_or_default(),
    };
    (now, warnings)
}

fn keep<T>(result: Result<T, Unanswered>, warnings: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| warnings.push(crate::error::chain(&error))).ok()
}

/// The machine restarts, by systemd and in good order.
pub fn restart() -> Result<(), ExecError> {
    // Who inhibits was asked before, and has had its time.
    let invocation = Invocation::new(Program::Systemctl).args(["reboot", "--check-inhibitors=no"]);
    exec::run(&invocation, Options::capture().timeout(PATIENCE)).and_then(Ended::success).map(drop)
}

/// Why a question about this machine got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The program failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It said something else.
    #[error("{0} gave an answer that cannot be read")]
    Answer(&'static str),
}

fn time() -> Result<LocalTime, Unanswered> {
    let date = Invocation::new(Program::Date).arg("+%u %H %M");
    let ended = exec::run(&date, Options::capture().timeout(PATIENCE)).and_then(Ended::success)?;
    parse_time(&ended.text()).ok_or(Unanswered::Answer("date"))
}

fn parse_time(text: &str) -> Option<LocalTime> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let mut next = || numbers.next()?.ok();
    let (day, hour, minute) = (next()?, next()?, next()?);
    Some(LocalTime { weekday: u8::try_from(day.checked_sub(1)?).ok()?, minute: hour * 60 + minute })
}

fn sessions() -> Result<Vec<Session>, Unanswered> {
    let text = ask(&["call", LOGIND, "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "ListSessions"])?;
    let listed = parse_sessions(&text).ok_or(Unanswered::Answer("logind"))?;
    let class = |path: &str| -> Result<String, Unanswered> {
        let text = ask(&["get-property", LOGIND, path, "org.freedesktop.login1.Session", "Class"])?;
        data(&text).ok_or(Unanswered::Answer("logind"))
    };
    // A session that ends while we look is none.
    Ok(listed.into_iter().filter_map(|(user, path)| class(&path).ok().map(|class| Session { user, class })).collect())
}

fn inhibitors() -> Result<Vec<Inhibitor>, Unanswered> {
    let text = ask(&["call", LOGIND, "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "ListInhibitors"])?;
    parse_inhibitors(&text).ok_or(Unanswered::Answer("logind"))
}

fn ask(words: &[&str]) -> Result<String, Unanswered> {
    let busctl = Invocation::new(Program::Busctl).arg("--json=short").args(words);
    Ok(exec::run(&busctl, Options::capture().timeout(PATIENCE)).and_then(Ended::success)?.text())
}

/// What busctl puts around an answer: `{"type":"…","data":…}`.
fn data<T: DeserializeOwned>(text: &str) -> Option<T> {
    let value: Value = serde_json::from_str(text).ok()?;
    serde_json::from_value(value.get("data")?.clone()).ok()
}

/// User and object path of each session, out of `a(susso)`.
fn parse_sessions(text: &str) -> Option<Vec<(String, String)>> {
    /// Id, number of the user, user, seat, object path.
    type Listed = (String, u32, String, String, String);
    let (list,): (Vec<Listed>,) = data(text)?;
    Some(list.into_iter().map(|(_, _, user, _, path)| (user, path)).collect())
}

/// Who blocks a shutdown, out of `a(ssssuu)`.
fn parse_inhibitors(text: &str) -> Option<Vec<Inhibitor>> {
    /// What, who, why, mode, number of the user, process.
    type Listed = (String, String, String, String, u32, u32);
    let (list,): (Vec<Listed>,) = data(text)?;
    let blocks = |what: &str, mode: &str| mode.starts_with("block") && what.split(':').any(|w| w == "shutdown");
    Some(list.into_iter().filter(|(what, _, _, mode, ..)| blocks(what, mode)).map(|(_, who, why, ..)| Inhibitor { who, why }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from systemd 257.
    const INHIBITED: &str = r#"{"type":"a(ssssuu)","data":[[["shutdown","some one","because of that","block",0,62],["sleep:shutdown","UPower","delays","delay",0,7],["idle","video","plays","block",0,9]]]}"#;
    const SESSIONS: &str = r#"{"type":"a(susso)","data":[[["2",1000,"kiosk","seat0","/org/freedesktop/login1/session/_32"]]]}"#;

    #[test]
    fn what_logind_says_is_understood() {
        assert_eq!(parse_inhibitors(INHIBITED).expect("list"), [Inhibitor { who: "some one".into(), why: "because of that".into() }]);
        assert_eq!(parse_sessions(SESSIONS).expect("list"), [("kiosk".into(), "/org/freedesktop/login1/session/_32".into())]);
        assert_eq!(parse_sessions(r#"{"type":"a(susso)","data":[[]]}"#).expect("list"), []);
        assert!(parse_sessions("").is_none() && parse_inhibitors(r#"{"data":[[["x"]]]}"#).is_none());
        assert_eq!(parse_time("7 02 30\n"), Some(LocalTime { weekday: 6, minute: 150 }));
        assert!(parse_time("0 02 30").is_none() && parse_time("x").is_none());
    }

    #[test]
    fn u6_no_surprise_while_somebody_is_there_up_to_a_limit() {
        let settings = |reboot| Settings { reboot, ignore_users: vec!["kiosk".into()], ..Settings::default() };
        let user = |user: &str, class: &str| Session { user: user.into(), class: class.into() };
        let at = |hour: u16| Some(LocalTime { weekday: 0, minute: hour * 60 });
        let day = Duration::from_secs(24 * 3600);
        let waits = |answer: Answer| matches!(answer, Answer::Wait(_));

        let quiet =
            Now { time: at(12), sessions: vec![user("kiosk", "user"), user("gdm", "greeter"), user("root", "manager")], ..Now::default() };
        assert_eq!(decide(&settings(Reboot::Immediately), &quiet, Duration::ZERO), Answer::Now);
        assert_eq!(decide(&settings(Reboot::Never), &quiet, day), Answer::Never);
        assert!(waits(decide(&settings(Reboot::Window), &quiet, day)), "outside the window, whatever the limit");
        assert_eq!(decide(&settings(Reboot::Window), &Now { time: at(3), ..quiet.clone() }, Duration::ZERO), Answer::Now);
        assert_eq!(
            decide(&settings(Reboot::Window), &Now { time: None, ..quiet.clone() }, Duration::ZERO),
            Answer::Now,
            "no clock stalls it"
        );

        let busy = Now { sessions: vec![user("ann", "user")], ..quiet.clone() };
        assert_eq!(decide(&settings(Reboot::Immediately), &busy, day / 2), Answer::Wait("ann to log out".into()));
        assert_eq!(decide(&settings(Reboot::Immediately), &busy, day), Answer::Now, "up to a limit");
        let held = Now { inhibitors: parse_inhibitors(INHIBITED).expect("list"), ..quiet };
        assert_eq!(decide(&settings(Reboot::Immediately), &held, Duration::ZERO), Answer::Wait("some one (because of that)".into()));
    }
}
