//! Python literals, as `repr` writes them: what the original keeps its tree in. Read as data, never run.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, multispace0, one_of};
use nom::combinator::{map, map_res, opt, recognize, value as always};
use nom::error::{Error, ErrorKind};
use nom::multi::separated_list0;
use nom::sequence::{delimited, preceded, separated_pair, terminated};
use nom::{IResult, Parser};

/// Nesting that is read: what Python itself can read back, and no stack of ours is hurt by.
const DEEPEST: u8 = 200;

/// One literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A number without a point.
    Int(i64),
    /// A string.
    Text(String),
    /// A list or tuple.
    List(Vec<Value>),
    /// A dictionary, in its order.
    Dict(Vec<(Value, Value)>),
}

impl Value {
    /// What a dictionary says under this key: the last one, as Python has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Self::Dict(pairs) = self else { return None };
        pairs.iter().rev().find(|(k, _)| matches!(k, Self::Text(text) if text == key)).map(|(_, v)| v)
    }
}

/// The literal that `text` is; `None` when it is none, is cut, or something follows it.
pub fn parse(text: &str) -> Option<Value> {
    let (rest, value) = terminated(|i| value(i, DEEPEST), multispace0).parse(text).ok()?;
    rest.is_empty().then_some(value)
}

fn value(input: &str, deeper: u8) -> IResult<&str, Value> {
    let Some(deeper) = deeper.checked_sub(1) else { return Err(nom::Err::Failure(Error::new(input, ErrorKind::TooLarge))) };
    let (input, _) = multispace0(input)?;
    // By its first character, which tells them all apart: trying one after the other would cost a stack frame each at every level.
    match input.chars().next() {
        Some('[') => items('[', ']', deeper, input),
        Some('(') => items('(', ')', deeper, input),
        Some('{') => {
            let pair = |input| separated_pair(|i| value(i, deeper), symbol(':'), |i| value(i, deeper)).parse(input);
            map(delimited(char('{'), list(pair), symbol('}')), Value::Dict).parse(input)
        }
        Some('\'' | '"') => map(text, Value::Text).parse(input),
        Some('N' | 'T' | 'F') => word(input),
        _ => map(number, Value::Int).parse(input),
    }
}

fn items(open: char, close: char, deeper: u8, input: &str) -> IResult<&str, Value> {
    map(delimited(char(open), list(|i| value(i, deeper)), symbol(close)), Value::List).parse(input)
}

fn word(input: &str) -> IResult<&str, Value> {
    alt((always(Value::None, tag("None")), always(Value::Bool(true), tag("True")), always(Value::Bool(false), tag("False")))).parse(input)
}

/// Things with commas between them, and perhaps one after the last.
fn list<'a, T>(item: impl Fn(&'a str) -> IResult<&'a str, T>) -> impl Parser<&'a str, Output = Vec<T>, Error = Error<&'a str>> {
    terminated(separated_list0(symbol(','), item), opt(symbol(',')))
}

fn symbol<'a>(wanted: char) -> impl Parser<&'a str, Output = char, Error = Error<&'a str>> {
    preceded(multispace0, char(wanted))
}

fn number(input: &str) -> IResult<&str, i64> {
    map_res(recognize((opt(one_of("+-")), take_while1(|c: char| c.is_ascii_digit()))), |digits: &str| digits.parse()).parse(input)
}

/// A string in single or double quotes, with the escapes that `repr` writes.
fn text(input: &str) -> IResult<&str, String> {
    let (rest, quote) = one_of("'\"")(input)?;
    let mut out = String::new();
    let mut chars = rest.char_indices();
    let bad = || nom::Err::Error(Error::new(input, ErrorKind::Char));
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((rest.get(at + 1..).unwrap_or_default(), out)),
            '\n' => return Err(bad()),
            '\\' => {
                let (_, escaped) = chars.next().ok_or_else(bad)?;
                let digits = match escaped {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                if digits > 0 {
                    let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let code = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32);
                    out.push(code.ok_or_else(bad)?);
                    continue;
                }
                match escaped {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    '\\' | '\'' | '"' => out.push(escaped),
                    // Python keeps a backslash that means nothing.
                    other => out.extend(['\\', other]),
                }
            }
            c => out.push(c),
        }
    }
    Err(bad())
}
