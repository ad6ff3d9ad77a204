//! The driver: events in, state to disk, effects out. It decides nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ast::store::Store;
use ast::sys::lock::Wait;
use ast::updates::{Ended, Event, Request, State};

use crate::error::{Error, chain};
use crate::hands::{After, Hands};
use crate::memory::Memory;
use crate::voice::{Message, Voice};

/// How long a cycle waits for another writer of the store.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// At the start of the machine: what trials and killed cycles left is judged, cleared or taken note of; nothing new is begun.
pub fn settle(sysroot: &Path, voice: &Voice) -> Result<(), Error> {
    run(sysroot, Request::Start, voice).map(|ended| {
        if ended.attention {
            voice.say(Message::Attention, &ended.text);
        }
    })
}

/// One cycle as the unit's process; status 0 unless the world failed.
pub fn start(sysroot: &Path, request: Request, voice: &Voice) -> ExitCode {
    voice.ready();
    match run(sysroot, request, voice) {
        Ok(ended) => {
            voice.status(&ended.text);
            voice.say(if ended.attention { Message::Attention } else { Message::Ended }, &ended.text);
            if ended.attention { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            let text = chain(&error);
            voice.status(&text);
            voice.say(Message::Attention, &text);
            ExitCode::FAILURE
        }
    }
}

/// One cycle from its beginning to its end. The state is on disk before each effect.
///
/// If interrupted: the next cycle finds out what was done and goes on.
/// Refuses: while another cycle runs.
pub fn run(sysroot: &Path, request: Request, voice: &Voice) -> Result<Ended, Error> {
    let store = Store::open(sysroot)?;
    let layout = store.layout().clone();
    let mut memory = Memory::open(&layout, Wait::No)?;
    let lent = ast::care::lend(&layout).unwrap_or_else(|error| {
        voice.say(Message::Warning, &chain(&error));
        None
    });
    if lent.is_some() {
        voice.say(Message::Attention, "the disk is full: what was set aside for updates is used now");
    }
    let ended = to_its_end(store, &mut memory, sysroot, request, voice);
    // An update that is under way, or on disk by now, may keep it; care sets it aside again when there is space.
    if let (Some(bytes), State::Idle) = (lent, &memory.updates().state)
        && let Err(error) = ast::care::take_back(&layout, bytes)
    {
        voice.say(Message::Warning, &chain(&error));
    }
    ended
}

fn to_its_end(store: Store, memory: &mut Memory, sysroot: &Path, request: Request, voice: &Voice) -> Result<Ended, Error> {
    let locked = store.lock(Wait::Up(LOCK_PATIENCE))?;
    for mended in locked.repaired().mended.iter().filter(|mended| mended.was_damage()) {
        voice.say(Message::Attention, &format!("repair: {mended}"));
    }
    for problem in &locked.repaired().problems {
        voice.say(Message::Attention, &format!("repair: {}", chain(problem)));
    }
    let facts = crate::facts::gather(&locked, memory.updates(), request)?;
    drop(locked);
    for line in facts.undeleted.iter().filter(|line| !memory.updates().undeleted.contains(line)) {
        voice.say(Message::Warning, &format!("not deleted: {line}"));
    }

    let mut hands = Hands::new(sysroot, voice);
    let mut event = Event::Begin(Box::new(facts));
    loop {
        let effects = memory.take(event)?;
        voice.alive();
        let mut next = None;
        for effect in effects {
            match hands.perform(effect, memory.updates()) {
                After::Nothing => {}
                After::Event(event) => next = Some(event),
                After::End(ended) => return Ok(ended),
            }
        }
        match next {
            Some(next) => event = next,
            // The machine gives an end or something that gives an event; a bug is no reason to go round for ever.
            None => return Ok(Ended { text: "the cycle came to nothing".to_owned(), attention: true }),
        }
    }
}
