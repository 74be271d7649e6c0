//! Texts: plain where that reads back as the same text, else quoted or, of several lines, as a block.

use super::page::{Page, is_break};

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// A key, on one line.
pub(super) fn key(text: &str, page: &mut Page<'_>) {
    match style(text, true) {
        Style::Plain => folded(text, Style::Plain, None, page),
        Style::Single => folded(text, Style::Single, None, page),
        _ => double(text, None, page),
    }
}

/// A value; the lines that it is folded into stand at `indent`.
pub(super) fn text(text: &str, indent: usize, page: &mut Page<'_>) {
    match style(text, false) {
        Style::Literal => literal(text, indent, page),
        Style::Double => double(text, Some(indent), page),
        style => folded(text, style, Some(indent), page),
    }
}

fn style(text: &str, is_key: bool) -> Style {
    let traits = Traits::of(text);
    if text.contains('\n') {
        return if traits.may_be_block && !is_key { Style::Literal } else { Style::Double };
    }
    if !api::decode::is_yaml_text(text) {
        return Style::Double;
    }
    if traits.may_be_plain {
        Style::Plain
    } else if traits.may_be_single {
        Style::Single
    } else {
        Style::Double
    }
}

/// In which styles a text may be written.
struct Traits {
    may_be_plain: bool,
    may_be_single: bool,
    may_be_block: bool,
}

impl Traits {
    fn of(text: &str) -> Traits {
        let is_edge = |edge: Option<char>| edge.is_some_and(|edge| edge == ' ' || is_break(edge));
        let mut special = false;
        let (mut broken, mut break_then_space, mut space_then_break) = (false, false, false);
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let mut characters = text.chars().peekable();
        let mut before = None;
        while let Some(character) = characters.next() {
            let ends = characters.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            indicators |= match (character, before) {
                (
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                    | '`',
                    None,
                ) => true,
                ('?' | '-', None) | (':', _) => ends,
                ('#', Some(before)) => matches!(before, ' ' | '\t') || is_break(before),
                _ => false,
            };
            special |= !is_printable(character);
            broken |= is_break(character);
            break_then_space |= character == ' ' && before.is_some_and(is_break);
            space_then_break |= is_break(character) && before == Some(' ');
            before = Some(character);
        }
        let edges = is_edge(text.chars().next()) || is_edge(before);
        let spoiled = space_then_break || special;
        Traits {
            may_be_plain: !edges && !break_then_space && !spoiled && !broken && !indicators,
            may_be_single: !break_then_space && !spoiled,
            may_be_block: !text.is_empty() && before != Some(' ') && !spoiled,
        }
    }
}

/// What may stand unescaped. Line breaks other than `\n` need not be.
fn is_printable(character: char) -> bool {
    matches!(character, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && character != '\u{feff}'
}

/// Plain and single-quoted texts. Each break counts double, and one space of a full line becomes a break.
fn folded(text: &str, style: Style, indent: Option<usize>, page: &mut Page<'_>) {
    page.space();
    let quoted = style == Style::Single;
    if quoted {
        page.put('\'');
    }
    let (mut spaces, mut breaks) = (false, false);
    let mut characters = text.chars().peekable();
    let mut first = true;
    while let Some(character) = characters.next() {
        if character == ' ' {
            let next = characters.peek().copied();
            let at_edge = quoted && (first || next.is_none());
            match indent {
                Some(indent) if !spaces && page.is_full() && next != Some(' ') && !at_edge => {
                    page.word_ended();
                    page.new_line(indent);
                }
                _ => page.put(' '),
            }
            spaces = true;
        } else if is_break(character) {
            page.line_break(character);
            breaks = true;
        } else {
            if breaks && let Some(indent) = indent {
                page.new_line(indent);
            }
            if quoted && character == '\'' {
                page.put('\'');
            }
            page.put(character);
            page.word_ended();
            (spaces, breaks) = (false, false);
        }
        first = false;
    }
    if quoted {
        page.put('\'');
    }
    page.word_ended();
}

fn double(text: &str, indent: Option<usize>, page: &mut Page<'_>) {
    page.space();
    page.put('"');
    let mut spaces = false;
    let mut characters = text.chars().peekable();
    let mut first = true;
    // a mark of the byte order is taken for the start of what has another one
    let marked = text.starts_with('\u{feff}');
    while let Some(character) = characters.next() {
        if marked || !is_printable(character) || is_break(character) || matches!(character, '"' | '\\') {
            page.plain(&escaped(character));
            spaces = false;
        } else if character == ' ' {
            let next = characters.peek().copied();
            match indent {
                Some(indent) if !spaces && page.is_full() && !first && next.is_some() => {
                    page.word_ended();
                    page.new_line(indent);
                    if next == Some(' ') {
                        page.put('\\');
                    }
                }
                _ => page.put(' '),
            }
            spaces = true;
        } else {
            page.put(character);
            spaces = false;
        }
        first = false;
    }
    page.put('"');
    page.word_ended();
}

fn escaped(character: char) -> String {
    let short = match character {
        '\0' => "0",
        '\x07' => "a",
        '\x08' => "b",
        '\t' => "t",
        '\n' => "n",
        '\x0b' => "v",
        '\x0c' => "f",
        '\r' => "r",
        '\x1b' => "e",
        '"' => "\"",
        '\\' => "\\",
        '\u{85}' => "N",
        '\u{a0}' => "_",
        '\u{2028}' => "L",
        '\u{2029}' => "P",
        _ => {
            let code = u32::from(character);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

fn literal(text: &str, indent: usize, page: &mut Page<'_>) {
    page.space();
    page.put('|');
    if text.starts_with(|first: char| first == ' ' || is_break(first)) {
        page.put('2');
    }
    let mut last = text.chars().rev();
    match (last.next().is_some_and(is_break), last.next().is_none_or(is_break)) {
        (false, _) => page.put('-'),
        (true, true) => page.put('+'),
        (true, false) => {}
    }
    page.line_break('\n');
    let mut breaks = true;
    for character in text.chars() {
        if is_break(character) {
            page.line_break(character);
        } else {
            if breaks {
                page.new_line(indent);
            }
            page.put(character);
            page.word_ended();
        }
        breaks = is_break(character);
    }
}
