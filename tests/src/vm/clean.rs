//! From what a terminal would be sent to plain lines.

/// Strips escape sequences from a stream that arrives in pieces; carriage returns become ends of line.
#[derive(Debug, Default)]
pub struct Cleaner {
    state: State,
    /// A carriage return whose line feed has not come yet.
    return_pending: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Plain,
    Escape,
    /// `ESC [` … final byte.
    Control,
    /// `ESC ]` … BEL or `ESC \`.
    Command,
    /// One more byte belongs to the sequence.
    Skip,
}

impl Cleaner {
    /// Appends the plain text of `raw` to `text`.
    pub fn feed(&mut self, raw: &[u8], text: &mut Vec<u8>) {
        for &byte in raw {
            self.state = match (self.state, byte) {
                (State::Plain, 0x1b) => State::Escape,
                (State::Plain, b'\r') => {
                    self.return_pending = true;
                    State::Plain
                }
                (State::Plain, 0 | 7 | 8) => State::Plain,
                (State::Plain, _) => {
                    // A lone return starts a line again (a progress bar); with its line feed it is one end of line.
                    if std::mem::take(&mut self.return_pending) && byte != b'\n' {
                        end_line(text);
                    }
                    text.push(byte);
                    State::Plain
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']') => State::Command,
                (State::Escape, b'(' | b')' | b'#') => State::Skip,
                (State::Escape, _) => State::Plain,
                (State::Control, 0x40..=0x7e) => {
                    // The cursor jumps: what follows is not the same line. Without this a painted menu is one long line.
                    if matches!(byte, b'H' | b'f') {
                        end_line(text);
                    }
                    State::Plain
                }
                (State::Control, _) => State::Control,
                (State::Command, 7) => State::Plain,
                (State::Command, 0x1b) => State::Escape,
                (State::Command, _) => State::Command,
                (State::Skip, _) => State::Plain,
            };
        }
    }
}

fn end_line(text: &mut Vec<u8>) {
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::Cleaner;

    #[test]
    fn any_split_of_the_stream_gives_the_same_text() {
        let raw = b"\x1b[1;31mred\x1b[0m plain\r\n\x1b]0;title\x07a\x1b(Bb\r\r\nbar 1%\rbar 2%\r\n\x1b[2;5Hmenu\x1b[3;5Hentry\x1b[?2004h# ";
        let wanted = "red plain\nab\nbar 1%\nbar 2%\nmenu\nentry# ";
        for cut in 0..raw.len() {
            let (mut cleaner, mut text) = (Cleaner::default(), Vec::new());
            cleaner.feed(&raw[..cut], &mut text);
            cleaner.feed(&raw[cut..], &mut text);
            assert_eq!(String::from_utf8_lossy(&text), wanted, "cut at {cut}");
        }
    }
}
