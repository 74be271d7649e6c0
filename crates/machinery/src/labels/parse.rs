//! The text form of label selectors: a lexer of words and operators, and a parser with the API's complaints.

use super::{Operator, Requirement};
use crate::fieldpath::{Path, Shown};
use crate::names;

/// Why a selector's text is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Word(&'a str),
    Symbol(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::End => "",
            Token::Word(text) | Token::Symbol(text) => text,
        }
    }

    fn is(self, symbol: &str) -> bool {
        matches!(self, Token::Symbol(text) if text == symbol)
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

/// Symbols, the longer ones first.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn tokens(text: &str) -> Vec<Token<'_>> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let (mut rest, mut tokens) = (text, Vec::new());
    loop {
        rest = rest.trim_start_matches(space);
        if rest.is_empty() {
            return tokens;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(&rest[..symbol.len()]));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c| special(c) || space(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        }
    }
}

fn unexpected<T>(token: Token<'_>, expected: &str) -> Result<T, Error> {
    Err(Error(format!("found '{}', expected: {expected}", token.text())))
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, Error> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(requirements),
            Token::Symbol(text) if text != "!" => {
                return unexpected(Token::Symbol(text), "!, identifier, or 'end of string'");
            }
            _ => {}
        }
        let requirement =
            parser.requirement().map_err(|e| Error(format!("unable to parse requirement: {e}")))?;
        requirements.push(requirement);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Symbol(",") => match parser.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                token => return unexpected(token, "identifier after ','"),
            },
            token => return unexpected(token, "',' or 'end of string'"),
        }
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let absent = self.peek().is("!");
        if absent {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(word) => word,
            token => return unexpected(token, "identifier"),
        };
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            let problem = problems.join("; ");
            let cause = Path::root().invalid(key, &problem);
            return Err(Error(format!("{}: {}", cause.field, cause.message)));
        }
        let ends = matches!(self.peek(), Token::End) || self.peek().is(",");
        if absent || ends {
            let operator = if absent { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement::new(key, operator, Vec::new()));
        }
        let operator = match self.next().text() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            "=" | "==" => Operator::Equals,
            "!=" => Operator::NotEquals,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => return unexpected(Token::Word(other), "in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        check_values(key, operator, &values)?;
        Ok(Requirement::new(key, operator, values.into_iter().map(str::to_owned).collect()))
    }

    fn exact_value(&mut self) -> Result<&'a str, Error> {
        match self.peek() {
            Token::End => Ok(""),
            Token::Symbol(",") => Ok(""),
            Token::Word(word) => {
                self.at += 1;
                Ok(word)
            }
            token => unexpected(token, "identifier"),
        }
    }

    fn values(&mut self) -> Result<Vec<&'a str>, Error> {
        let open = self.next();
        if !open.is("(") {
            return Err(Error(format!("found '{}' expected: '('", open.text())));
        }
        let mut values = Vec::new();
        match self.peek() {
            Token::Word(_) | Token::Symbol(",") => {}
            Token::Symbol(")") => {
                self.at += 1;
                return Ok(vec![""]);
            }
            token => return unexpected(token, "',', ')' or identifier"),
        }
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word);
                    match self.next() {
                        Token::Symbol(",") => {
                            if self.peek().is(")") {
                                values.push("");
                            }
                        }
                        Token::Symbol(")") => return Ok(values),
                        token => return unexpected(token, "',' or ')'"),
                    }
                }
                Token::Symbol(",") => {
                    values.push("");
                    if self.peek().is(")") {
                        self.at += 1;
                        values.push("");
                        return Ok(values);
                    }
                }
                Token::Symbol(")") => return Ok(values),
                token => return unexpected(token, "',', or identifier"),
            }
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[&str]) -> Result<(), Error> {
    let numbers = matches!(operator, Operator::GreaterThan | Operator::LessThan);
    for (index, value) in values.iter().enumerate() {
        let problem = if numbers && value.parse::<i64>().is_err() {
            let field = format!("values[{index}]");
            Some((field, "for 'Gt', 'Lt' operators, the value must be an integer".to_owned()))
        } else {
            names::label_value(value).into_iter().next().map(|text| (format!("values[{index}][{key}]"), text))
        };
        if let Some((field, text)) = problem {
            return Err(Error(format!("{field}: Invalid value: {}: {text}", Shown::Text(value))));
        }
    }
    Ok(())
}
