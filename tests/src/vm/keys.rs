//! Keys, and choosing entries of the boot loader's menu by what the screen shows.
use super::{
    Vm, VmError,
    console::{NoResult, State},
    patience,
    watch::line_regex,
};
use std::time::Duration;

/// How long a menu may take to repaint after a key; GRUB takes 10 ms on an idle machine.
const REPAINT: Duration = Duration::from_millis(700);
/// After the first key the whole menu is still being painted.
const SETTLE: Duration = Duration::from_millis(300);
/// Silence after which a row is painted whole.
const STILL: Duration = Duration::from_millis(40);
/// Times [`STILL`].
const MOST_PAINTING: usize = 50;
/// How often a key is pressed. EFI firmware polls the serial line beside GRUB and steals a byte now and then.
const PRESSES: usize = 3;
/// GRUB's menus know Emacs' keys too: one byte each, so that a stolen one cannot leave a lone Escape behind, which would close a submenu.
const TOP: Key = Key::Ctrl('a');
const DOWN: Key = Key::Ctrl('n');
/// A menu of a thousand snapshots is a mistake of the test.
const MOST_ENTRIES: usize = 1000;

/// A key of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Key {
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    Enter,
    Escape,
    Backspace,
    /// With Control: `Ctrl('x')` boots an edited entry.
    Ctrl(char),
    /// Any other.
    Char(char),
}

impl Key {
    /// What a terminal sends for it.
    pub fn serial(self) -> String {
        match self {
            Key::Up => "\x1b[A".into(),
            Key::Down => "\x1b[B".into(),
            Key::Right => "\x1b[C".into(),
            Key::Left => "\x1b[D".into(),
            Key::Home => "\x1b[H".into(),
            Key::End => "\x1b[F".into(),
            Key::PageUp => "\x1b[5~".into(),
            Key::PageDown => "\x1b[6~".into(),
            Key::Enter => "\r".into(),
            Key::Escape => "\x1b".into(),
            Key::Backspace => "\x7f".into(),
            Key::Ctrl(c) => char::from((c.to_ascii_lowercase() as u8) & 0x1f).to_string(),
            Key::Char(c) => c.to_string(),
        }
    }

    /// The emulator's name for it on a real keyboard; letters and digits only among characters.
    fn qcode(self) -> String {
        match self {
            Key::Up => "up".into(),
            Key::Down => "down".into(),
            Key::Right => "right".into(),
            Key::Left => "left".into(),
            Key::Home => "home".into(),
            Key::End => "end".into(),
            Key::PageUp => "pgup".into(),
            Key::PageDown => "pgdn".into(),
            Key::Enter => "ret".into(),
            Key::Escape => "esc".into(),
            Key::Backspace => "backspace".into(),
            Key::Char(' ') => "spc".into(),
            Key::Ctrl(c) | Key::Char(c) => c.to_ascii_lowercase().to_string(),
        }
    }
}

impl Vm {
    /// Presses keys on the serial terminal, one after the other.
    pub fn send_keys(&mut self, keys: &[Key]) -> Result<(), VmError> {
        keys.iter().try_for_each(|key| self.send(&key.serial()))
    }

    /// Presses a key of the machine's own keyboard, through the monitor.
    pub fn press(&mut self, key: Key) -> Result<(), VmError> {
        self.monitor_key(&key.qcode())
    }

    /// What an 80×24 terminal shows now, without trailing spaces.
    pub fn screen(&self) -> Vec<String> {
        let state = self.console.state();
        let (_, width) = state.screen.screen().size();
        state.screen.screen().rows(0, width.get()).map(|row| row.trim_end().to_owned()).collect()
    }

    /// The highlighted entry of the menu on the screen, if a menu is shown.
    pub fn highlighted(&self) -> Option<String> {
        highlighted(self.console.state().screen.screen())
    }

    /// Waits for a menu, moves down from its top to the first entry that matches `pattern` and returns its title, without starting it.
    /// The first key pressed stops the menu's countdown.
    pub fn menu_select(&mut self, pattern: &str, time: Duration) -> Result<String, VmError> {
        let wanted = line_regex(pattern)?;
        let first = self.console.wait(patience(time), |state| highlighted(state.screen.screen()));
        match first {
            Ok(_) => {}
            Err(NoResult::Timeout) => return Err(self.timeout("menu", time)),
            Err(NoResult::Closed) => return Err(VmError::Ended { what: "menu".into(), tail: self.console.tail() }),
        }
        let mut seen: Vec<String> = Vec::new();
        // A key that was only late is pressed twice and skips an entry: go through a second time before giving up.
        for _ in 0..2 {
            let mut current = self.menu_top();
            for _ in 0..MOST_ENTRIES {
                if wanted.is_match(current.as_bytes()) {
                    return Ok(current);
                }
                if !seen.contains(&current) {
                    seen.push(current.clone());
                }
                match self.menu_down(&current)? {
                    Some(next) => current = next,
                    None => break,
                }
            }
        }
        self.failed = true;
        Err(VmError::NoEntry { wanted: pattern.into(), seen })
    }

    /// As [`Vm::menu_select`], and starts the entry (or opens the submenu). Console text before is consumed.
    pub fn menu_choose(&mut self, pattern: &str, time: Duration) -> Result<String, VmError> {
        let title = self.menu_select(pattern, time)?;
        self.skip();
        // The old menu stays on the terminal until the next one is painted: do not take it for that.
        self.console.clear_screen();
        let before = self.cursor;
        for _ in 0..PRESSES {
            self.send_keys(&[Key::Enter])?;
            // An entry that starts clears the screen at once.
            if self.console.wait(patience(REPAINT), |state| (state.text.len() > before).then_some(())).is_ok() {
                break;
            }
        }
        Ok(title)
    }

    /// The first entry is highlighted and the countdown stands.
    fn menu_top(&mut self) -> String {
        let mut current = String::new();
        for press in 0..PRESSES {
            let counting = self.screen().iter().any(|row| row.contains("executed automatically in"));
            if press > 0 && !counting {
                break;
            }
            self.send_keys(&[TOP]).ok();
            std::thread::sleep(patience(SETTLE));
            current = self.settled().unwrap_or(current);
        }
        current
    }

    /// The highlighted entry once nothing is painted any more: before, its title may be there in part.
    fn settled(&self) -> Option<String> {
        // Bounded: a guest that starts meanwhile never falls silent.
        for _ in 0..MOST_PAINTING {
            let length = self.console.position();
            std::thread::sleep(patience(STILL));
            if self.console.position() == length {
                break;
            }
        }
        self.highlighted()
    }

    /// The next entry's title, or nothing at the last one: GRUB's menu does not wrap.
    fn menu_down(&mut self, current: &str) -> Result<Option<String>, VmError> {
        for _ in 0..PRESSES {
            self.send_keys(&[DOWN])?;
            let moved = |state: &State| highlighted(state.screen.screen()).filter(|title| title != current);
            if self.console.wait(patience(REPAINT), moved).is_ok() {
                return Ok(self.settled());
            }
        }
        Ok(None)
    }
}

const BLACK: vt100::Color = vt100::Color::Idx(0);
const WHITE: vt100::Color = vt100::Color::Idx(7);

/// GRUB draws a box and highlights one row inside with a `*` before it: in reverse video on a serial line; in black on white where EFI
/// firmware paints the same menu on the line a second time. (Firmware's own menus do the same, without the star.)
fn highlighted(screen: &vt100::Screen) -> Option<String> {
    let (rows, columns) = screen.size();
    (0..rows.get()).find_map(|row| {
        let inverse: String = (0..columns.get())
            .filter_map(|column| screen.cell(row, column))
            .filter(|cell| cell.inverse() || (cell.fgcolor(), cell.bgcolor()) == (BLACK, WHITE))
            .map(|cell| cell.contents())
            .collect();
        inverse.trim().strip_prefix('*').map(|title| title.trim().to_owned())
    })
}
