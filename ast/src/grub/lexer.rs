//! Words and signs of GRUB's script language, each with the bytes it came from. Source: `grub-core/script/yylex.l` of GRUB.
//!
//! Total and linear: any text gives tokens or the place where it stops being GRUB's language.

use std::ops::Range;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{map, recognize, value, verify};
use nom::multi::fold_many0;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Characters that mean themselves, quotes and escapes resolved.
    Text(String),
    /// The value of this variable. Outside of double quotes GRUB splits it at blanks.
    Variable {
        /// Its name; `1` … `9`, `?`, `#`, `*` and `@` are GRUB's own.
        name: String,
        /// Inside double quotes.
        quoted: bool,
    },
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A word; reserved ones (`if`, `fi` …) are words without quotes, which the parser knows. A continued line is a part of a word; one by
    /// itself is a word of no pieces: GRUB drops it, but no reserved word can stand behind it where a command begins.
    Word(Vec<Piece>),
    /// End of a line.
    Newline,
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`
    Close,
    /// A sign that GRUB reads and has no use for: `|`, `&&`, `;;` and the like.
    Useless,
}

/// One token and the bytes it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where in the text, in bytes.
    pub span: Range<usize>,
}

/// Where a text stops being GRUB's language, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SyntaxError {
    /// Offset in bytes.
    pub at: usize,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl SyntaxError {
    pub(super) fn new(text: &str, at: usize, reason: &'static str) -> Self {
        let line = 1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count();
        Self { at, line, reason }
    }
}

/// The tokens of `text`, without blanks and comments.
pub fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = skipped(rest);
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(found) };
        match token(rest) {
            Ok((behind, kind)) => {
                found.push(Token { kind, span: at..text.len() - behind.len() });
                rest = behind;
            }
            Err(_) => return Err(SyntaxError::new(text, at, reason(first))),
        }
    }
}

/// Blanks and comments are passed over.
fn skipped(mut rest: &str) -> &str {
    loop {
        let next = rest.trim_start_matches([' ', '\t']);
        let next = if next.starts_with('#') { next.find('\n').map_or("", |end| next.get(end..).unwrap_or("")) } else { next };
        if next.len() == rest.len() {
            return rest;
        }
        rest = next;
    }
}

fn reason(first: char) -> &'static str {
    match first {
        '\'' | '"' => "a quote is not closed, or holds a $ that names no variable",
        '$' => "a $ that names no variable",
        '\\' => "nothing behind the backslash",
        _ => "a quote in this word is not closed, or a $ in it names no variable",
    }
}

fn token(text: &str) -> IResult<&str, Kind> {
    let useless = alt((tag("||"), tag("&&"), tag(";;"), tag("|"), tag("&"), tag("<"), tag(">")));
    alt((
        value(Kind::Newline, char('\n')),
        value(Kind::Useless, useless),
        value(Kind::Semicolon, char(';')),
        value(Kind::Open, char('{')),
        value(Kind::Close, char('}')),
        map(word, Kind::Word),
    ))
    .parse(text)
}

/// A word: it ends where no part of one follows, and must not end in the middle of one.
fn word(text: &str) -> IResult<&str, Vec<Piece>> {
    let (rest, pieces) = fold_many0(part, Vec::new, |mut all: Vec<Piece>, part| {
        part.into_iter().for_each(|piece| join(&mut all, piece));
        all
    })
    .parse(text)?;
    let ends = rest.len() < text.len() && rest.chars().next().is_none_or(|c| " \t\n{}|&;<>".contains(c));
    if ends { Ok((rest, pieces)) } else { Err(nom::Err::Error(nom::error::make_error(rest, nom::error::ErrorKind::Eof))) }
}

/// Appends a piece; text grows the text before it, so that `a'b'` and `ab` are the same word.
fn join(all: &mut Vec<Piece>, piece: Piece) {
    match (all.last_mut(), piece) {
        (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
        (_, piece) => all.push(piece),
    }
}

fn part(text: &str) -> IResult<&str, Vec<Piece>> {
    let one = |piece: Piece| vec![piece];
    alt((
        map(take_while1(|c: char| !"{}|&$;<> \t\n'\"\\".contains(c)), move |s: &str| one(Piece::Text(s.to_owned()))),
        map(single, move |s: &str| one(Piece::Text(s.to_owned()))),
        double,
        value(Vec::new(), tag("\\\n")),
        map(preceded(char('\\'), anychar), move |c| one(Piece::Text(c.to_string()))),
        map(variable, move |name: &str| one(Piece::Variable { name: name.to_owned(), quoted: false })),
        map(translated, move |s| one(Piece::Text(s))),
    ))
    .parse(text)
}

fn single(text: &str) -> IResult<&str, &str> {
    delimited(char('\''), take_while(|c| c != '\''), char('\'')).parse(text)
}

fn double(text: &str) -> IResult<&str, Vec<Piece>> {
    let text_of = |s: &str| Piece::Text(s.to_owned());
    let inside = alt((
        map(take_while1(|c: char| !"\"\\$".contains(c)), text_of),
        map(tag("\\\n"), move |_| text_of("")),
        map(preceded(char('\\'), alt((tag("$"), tag("\\"), tag("\"")))), text_of),
        map(recognize((char('\\'), anychar)), text_of),
        map(variable, |name: &str| Piece::Variable { name: name.to_owned(), quoted: true }),
    ));
    let all = fold_many0(
        inside,
        || vec![Piece::Text(String::new())],
        |mut all, piece| {
            join(&mut all, piece);
            all
        },
    );
    delimited(char('"'), all, char('"')).parse(text)
}

/// `$"…"`: text that GRUB would translate; variables in it are left as they are written.
fn translated(text: &str) -> IResult<&str, String> {
    let inside = alt((
        map(take_while1(|c: char| c != '"' && c != '\\'), str::to_owned),
        map(tag("\\\n"), |_| String::new()),
        map(tag("\\\""), |_| "\"".to_owned()),
        map((char('\\'), none_of("\"")), |(slash, c)| String::from_iter([slash, c])),
    ));
    let all = fold_many0(inside, String::new, |mut all, more| {
        all.push_str(&more);
        all
    });
    delimited(tag("$\""), all, char('"')).parse(text)
}

fn variable(text: &str) -> IResult<&str, &str> {
    preceded(char('$'), alt((delimited(char('{'), name, char('}')), name))).parse(text)
}

fn name(text: &str) -> IResult<&str, &str> {
    let plain =
        verify(take_while1(|c: char| c.is_ascii_alphanumeric() || c == '_'), |s: &str| !s.starts_with(|c: char| c.is_ascii_digit()));
    alt((plain, take_while1(|c: char| c.is_ascii_digit()), tag("?"), tag("#"), tag("*"), tag("@"))).parse(text)
}
