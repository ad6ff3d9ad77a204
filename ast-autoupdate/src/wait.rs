//! The wait for a good moment to restart.

use std::path::Path;
use std::time::{Duration, Instant};

use ast::config::autoupdate;
use ast::store::Store;
use ast::updates::{Event, State, Updates};

use crate::error::Error;
use crate::reboot::{self, Answer};
use crate::voice::{Message, Voice};

/// Time between two looks (30 s): a window of minutes is not missed, and nothing is kept busy.
const ROUND: Duration = Duration::from_secs(30);

/// Waits until nothing speaks against a restart, or until it is not ours to make any more.
///
/// If interrupted: nothing is lost, the trial starts with whatever start comes next (U4).
pub fn for_reboot(sysroot: &Path, updates: &Updates, voice: &Voice) -> Result<Event, Error> {
    let State::AwaitingReboot { d, arm, since, .. } = updates.state else { return Err(Error::Lost) };
    if sysroot != Path::new("/") {
        return Ok(Event::RebootDenied("armed; this is not the machine that runs here".to_owned()));
    }
    let began = Instant::now();
    let before = Duration::from_secs(updates.now().since(since));
    let mut told = Vec::new();
    loop {
        let store = Store::open(sysroot)?;
        let block = store.block()?;
        if block.arm != arm || block.trial.is_none_or(|t| t.deployment != d) {
            return Ok(Event::Superseded);
        }
        // Read again each time: somebody may have ordered a pause, or may want it to restart now.
        let there = ast::updates::load(store.layout())?;
        if there.paused() && (!updates.forced() || there.pause != updates.pause) {
            return Ok(Event::RebootDenied("armed; updates are paused, so only a restart by somebody else tries it".to_owned()));
        }
        let (settings, _) = autoupdate::load(sysroot);
        let (now, warnings) = reboot::look();
        for warning in warnings.into_iter().filter(|w| !told.contains(w)).collect::<Vec<_>>() {
            voice.say(Message::Warning, &warning);
            told.push(warning);
        }
        match reboot::decide(&settings, &now, before + began.elapsed()) {
            Answer::Now => return Ok(Event::RebootAllowed),
            Answer::Never => return Ok(Event::RebootDenied("armed; the next restart by anybody tries it".to_owned())),
            Answer::Wait(what) => {
                let text = format!("deployment {d} is ready; the restart waits for {what}");
                voice.status(&text);
                if !told.contains(&text) {
                    voice.say(Message::Step, &text);
                    told.push(text);
                }
            }
        }
        std::thread::sleep(ROUND);
    }
}
