//! Sentences of GRUB's script language. Source: `grub-core/script/parser.y` of GRUB; what that accepts and this does not is nested deeper than
//! [`MOST_NESTED`], which GRUB would refuse to run.

use std::ops::Range;

use super::lexer::{Kind, Piece, SyntaxError, Token, tokens};

/// Levels of nesting; GRUB gives up at 64 while running, and each of ours is at least one of its.
pub const MOST_NESTED: usize = 60;

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its parts.
    pub pieces: Vec<Piece>,
    /// Where in the text, in bytes.
    pub span: Range<usize>,
    /// Written without any quote or escape, so that it can be a reserved word.
    bare: bool,
}

impl Word {
    /// A continued line between two blanks.
    fn vanishes(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Its text, if no variable is in it.
    pub fn literal(&self) -> Option<String> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Variable { .. } => None,
            })
            .collect()
    }
}

/// One sentence and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it says.
    pub what: What,
    /// Where in the text, in bytes.
    pub span: Range<usize>,
}

/// What a sentence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A command with its words, and the block behind it (`menuentry … { … }`).
    Command {
        /// The command and its arguments.
        words: Vec<Word>,
        /// The block.
        block: Option<Vec<Statement>>,
    },
    /// `if … then … elif … then … else … fi`
    If {
        /// Conditions and what they lead to.
        branches: Vec<(Vec<Statement>, Vec<Statement>)>,
        /// Behind `else`.
        otherwise: Option<Vec<Statement>>,
    },
    /// `for NAME in … ; do … done`
    For {
        /// The variable.
        name: String,
        /// What it goes through.
        words: Vec<Word>,
        /// What is done.
        body: Vec<Statement>,
    },
    /// `while … do … done` and `until … do … done`
    While {
        /// `until`.
        until: bool,
        /// The condition.
        condition: Vec<Statement>,
        /// What is done.
        body: Vec<Statement>,
    },
    /// `function NAME { … }`
    Function {
        /// Its name.
        name: String,
        /// What it does.
        body: Vec<Statement>,
    },
}

/// A line of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its title, if no variable is in it.
    pub title: Option<String>,
    /// Its `--id`, if there is one without a variable.
    pub id: Option<String>,
    /// `submenu` instead of `menuentry`.
    pub submenu: bool,
    /// Submenus around it.
    pub depth: usize,
    /// Where in the text, in bytes.
    pub span: Range<usize>,
}

/// The sentences of `text`. Total and linear.
pub fn parse(text: &str) -> Result<Vec<Statement>, SyntaxError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, at: 0, depth: 0 };
    let found = parser.script()?;
    match parser.peek() {
        None => Ok(found),
        Some(_) => Err(parser.wrong("this does not begin a command")),
    }
}

/// The lines of the menu that these sentences make, functions excluded (what they make depends on how they are called).
pub fn entries(script: &[Statement]) -> Vec<Entry> {
    let mut found = Vec::new();
    collect(script, 0, &mut found);
    found
}

fn collect(script: &[Statement], depth: usize, found: &mut Vec<Entry>) {
    for statement in script {
        match &statement.what {
            What::Command { words, block: Some(block) } => {
                let command = words.first().and_then(Word::literal).unwrap_or_default();
                let submenu = command == "submenu";
                if !submenu && command != "menuentry" {
                    continue;
                }
                found.push(Entry { title: title(words), id: option(words, "--id"), submenu, depth, span: statement.span.clone() });
                if submenu {
                    collect(block, depth + 1, found);
                }
            }
            What::If { branches, otherwise } => {
                branches.iter().for_each(|(_, body)| collect(body, depth, found));
                otherwise.iter().for_each(|body| collect(body, depth, found));
            }
            What::For { body, .. } | What::While { body, .. } => collect(body, depth, found),
            What::Command { .. } | What::Function { .. } => {}
        }
    }
}

/// Options of menu entries that take a word.
const WITH_VALUE: [&str; 6] = ["--class", "--id", "--users", "--hotkey", "--source", "--function"];

fn title(words: &[Word]) -> Option<String> {
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let literal = word.literal();
        let text = literal.as_deref().unwrap_or_default();
        if WITH_VALUE.contains(&text) || text == "$menuentry_id_option" {
            rest.next();
        } else if !text.starts_with("--") {
            return literal;
        }
    }
    None
}

fn option(words: &[Word], name: &str) -> Option<String> {
    // Stock files write `$menuentry_id_option 'id'`, which is `--id` where GRUB knows it.
    let named = |w: &&Word| {
        w.literal().as_deref() == Some(name)
            || matches!(w.pieces.as_slice(), [Piece::Variable { name, .. }] if name == "menuentry_id_option")
    };
    let at = words.iter().position(|w| named(&w))?;
    words.get(at + 1)?.literal()
}

struct Parser<'t> {
    text: &'t str,
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

impl Parser<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(self.text.len(), |t| t.span.start)
    }

    fn end(&self) -> usize {
        self.at.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(0, |t| t.span.end)
    }

    fn wrong(&self, reason: &'static str) -> SyntaxError {
        SyntaxError::new(self.text, self.offset(), reason)
    }

    fn word(&mut self) -> Option<Word> {
        let Token { kind: Kind::Word(pieces), span } = self.tokens.get(self.at)? else { return None };
        let written = self.text.get(span.clone()).unwrap_or_default();
        let bare = matches!(pieces.as_slice(), [Piece::Text(text)] if text == written);
        self.at += 1;
        Some(Word { pieces: pieces.clone(), span: span.clone(), bare })
    }

    /// The reserved word that comes next, if one does.
    fn reserved(&self) -> Option<&str> {
        const RESERVED: [&str; 17] = [
            "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "select", "then", "until", "while", "function", "[[",
            "]]",
        ];
        let token = self.tokens.get(self.at)?;
        let written = self.text.get(token.span.clone())?;
        (matches!(token.kind, Kind::Word(_)) && RESERVED.contains(&written)).then_some(written)
    }

    fn take(&mut self, word: &str, reason: &'static str) -> Result<()> {
        if self.reserved() != Some(word) {
            return Err(self.wrong(reason));
        }
        self.at += 1;
        Ok(())
    }

    fn newlines(&mut self) {
        while self.peek() == Some(&Kind::Newline) {
            self.at += 1;
        }
    }

    /// One `;` or line end, and the line ends behind it; false if there is none.
    fn delimiters(&mut self) -> bool {
        let there = matches!(self.peek(), Some(Kind::Semicolon | Kind::Newline));
        if there {
            self.at += 1;
            self.newlines();
        }
        there
    }

    fn script(&mut self) -> Result<Vec<Statement>> {
        let mut all = Vec::new();
        self.newlines();
        while self.peek().is_some() {
            let start = self.offset();
            let what = if self.reserved() == Some("function") { self.function()? } else { self.command()? };
            all.push(Statement { what, span: start..self.end() });
            if self.peek().is_some() && !self.delimiters() {
                return Err(self.wrong("a command ends with ; or with its line"));
            }
        }
        Ok(all)
    }

    /// At least one command, and the delimiters behind the last; false if there were none.
    fn commands(&mut self) -> Result<(Vec<Statement>, bool)> {
        self.depth += 1;
        if self.depth > MOST_NESTED {
            return Err(self.wrong("nested deeper than GRUB runs"));
        }
        let mut all = Vec::new();
        self.newlines();
        loop {
            let start = self.offset();
            let what = self.command()?;
            all.push(Statement { what, span: start..self.end() });
            let delimited = self.delimiters();
            let ends = match self.peek() {
                None | Some(Kind::Close) => true,
                _ => matches!(self.reserved(), Some("then" | "elif" | "else" | "fi" | "do" | "done")),
            };
            if !delimited || ends {
                self.depth -= 1;
                return Ok((all, delimited));
            }
        }
    }

    /// Commands that something reserved follows.
    fn closed(&mut self) -> Result<Vec<Statement>> {
        let (all, delimited) = self.commands()?;
        if delimited { Ok(all) } else { Err(self.wrong("a command ends with ; or with its line")) }
    }

    fn command(&mut self) -> Result<What> {
        match self.reserved() {
            Some("if") => self.condition(),
            Some("for") => self.each(),
            Some(word @ ("while" | "until")) => {
                let until = word == "until";
                self.at += 1;
                let condition = self.closed()?;
                Ok(What::While { until, condition, body: self.body()? })
            }
            Some(_) => Err(self.wrong("a reserved word where a command should begin")),
            None => self.simple(),
        }
    }

    fn simple(&mut self) -> Result<What> {
        let mut words = Vec::new();
        while !matches!(self.reserved(), Some("[[" | "]]")) {
            match self.word() {
                Some(word) => words.push(word),
                None => break,
            }
        }
        if words.is_empty() {
            return Err(self.wrong("a command should begin here"));
        }
        // One of them stays where there is nothing else: a command that says nothing.
        if words.iter().all(Word::vanishes) {
            words.truncate(1);
        } else {
            words.retain(|word| !word.vanishes());
        }
        let mut block = None;
        if self.peek() == Some(&Kind::Open) {
            self.at += 1;
            block = Some(self.commands()?.0);
            self.close()?;
        }
        Ok(What::Command { words, block })
    }

    fn close(&mut self) -> Result<()> {
        if self.peek() != Some(&Kind::Close) {
            return Err(self.wrong("a block is not closed"));
        }
        self.at += 1;
        Ok(())
    }

    fn condition(&mut self) -> Result<What> {
        self.at += 1;
        let mut branches = Vec::new();
        loop {
            let condition = self.closed()?;
            self.take("then", "then is missing")?;
            branches.push((condition, self.closed()?));
            match self.reserved() {
                Some("elif") => self.at += 1,
                Some("else") => {
                    self.at += 1;
                    let otherwise = Some(self.closed()?);
                    self.take("fi", "fi is missing")?;
                    return Ok(What::If { branches, otherwise });
                }
                _ => {
                    self.take("fi", "fi is missing")?;
                    return Ok(What::If { branches, otherwise: None });
                }
            }
        }
    }

    fn each(&mut self) -> Result<What> {
        self.at += 1;
        let name = self.name()?;
        self.take("in", "in is missing")?;
        let mut words = Vec::new();
        while let Some(word) = self.word() {
            if !word.vanishes() {
                words.push(word);
            }
        }
        if !self.delimiters() {
            return Err(self.wrong("the words of a for end with ; or with their line"));
        }
        Ok(What::For { name, words, body: self.body()? })
    }

    fn body(&mut self) -> Result<Vec<Statement>> {
        self.take("do", "do is missing")?;
        let body = self.closed()?;
        self.take("done", "done is missing")?;
        Ok(body)
    }

    fn function(&mut self) -> Result<What> {
        self.at += 1;
        let name = self.name()?;
        self.newlines();
        if self.peek() != Some(&Kind::Open) {
            return Err(self.wrong("a function needs its block"));
        }
        self.at += 1;
        let body = self.closed()?;
        self.close()?;
        Ok(What::Function { name, body })
    }

    fn name(&mut self) -> Result<String> {
        let at = self.at;
        let plain =
            |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !text.starts_with(|c: char| c.is_ascii_digit());
        let name = if self.reserved().is_none() { self.word().filter(|w| w.bare) } else { None };
        name.and_then(|w| w.literal()).filter(plain).ok_or_else(|| {
            self.at = at;
            self.wrong("a name should stand here")
        })
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
