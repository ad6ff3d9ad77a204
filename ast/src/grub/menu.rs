//! Writer of what the fixed script adds to its own entries: `menu.cfg` (settings, the submenu, other systems) and
//! `snapshots.cfg` (one short line per snapshot, read only when its submenu is opened), each with its sums.
//!
//! Nothing here decides what starts by itself, and none of it is executed unless it matches its sums: a menu that is
//! damaged costs the menu, never the boot (B16).

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{GrubError, groups};
use super::defaults::Defaults;
pub use super::other::OtherSystem;
use crate::boot::block::SIGNATURE;
use crate::id::{DeployId, SetId, SnapshotId};

/// Characters of a line of the menu: a serial terminal has 80 columns, of which border, cursor and scroll marks take eight.
const WIDTH: usize = 72;
/// Characters that a description gets at least, whatever else is to be said.
const LEAST_DESCRIPTION: usize = 24;
/// Characters of a description in a menu line.
pub(super) const LONGEST_DESCRIPTION: usize = 60;
/// Seconds of a countdown that an owner did not set.
pub const DEFAULT_TIMEOUT: u16 = 5;
/// Seconds at most: `GRUB_TIMEOUT=-1` waits for a key for ever, and there may be nobody to press one.
const LONGEST_TIMEOUT: u16 = 300;

/// How the countdown looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutStyle {
    /// The menu is shown.
    #[default]
    Menu,
    /// Nothing is shown; ESC opens the menu.
    Hidden,
    /// A line counts down; ESC opens the menu.
    Countdown,
}

impl TimeoutStyle {
    fn word(self) -> &'static str {
        match self {
            Self::Menu => "menu",
            Self::Hidden => "hidden",
            Self::Countdown => "countdown",
        }
    }
}

/// Who may edit entries and start any but the good one and the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// Name of the user.
    pub user: String,
    /// What `grub-mkpasswd-pbkdf2` printed: `grub.pbkdf2.sha512.…`.
    pub hash: String,
}

/// Settings of the menu, from the promoted deployment's `/etc/default/grub`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuSettings {
    /// Seconds; 0 starts at once and looks at no key.
    pub timeout: u16,
    /// How the countdown looks.
    pub style: TimeoutStyle,
    /// Names of GRUB's input terminals; empty leaves them as they are.
    pub input: Vec<String>,
    /// Names of GRUB's output terminals; empty leaves them as they are.
    pub output: Vec<String>,
    /// The arguments of GRUB's `serial` command.
    pub serial: Vec<String>,
    /// Resolutions for `gfxterm`, as `1024x768,auto`.
    pub gfxmode: Option<String>,
    /// Path of a theme below `/boot/grub`.
    pub theme: Option<String>,
    /// Colours of the lines of the menu, as `light-gray/black`.
    pub colour: Option<String>,
    /// Colours of the chosen line.
    pub highlight: Option<String>,
    /// Locks editing and choosing.
    pub password: Option<Password>,
    /// Whether other systems are looked for and listed.
    pub others: bool,
}

impl Default for MenuSettings {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            style: TimeoutStyle::default(),
            input: Vec::new(),
            output: Vec::new(),
            serial: Vec::new(),
            gfxmode: None,
            theme: None,
            colour: None,
            highlight: None,
            password: None,
            others: false,
        }
    }
}

impl MenuSettings {
    /// The settings in `/etc/default/grub`: `GRUB_TIMEOUT`, `GRUB_TIMEOUT_STYLE`, `GRUB_TERMINAL`, `GRUB_TERMINAL_INPUT`,
    /// `GRUB_TERMINAL_OUTPUT`, `GRUB_SERIAL_COMMAND`, `GRUB_GFXMODE`, `GRUB_THEME`, `GRUB_COLOR_NORMAL`, `GRUB_COLOR_HIGHLIGHT`, `GRUB_DISABLE_OS_PROBER`, and ours: `AST_GRUB_USER`, `AST_GRUB_PASSWORD`.
    ///
    /// Refuses: values that cannot be known or cannot stand in a script, with their line.
    pub fn from_defaults(defaults: &Defaults) -> Result<Self, GrubError> {
        let mut settings = Self::default();
        if let Some(text) = defaults.get("GRUB_TIMEOUT")? {
            settings.timeout = match text.parse::<i64>() {
                Ok(seconds) => u16::try_from(seconds).unwrap_or(LONGEST_TIMEOUT).min(LONGEST_TIMEOUT),
                // grub-mkconfig passes on whatever is there; GRUB reads the digits in front.
                Err(_) => return Err(defaults.bad("GRUB_TIMEOUT", "a number of seconds").into()),
            };
        }
        settings.style = match defaults.get("GRUB_TIMEOUT_STYLE")? {
            None | Some("" | "menu") => TimeoutStyle::Menu,
            Some("hidden") => TimeoutStyle::Hidden,
            Some("countdown") => TimeoutStyle::Countdown,
            Some(_) => return Err(defaults.bad("GRUB_TIMEOUT_STYLE", "menu, hidden or countdown").into()),
        };
        let words = |key: &'static str| -> Result<Vec<String>, GrubError> {
            let words = defaults.get(key)?.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
            match words.iter().all(|w| is_plain(w)) {
                true => Ok(words),
                false => Err(defaults.bad(key, "plain words").into()),
            }
        };
        let both = words("GRUB_TERMINAL")?;
        let or_both = |one: Vec<String>| if one.is_empty() { both.clone() } else { one };
        settings.input = or_both(words("GRUB_TERMINAL_INPUT")?);
        settings.output = or_both(words("GRUB_TERMINAL_OUTPUT")?);
        // gfxterm is no input; grub-mkconfig makes the same exception.
        for name in &mut settings.input {
            if name == "gfxterm" {
                "console".clone_into(name);
            }
        }
        settings.serial = words("GRUB_SERIAL_COMMAND")?;
        // The whole command stands there, as grub-mkconfig wants it.
        if settings.serial.first().is_some_and(|word| word == "serial") {
            settings.serial.remove(0);
        }
        let path = |key: &'static str| -> Result<Option<String>, GrubError> {
            match defaults.get(key)?.filter(|v| !v.is_empty()) {
                Some(value) if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._,+-".contains(&b)) => Ok(Some(value.to_owned())),
                Some(_) => Err(defaults.bad(key, "letters, digits and / . _ , + -").into()),
                None => Ok(None),
            }
        };
        settings.gfxmode = path("GRUB_GFXMODE")?;
        settings.colour = path("GRUB_COLOR_NORMAL")?;
        settings.highlight = path("GRUB_COLOR_HIGHLIGHT")?;
        // As grub-mkconfig of 2.06 and later: only the word `false` asks for them.
        settings.others = defaults.get("GRUB_DISABLE_OS_PROBER")? == Some("false");
        settings.theme = path("GRUB_THEME")?.and_then(|p| p.strip_prefix("/boot/grub/").map(str::to_owned)).filter(|p| !p.contains(".."));
        if let (Some(user), Some(hash)) = (defaults.get("AST_GRUB_USER")?, defaults.get("AST_GRUB_PASSWORD")?) {
            let is_hash = hash.starts_with("grub.pbkdf2.sha512.") && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
            if !is_hash {
                return Err(defaults.bad("AST_GRUB_PASSWORD", "what grub-mkpasswd-pbkdf2 prints").into());
            }
            if user.is_empty() || !user.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(defaults.bad("AST_GRUB_USER", "letters and digits").into());
            }
            settings.password = Some(Password { user: user.to_owned(), hash: hash.to_owned() });
        }
        Ok(settings)
    }
}

/// What became of a snapshot, as it is now, when it was booted as a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It reported well.
    Well,
    /// The newest trial of it failed.
    Failed,
    /// No deployment of it has reported.
    Never,
}

impl Health {
    fn words(self) -> &'static str {
        match self {
            Self::Well => "booted well",
            Self::Failed => "failed",
            Self::Never => "never booted",
        }
    }
}

/// One snapshot as the menu lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotLine {
    /// Its current set.
    pub set: SetId,
    /// Its description, as a person wrote it.
    pub description: String,
    /// Version of its kernel.
    pub kernel: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: Option<u64>,
    /// What became of it when it was booted; `None`: not known.
    pub health: Option<Health>,
    /// What is to be known about it: `default`, `on trial`, `pinned` …
    pub state: Vec<String>,
    /// Whether its boot subvolume can be started (`ast.env`, kernel and initramfs are there).
    pub bootable: bool,
}

/// What the menu is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MenuInput {
    /// Settings of the promoted deployment.
    pub settings: MenuSettings,
    /// Every snapshot, in the order in which it is listed.
    pub snapshots: Vec<SnapshotLine>,
    /// Other systems on this machine.
    pub others: Vec<OtherSystem>,
    /// Deployments that GRUB has entries for, with the titles in their `ast.env`, the likeliest first.
    pub titles: Vec<(DeployId, String)>,
}

/// The text of `menu.cfg`.
///
/// Refuses: names, hashes, UUIDs and paths that cannot stand in a script. Titles are cleaned, never refused.
pub fn menu(input: &MenuInput) -> Result<String, GrubError> {
    let mut text = data(input);
    text.push_str("# Menu of ast, executed by grub.cfg if it matches menu.sums. Written by ast; changes are lost.\n");
    settings(&mut text, &input.settings)?;
    if !input.snapshots.is_empty() {
        let grouped = if input.snapshots.len() > groups::FLAT { "if ast_source groups; then set ast_nop=0; el" } else { "" };
        push(
            &mut text,
            format_args!(
                "submenu 'Snapshots' --id ast-snapshots --class ast {{\n  {grouped}if ast_source snapshots; then set ast_nop=0; else ast_source snapshots.prev; fi\n}}\n"
            ),
        );
    }
    for other in &input.others {
        text.push_str(&other.entry()?);
    }
    Ok(text)
}

/// The first lines of `menu.cfg`: the script's `load_env` reads them as data, in one opening of the file and without its sums, which cost GRUB some
/// thirty million instructions. They are commands of a script as well, which set what nobody asks for: older scripts execute the file.
///
/// A menu that is more than its one line `ast_menu` can say has none, and is executed. A title that is not plain is left out, and read from `ast.env`.
fn data(input: &MenuInput) -> String {
    let mut text = String::from_utf8_lossy(SIGNATURE).into_owned();
    let MenuSettings { timeout, style, input: keys, output, serial, gfxmode, theme, colour, highlight, password, others: _ } = &input.settings;
    let executed = !output.is_empty() || !serial.is_empty() || theme.is_some() || colour.is_some() || highlight.is_some() || password.is_some();
    let gfxmode = gfxmode.as_deref().unwrap_or_default();
    let keys = match keys.as_slice() {
        [] => Some(""),
        [one] if one == "console" => Some("console"),
        _ => None,
    };
    let setup = match input.others.as_slice() {
        [] => Some(""),
        [OtherSystem::FirmwareSetup] => Some("setup"),
        _ => None,
    };
    if let (false, true, Some(keys), Some(setup)) = (executed, gfxmode.bytes().all(|b| b.is_ascii_alphanumeric() || b == b','), keys, setup) {
        let list = match input.snapshots.len() {
            0 => "",
            n if n > groups::FLAT => groups::GROUPS,
            _ => "snapshots",
        };
        let (timeout, style) = ((*timeout).min(LONGEST_TIMEOUT), style.word());
        push(&mut text, format_args!("ast_menu={timeout}/{style}/{gfxmode}/{keys}/{list}/{setup}\n"));
    }
    let plain = |title: &str| {
        title.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && title.bytes().all(|b| (b' '..=b'~').contains(&b) && !b"'\\".contains(&b))
    };
    // Words in quotes of their own: one word for a script, and for a pattern each one where a quote begins.
    let titles: String = input.titles.iter().filter(|(_, title)| plain(title)).map(|(d, title)| format!("'{d} {title}'")).collect();
    push(&mut text, format_args!("ast_titles={titles}\n"));
    text
}

/// The text of `snapshots.cfg`: one line each, calling a function of the fixed script; the id is `ast-sN`.
pub fn snapshots(input: &MenuInput) -> String {
    input.snapshots.iter().map(snapshot_line).collect()
}

/// The line of one of them.
pub(super) fn snapshot_line(line: &SnapshotLine) -> String {
    let (n, title) = (line.set.snapshot, quote(&title(line)));
    match line.bootable {
        true => format!("ast_snapshot {n} {} {title}\n", line.set),
        false => format!("ast_unbootable {n} {title}\n"),
    }
}

/// The title of a snapshot in at most [`WIDTH`] characters: number, description, kernel, date, and what is known about it. The date's and
/// the state's places are kept, then the kernel's, if that leaves a description its due.
fn title(line: &SnapshotLine) -> String {
    let n = line.set.snapshot;
    let missing = (!line.bootable).then(|| "not bootable".to_owned());
    let health = line.health.map(|health| health.words().to_owned());
    let state: Vec<String> = line.state.iter().map(|s| clean(s, 20)).chain(health).chain(missing).collect();
    let mut end = line.created.map(|at| format!("  {}", date(at))).unwrap_or_default();
    if !state.is_empty() {
        push(&mut end, format_args!("  ({})", state.join(", ")));
    }
    let kernel = line.kernel.as_ref().map(|kernel| format!("  {}", clean(kernel, 30))).unwrap_or_default();
    let begin = format!("{n}  ");
    let room = WIDTH.saturating_sub(begin.len() + end.chars().count());
    let length = line.description.chars().count().min(LEAST_DESCRIPTION);
    let kernel = if kernel.chars().count() + length <= room { kernel } else { String::new() };
    let description = clean(&line.description, room.saturating_sub(kernel.chars().count()).clamp(LEAST_DESCRIPTION, LONGEST_DESCRIPTION));
    format!("{begin}{description}{kernel}{end}")
}

/// `seconds` since 1970 as `2026-11-23`.
pub(super) fn date(seconds: u64) -> String {
    // The last second that the format can hold, for a clock or a document gone mad.
    const LAST: u64 = 253_402_300_799;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}

/// Id of the entry of a snapshot.
pub fn snapshot_entry(snapshot: SnapshotId) -> String {
    format!("ast-s{snapshot}")
}

/// What `sha256sum` prints for a file of this name and content.
pub fn sums(name: &str, content: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(content) {
        push(&mut text, format_args!("{byte:02x}"));
    }
    push(&mut text, format_args!("  {name}\n"));
    text
}

/// `text` in one line of at most `most` characters: control, format and line characters become spaces, backslashes slashes.
pub fn clean(text: &str, most: usize) -> String {
    let plain = |c: char| match c {
        '\\' => '/',
        // Directional marks and other invisible characters would let a title lie about what it is.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    let line: String = text.chars().map(plain).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(most).collect::<String>().trim_end().to_owned()
}

/// `text` as one word of GRUB's language: in single quotes nothing is special but the quote itself.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn settings(text: &mut String, settings: &MenuSettings) -> Result<(), GrubError> {
    for word in settings.input.iter().chain(&settings.output).chain(&settings.serial) {
        if !is_plain(word) {
            return Err(GrubError::Setting(word.clone(), "the name of a terminal"));
        }
    }
    push(text, format_args!("set timeout={}\nset timeout_style={}\n", settings.timeout.min(LONGEST_TIMEOUT), settings.style.word()));
    if !settings.serial.is_empty() {
        push(text, format_args!("insmod serial\nif serial {}; then set ast_nop=0; fi\n", settings.serial.join(" ")));
    }
    if let Some(mode) = &settings.gfxmode {
        push(text, format_args!("set gfxmode={}\n", quote(mode)));
    }
    for (name, colours) in [("normal", &settings.colour), ("highlight", &settings.highlight)] {
        if let Some(colours) = colours {
            push(text, format_args!("set menu_color_{name}={0}\nset color_{name}={0}\nexport menu_color_{name}\nexport color_{name}\n", quote(colours)));
        }
    }
    if settings.output.iter().any(|o| o == "gfxterm") {
        text.push_str("if loadfont unicode; then\n  insmod all_video\n  insmod gfxterm\n  set gfxpayload=keep\nfi\n");
    }
    if !settings.input.is_empty() {
        push(text, format_args!("terminal_input {}\n", settings.input.join(" ")));
    }
    if !settings.output.is_empty() {
        push(text, format_args!("terminal_output {}\n", settings.output.join(" ")));
    }
    if let Some(theme) = &settings.theme {
        let path = format!("\"($ast_root)/@boot/grub\"{}", quote(&format!("/{theme}")));
        push(text, format_args!("if [ -s {path} ]; then\n  insmod gfxmenu\n  insmod png\n  set theme={path}\n  export theme\nfi\n"));
    }
    if let Some(Password { user, hash }) = &settings.password {
        let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        if !plain(user) || user.contains('.') {
            return Err(GrubError::Setting(user.clone(), "the name of a user"));
        }
        if !plain(hash) {
            return Err(GrubError::Setting(hash.clone(), "the hash of a password"));
        }
        push(text, format_args!("insmod password_pbkdf2\nset superusers={user}\nexport superusers\npassword_pbkdf2 {user} {hash}\n"));
    }
    Ok(())
}

/// A word that no language between here and GRUB's screen reads as anything but a word.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.,".contains(&b))
}

/// Writing to a `String` cannot fail; its `Result` is only there for the trait.
pub(super) fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    if text.write_fmt(what).is_err() {
        debug_assert!(false, "a string did not take text");
    }
}

#[cfg(test)]
#[path = "menu_tests.rs"]
mod tests;
