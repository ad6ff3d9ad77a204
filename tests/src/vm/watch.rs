//! Waiting for text on the console, and measuring when it came.
use super::{
    Vm, VmError,
    console::{NoResult, Seen},
    patience,
};
use regex::bytes::{Captures, Regex};
use std::{io::Write, time::Duration};

impl Vm {
    /// Waits for `pattern` in what was not consumed yet, and consumes up to its end. A line's end is `\n`, `^` and `$` are ends of lines.
    ///
    /// Text arrives in pieces: end a pattern that ends in a repetition with what must follow (`(\d+)\n`).
    pub fn expect(&mut self, pattern: &str, time: Duration) -> Result<Seen, VmError> {
        self.expect_any(&[(pattern, ())], time).map(|(seen, ())| seen)
    }

    /// Waits for the first of several patterns (the earliest in the text, then the first in the list) and returns its tag.
    pub fn expect_any<T: Clone>(&mut self, patterns: &[(&str, T)], time: Duration) -> Result<(Seen, T), VmError> {
        let compiled = patterns.iter().map(|(pattern, _)| line_regex(pattern)).collect::<Result<Vec<_>, _>>()?;
        let cursor = self.cursor;
        let found = self.console.wait(patience(time), |state| {
            let unread = &state.text[cursor..];
            let matches = compiled.iter().enumerate().filter_map(|(index, regex)| Some((index, regex.captures(unread)?)));
            let (index, captures) = matches.min_by_key(|(index, captures)| (start(captures), *index))?;
            let groups = captures.iter().map(|group| Some(String::from_utf8_lossy(group?.as_bytes()).into_owned())).collect::<Vec<_>>();
            Some((index, cursor + captures.get(0)?.end(), groups))
        });
        match found {
            Ok((index, end, groups)) => {
                self.cursor = end;
                let text = groups.first().cloned().flatten().unwrap_or_default();
                Ok((Seen { text, groups, at: self.console.time_of(end.saturating_sub(1)) }, patterns[index].1.clone()))
            }
            Err(NoResult::Timeout) => Err(self.timeout(&awaited(patterns), time)),
            Err(NoResult::Closed) => {
                self.failed = true;
                Err(VmError::Ended { what: awaited(patterns), tail: self.console.tail() })
            }
        }
    }

    /// Watches for `time` that `pattern` does not come; consumes nothing.
    pub fn expect_none(&mut self, pattern: &str, time: Duration) -> Result<(), VmError> {
        let regex = line_regex(pattern)?;
        let cursor = self.cursor;
        match self.console.wait(time, |state| regex.is_match(&state.text[cursor..]).then_some(())) {
            Err(_) => Ok(()),
            Ok(()) => {
                self.failed = true;
                Err(VmError::Unexpected { what: pattern.into(), tail: self.console.tail() })
            }
        }
    }

    /// Everything said so far is consumed.
    pub fn skip(&mut self) {
        self.cursor = self.console.position();
    }

    /// Types `text` on the console. A line ends with `\r`.
    pub fn send(&mut self, text: &str) -> Result<(), VmError> {
        self.send_bytes(text.as_bytes())
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), VmError> {
        let sent = self.input.write_all(bytes).and_then(|()| self.input.flush());
        sent.map_err(|_| VmError::Ended { what: format!("input {:?}", String::from_utf8_lossy(bytes)), tail: self.console.tail() })
    }

    /// For each stage, the first time its pattern was seen from `position` of the console's text on; stages are searched in order, each after the last one found.
    pub fn stages<'a>(&self, position: usize, stages: &[(&'a str, &str)]) -> Result<Vec<(&'a str, Option<Duration>)>, VmError> {
        let mut from = position;
        let mut times = Vec::new();
        for (name, pattern) in stages {
            let regex = line_regex(pattern)?;
            let found = regex.find(&self.console.state().text[from..]).map(|m| (m.start(), m.end()));
            let time = found.map(|(start, _)| self.console.time_of(from + start));
            from += found.map_or(0, |(_, end)| end);
            times.push((*name, time));
        }
        Ok(times)
    }
}

fn start(captures: &Captures<'_>) -> usize {
    captures.get(0).map_or(0, |all| all.start())
}

fn awaited<T>(patterns: &[(&str, T)]) -> String {
    patterns.iter().map(|(pattern, _)| format!("{pattern:?}")).collect::<Vec<_>>().join(" or ")
}

/// `^` and `$` match at lines.
pub(crate) fn line_regex(pattern: &str) -> Result<Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(pattern).multi_line(true).build()
}
