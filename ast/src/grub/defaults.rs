//! Reader of `/etc/default/grub`: assignments of the shell, without a shell.
//!
//! grub-mkconfig runs this file; we read it. What a value would be is known for plain words, quotes and references to
//! earlier names; a value that only a shell could tell (`$(…)`, backquotes) is an error when, and only when, it is asked for.

use std::collections::BTreeMap;

/// Why a setting cannot be known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefaultsError {
    /// The value needs a shell.
    #[error("/etc/default/grub line {line}: {name} is the output of a command, which ast does not run")]
    Command {
        /// The setting.
        name: String,
        /// Line, from 1.
        line: usize,
    },
    /// A quote is not closed.
    #[error("/etc/default/grub line {line}: the quote of {name} is not closed")]
    Quote {
        /// The setting.
        name: String,
        /// Line, from 1.
        line: usize,
    },
    /// The value is not what the setting needs.
    #[error("/etc/default/grub line {line}: {name}={value:?} is not {wanted}")]
    Value {
        /// The setting.
        name: String,
        /// Line, from 1.
        line: usize,
        /// The value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// A line that is no assignment; the shell would run it, we pass it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Line, from 1.
    pub line: usize,
    /// The line, cut to 60 characters.
    pub text: String,
}

#[derive(Debug, Clone)]
struct Setting {
    line: usize,
    /// Where the value is written, when it is the whole of it.
    span: Option<std::ops::Range<usize>>,
    value: Result<String, DefaultsError>,
}

/// The settings of one `/etc/default/grub`.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    settings: BTreeMap<String, Setting>,
    /// Lines that are no assignments.
    pub passed_over: Vec<PassedOver>,
}

impl Defaults {
    /// The settings in `text`; total, linear. The last assignment of a name counts, as in the shell.
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        let mut reader = Reader { text, at: 0, line: 1 };
        while !reader.at_end() {
            reader.statement(&mut all);
        }
        all
    }

    /// The value of `name`; `None` when it is not set.
    pub fn get(&self, name: &str) -> Result<Option<&str>, DefaultsError> {
        match self.settings.get(name) {
            None => Ok(None),
            Some(Setting { value: Ok(value), .. }) => Ok(Some(value)),
            Some(Setting { value: Err(error), .. }) => Err(error.clone()),
        }
    }

    /// `text` with `name` set to `value`, which has no quotes, backslashes or `$` in it; every other byte is as it was.
    pub fn with(text: &str, name: &str, value: &str) -> String {
        let all = Self::parse(text);
        match all.settings.get(name).and_then(|s| s.span.clone()) {
            Some(span) => format!("{}\"{value}\"{}", text.get(..span.start).unwrap_or_default(), text.get(span.end..).unwrap_or_default()),
            None => {
                let between = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                format!("{text}{between}{name}=\"{value}\"\n")
            }
        }
    }

    /// The error that says that the value of `name` is not `wanted`.
    pub fn bad(&self, name: &str, wanted: &'static str) -> DefaultsError {
        let setting = self.settings.get(name);
        DefaultsError::Value {
            name: name.to_owned(),
            line: setting.map_or(0, |s| s.line),
            value: setting.and_then(|s| s.value.as_ref().ok()).map(|v| v.chars().take(60).collect()).unwrap_or_default(),
            wanted,
        }
    }

    /// The kernel arguments of a normal start: `GRUB_CMDLINE_LINUX`, then `GRUB_CMDLINE_LINUX_DEFAULT`, as grub-mkconfig joins them.
    ///
    /// Refuses: arguments that GRUB's script cannot carry, with their line.
    pub fn kernel_args(&self) -> Result<Vec<String>, DefaultsError> {
        let mut args = Vec::new();
        for name in ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"] {
            for arg in self.get(name)?.unwrap_or_default().split_ascii_whitespace() {
                let carried = arg.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b)) && !arg.starts_with(['/', '(', '*']);
                if !carried {
                    return Err(self.bad(name, "arguments without quotes, backslashes, other than ASCII, or a leading / ( or *"));
                }
                args.push(arg.to_owned());
            }
        }
        Ok(args)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..).and_then(|t| t.chars().next())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        self.skip_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let name = self.text.get(start..self.at).unwrap_or_default();
        if name.starts_with(|c: char| c.is_ascii_digit()) { String::new() } else { name.to_owned() }
    }

    /// One statement up to and with its end of line or `;`.
    fn statement(&mut self, all: &mut Defaults) {
        self.skip_while(|c| c.is_ascii_whitespace() || c == ';');
        let (start, line) = (self.at, self.line);
        if self.at_end() {
            return;
        }
        let mut name = self.name();
        if name == "export" && self.peek().is_some_and(|c| c == ' ' || c == '\t') {
            self.skip_while(|c| c == ' ' || c == '\t');
            name = self.name();
        }
        let appends = self.peek() == Some('+');
        if appends {
            self.next();
        }
        if name.is_empty() || self.peek() != Some('=') {
            self.skip_while(|c| c != '\n');
            let text = self.text.get(start..self.at).unwrap_or_default();
            if !text.starts_with('#') && text != "export" && !text.is_empty() {
                all.passed_over.push(PassedOver { line, text: text.chars().take(60).collect() });
            }
            return;
        }
        self.next();
        let from = self.at;
        let mut value = self.value(all, &name, line);
        let span = (!appends).then_some(from..self.at);
        if appends {
            let before = all.settings.get(&name).map_or(Ok(String::new()), |s| s.value.clone());
            value = before.and_then(|before| value.map(|value| before + &value));
        }
        all.settings.insert(name, Setting { line, span, value });
        // Behind a value there may be a comment, or a command that would have run with it.
        self.skip_while(|c| c == ' ' || c == '\t');
        if self.peek() == Some('#') {
            self.skip_while(|c| c != '\n');
        }
    }

    fn value(&mut self, all: &Defaults, name: &str, line: usize) -> Result<String, DefaultsError> {
        let mut value = String::new();
        let mut command = false;
        let open = || DefaultsError::Quote { name: name.to_owned(), line };
        while let Some(c) = self.peek() {
            match c {
                '\n' | ' ' | '\t' | '\r' | ';' | '&' | '|' => break,
                '\'' => {
                    self.next();
                    loop {
                        match self.next().ok_or_else(open)? {
                            '\'' => break,
                            c => value.push(c),
                        }
                    }
                }
                '"' => {
                    self.next();
                    loop {
                        match self.next().ok_or_else(open)? {
                            '"' => break,
                            '\\' => match self.next().ok_or_else(open)? {
                                '\n' => {}
                                c @ ('$' | '`' | '"' | '\\') => value.push(c),
                                c => value.extend(['\\', c]),
                            },
                            '$' => command |= self.reference(all, &mut value),
                            '`' => {
                                command = true;
                                self.until_backquote();
                            }
                            c => value.push(c),
                        }
                    }
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        None | Some('\n') => {}
                        Some(c) => value.push(c),
                    }
                }
                '$' => {
                    self.next();
                    command |= self.reference(all, &mut value);
                }
                '`' => {
                    self.next();
                    command = true;
                    self.until_backquote();
                }
                c => {
                    self.next();
                    value.push(c);
                }
            }
        }
        if command { Err(DefaultsError::Command { name: name.to_owned(), line }) } else { Ok(value) }
    }

    fn until_backquote(&mut self) {
        self.skip_while(|c| c != '`');
        self.next();
    }

    /// What is behind a `$`; true if only a shell could tell.
    fn reference(&mut self, all: &Defaults, value: &mut String) -> bool {
        let braced = self.peek() == Some('{');
        if self.peek() == Some('(') {
            let mut depth = 0usize;
            while let Some(c) = self.next() {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            return true;
        }
        if braced {
            self.next();
        }
        let name = self.name();
        if braced && self.peek() != Some('}') {
            self.skip_while(|c| c != '}' && c != '\n');
            self.next();
            return true;
        }
        if braced {
            self.next();
        }
        if name.is_empty() {
            value.push('$');
            return braced;
        }
        match all.settings.get(&name) {
            // As in the shell, a name that was never set is empty; its growth is bounded by what the file says.
            None => false,
            Some(Setting { value: Ok(known), .. }) if value.len() + known.len() <= 65_536 => {
                value.push_str(known);
                false
            }
            Some(_) => true,
        }
    }
}

#[cfg(test)]
#[path = "defaults_tests.rs"]
mod tests;
