//! The demo: a kiosk that updates itself, is given a broken update, comes back, tells why, and is taken back by hand.
//!
//! Everything shown is what one emulated machine said; each act ends with checks, so that a demo which goes otherwise fails.

use crate::image::Column;
use crate::lab::repo::{self, State};
use crate::scenario::{BOOT, Scenario, ScenarioError, judged, restarted, start_update, status};
use crate::vm::{Key, Vm, VmError};
use serde_json::Value;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// An update that runs well.
const GOOD: State = State::V2;
/// One on top of it, whose initramfs crashes the kernel; it changes other packages than the good one, so it is not the same update again.
const BAD: State = State::V2PanicPlus;
/// From power on, or a reset, to the boot loader's menu on a busy machine.
const MENU: Duration = Duration::from_secs(60);
/// From one line of a start that fails to the next: loading and checking a kernel takes most of it.
const LINE: Duration = Duration::from_secs(120);
/// For a command, or an update that finds nothing it may try: a pacman run at most.
const COMMAND: Duration = Duration::from_secs(240);
/// Starts that a trial may have; one that is started more often is no longer counted.
const MOST_TRIES: u32 = 5;

/// What the boot loader says when it hands over: deployment and reason.
const HANDED_OVER: &str = r"ast: ast\.d=(\d+) \((\w+)\)\n";
/// What a dying kernel says.
const PANIC: &str = r"Kernel panic - [^\n]*\n";
/// What it says when it helps itself.
const RESTART: &str = r"Rebooting in [^\n]*\n";

/// One cycle of the service, by hand; what it said.
const CYCLE: &str = "systemctl start ast-autoupdate.service; \
    while systemctl is-active ast-autoupdate.service | grep -qx 'active\\|activating'; do sleep 0.5; done; \
    journalctl -b --no-pager -o cat -u ast-autoupdate | grep '^ast\\|not trying' | tail -n 3";

/// Why a demo ended early.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DemoError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Lab(#[from] crate::lab::Error),
    #[error("act {act} did not go as told: {told}\n{found}")]
    NotAsTold { act: usize, told: &'static str, found: String },
}

/// The whole play was shown and went as told; `attach` leaves its audience at the machine's console.
pub fn run(column: Column, attach: bool) -> Result<(), DemoError> {
    let mut play = Play::new();
    play.act("The lab makes packages, three states of a repository and a disk image");
    play.say(&format!("column {column}; what was made before comes out of the cache"));
    repo::build_all(&crate::vm::cache_dir(), &[State::V1, GOOD, BAD])?;
    let kiosk = Scenario::new("demo", column)?;

    play.act("A kiosk is switched on");
    let mut vm = kiosk.start()?;
    play.menu(&mut vm)?;
    play.start(&mut vm)?;
    play.ask(&mut vm, "ast status")?;
    play.ask(&mut vm, "pacman -Q hello linux")?;
    let before = play.told(&mut vm, "it runs its only deployment", |now| runs(now, 1) && now["trial"].is_null())?;

    play.act("An update that succeeds: nobody types anything but the start of the service");
    kiosk.offer(GOOD)?;
    play.update(&mut vm)?;
    play.start(&mut vm)?;
    play.ask(&mut vm, "ast status")?;
    let hello = play.ask(&mut vm, "pacman -Q hello linux")?;
    play.must("the new hello is there", hello.contains("hello 2-"), &hello)?;
    play.told(&mut vm, "the update was promoted", |now| runs(now, 2) && now["trial"].is_null() && now["fallback"]["deployment"] == 1)?;

    play.act("An update whose kernel panics");
    kiosk.offer(BAD)?;
    play.update(&mut vm)?;
    play.panics(&mut vm)?;

    play.act("The machine has come back by itself, and tells why");
    vm.wait_shell(BOOT)?;
    judged(&mut vm)?;
    play.ask(&mut vm, "ast status || [ $? = 5 ]")?;
    play.told(&mut vm, "the good one runs, the bad one is blocked", |now| {
        let blocked = now["updates"]["blocked"].as_array().is_some_and(|sets| !sets.is_empty());
        runs(now, 2) && now["trial"].is_null() && blocked && now["updates"]["degraded"].is_string()
    })?;
    play.say("the same update is still offered; the service is started once more:");
    let resets = vm.resets();
    let cycle = play.ask(&mut vm, CYCLE)?;
    play.must("it is not tried again", cycle.contains("not trying") && vm.resets() == resets, &cycle)?;

    play.act("Somebody dislikes the good update too: a rollback by hand");
    play.ask(&mut vm, "ast tree")?;
    play.ask(&mut vm, "ast rollback --previous")?;
    vm.sh("sync")?;
    vm.reboot(MENU)?;
    play.say("restarted; the menu has all snapshots:");
    play.menu(&mut vm)?;
    play.start(&mut vm)?;
    play.ask(&mut vm, "ast status || [ $? = 5 ]")?;
    let hello = play.ask(&mut vm, "pacman -Q hello linux")?;
    play.must("the old hello is there", hello.contains("hello 1-"), &hello)?;
    play.told(&mut vm, "the first snapshot runs again", |now| {
        let set = &before["booted"]["set"];
        &now["booted"]["set"] == set && now["default"] == now["booted"] && now["trial"].is_null()
    })?;
    play.end();

    if attach {
        eprintln!("the machine's console; Ctrl-] ends the machine, its disk goes with it");
        vm.send("\r")?;
        vm.attach()?;
    }
    Ok(())
}

/// Deployment `d` runs, and is what the next start takes.
fn runs(now: &Value, d: u64) -> bool {
    now["booted"]["deployment"] == d && now["default"]["deployment"] == d
}

/// A line of a start that may fail.
#[derive(Clone, Copy, PartialEq)]
enum Said {
    HandedOver,
    Panic,
    Restart,
}

/// The terminal on which it is shown, and the clock.
struct Play {
    started: Instant,
    act_started: Instant,
    /// Titles and lengths; the last one goes on.
    acts: Vec<(&'static str, Duration)>,
    bold: bool,
}

impl Play {
    fn new() -> Self {
        let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { started: Instant::now(), act_started: Instant::now(), acts: Vec::new(), bold }
    }

    /// The next act begins; the first one has number 0, since nothing runs in it.
    fn act(&mut self, title: &'static str) {
        self.close();
        self.acts.push((title, Duration::ZERO));
        self.heading(&format!("Act {}: {title}", self.acts.len() - 1));
    }

    fn close(&mut self) {
        if let Some((_, length)) = self.acts.last_mut() {
            *length = self.act_started.elapsed();
        }
        self.act_started = Instant::now();
    }

    /// Every act went as told: their lengths.
    fn end(&mut self) {
        self.close();
        self.heading("All acts went as told");
        for (number, (title, length)) in self.acts.iter().enumerate() {
            println!("    {:>4.0} s  act {number}: {title}", length.as_secs_f64());
        }
        println!("    {:>4.0} s  in all", self.started.elapsed().as_secs_f64());
    }

    fn heading(&self, text: &str) {
        let (on, off) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{on}== {text}{off}");
    }

    /// A caption, with the seconds since the beginning.
    fn say(&self, text: &str) {
        println!("[{:>4.0} s] {text}", self.started.elapsed().as_secs_f64());
    }

    /// What the machine said.
    fn show(&self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    /// A command in the guest with its answer. Errors: it ended with another status than 0.
    fn ask(&self, vm: &mut Vm, command: &str) -> Result<String, DemoError> {
        // What a script needs beside the verb is of no interest here.
        self.say(&format!("# {}", command.split("; ").next().unwrap_or(command).trim_end_matches(" || [ $? = 5 ]")));
        let out = vm.run(command, COMMAND)?;
        self.show(&out.stdout);
        self.must("a command succeeds", out.status == 0, &out.stderr)?;
        Ok(out.stdout)
    }

    /// Errors: `ok` is false.
    fn must(&self, told: &'static str, ok: bool, found: &str) -> Result<(), DemoError> {
        let act = self.acts.len().saturating_sub(1);
        if ok { Ok(()) } else { Err(DemoError::NotAsTold { act, told, found: found.to_owned() }) }
    }

    /// `ast status`, if it is as `right` wants it.
    fn told(&self, vm: &mut Vm, told: &'static str, right: impl Fn(&Value) -> bool) -> Result<Value, DemoError> {
        let now = status(vm)?;
        self.must(told, right(&now), &format!("{now:#}"))?;
        self.say(&format!("checked: {told}"));
        Ok(now)
    }

    /// The boot loader's menu and the one of its snapshots are shown, then the first entry is started.
    fn menu(&self, vm: &mut Vm) -> Result<(), DemoError> {
        vm.menu_select("^Snapshots$", MENU)?;
        self.say("a key stops the countdown of GRUB's menu; on the serial terminal:");
        self.screen(vm);
        vm.menu_choose("^Snapshots$", MENU)?;
        vm.menu_select(".", MENU)?;
        self.say("its snapshots:");
        self.screen(vm);
        vm.console.clear_screen();
        vm.send_keys(&[Key::Escape])?;
        let title = vm.menu_choose(".", MENU)?;
        self.say(&format!("back, and on with: {title}"));
        Ok(())
    }

    /// The terminal's rows, without the empty ones of the menu's box.
    fn screen(&self, vm: &Vm) {
        let empty = |row: &String| row.chars().all(|c| c == '|' || c.is_whitespace());
        self.show(&vm.screen().into_iter().filter(|row| !empty(row)).collect::<Vec<_>>().join("\n"));
    }

    /// A start that goes well, up to the verdict of the health checks.
    fn start(&self, vm: &mut Vm) -> Result<(), DemoError> {
        let seen = vm.expect(HANDED_OVER, LINE)?;
        self.show(&seen.text);
        vm.wait_shell(BOOT)?;
        self.say("the shell is there");
        judged(vm)?;
        self.say("the health checks have said their word");
        Ok(())
    }

    /// The service updates the machine and restarts it.
    fn update(&self, vm: &mut Vm) -> Result<(), DemoError> {
        self.say("the mirror has new packages; # systemctl start ast-autoupdate");
        start_update(vm)?;
        restarted(vm)?;
        self.say("cloned, upgraded, verified, deployed as a trial; the machine restarts");
        Ok(())
    }

    /// Every try of the trial panics, and the boot loader goes back to the good one.
    fn panics(&self, vm: &mut Vm) -> Result<(), DemoError> {
        let (mut tries, mut panics) = (0, 0);
        while tries <= MOST_TRIES {
            let (seen, said) =
                vm.expect_any(&[(HANDED_OVER, Said::HandedOver), (PANIC, Said::Panic), (RESTART, Said::Restart)], LINE)?;
            let group = |n: usize| seen.groups.get(n).cloned().flatten().unwrap_or_default();
            let on_trial = group(2) == "trial";
            if said == Said::HandedOver {
                self.say(if on_trial { "GRUB starts the trial, one try less:" } else { "GRUB starts the good one again:" });
            }
            self.show(&seen.text);
            match said {
                Said::HandedOver if on_trial => tries += 1,
                Said::HandedOver => return self.must("each try panicked", panics > 0 && panics == tries, &vm.console().tail()),
                Said::Panic => panics += 1,
                Said::Restart => {}
            }
        }
        self.must("the trial ends", false, &vm.console().tail())
    }
}
