//! The nodes of a document, in a list: one stands before those inside it.

use std::collections::HashMap;

use granit_parser::{ErrorKind as Kind, Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

use super::super::MAX_DEPTH;

pub(super) struct Item {
    pub content: Content,
    /// From 1.
    pub line: usize,
}

pub(super) enum Content {
    Scalar(Scalar),
    /// Places of the members.
    Sequence(Vec<usize>),
    /// Places of keys and values, by turns.
    Mapping(Vec<usize>),
    /// The place of what it stands for, and its name.
    Alias(usize, String),
}

pub(super) struct Scalar {
    pub text: String,
    /// Without quotes and without a tag: its text says what it is.
    pub is_plain: bool,
    pub tag: Option<String>,
}

/// The nodes of the first document, itself first; none where there is nothing.
pub(super) fn items(text: &str) -> Result<Vec<Item>, String> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut list = List::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| list.problem(&error, text))?;
        if let Event::DocumentEnd = event {
            break;
        }
        list.take(event, span)?;
    }
    Ok(list.items)
}

#[derive(Default)]
struct List {
    items: Vec<Item>,
    /// Collections that are not at their end.
    open: Vec<(usize, StructureStyle)>,
    anchors: HashMap<usize, (usize, String)>,
    last: usize,
}

impl List {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                return Err("found incompatible YAML document".to_owned());
            }
            Event::Scalar(text, style, _, tag) => {
                let is_plain = tag.is_none() && style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.into_owned(), is_plain, tag: tag.as_deref().map(whole) };
                self.push(Content::Scalar(scalar), line);
            }
            Event::SequenceStart(style, ..) => self.open(Content::Sequence(Vec::new()), style, line)?,
            Event::MappingStart(style, ..) => self.open(Content::Mapping(Vec::new()), style, line)?,
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Anchor(id, name) => {
                self.anchors.insert(id, (self.last, name.into_owned()));
            }
            Event::Alias(id) => {
                let (place, name) = self.anchors.get(&id).cloned().unwrap_or_default();
                self.push(Content::Alias(place, name), line);
            }
            Event::UnresolvedAlias(name) => return Err(format!("unknown anchor '{name}' referenced")),
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, content: Content, line: usize) {
        self.last = self.items.len();
        self.items.push(Item { content, line });
        let around = self.open.last().map(|(place, _)| &mut self.items[*place].content);
        if let Some(Content::Sequence(members) | Content::Mapping(members)) = around {
            members.push(self.last);
        }
    }

    fn open(&mut self, content: Content, style: StructureStyle, line: usize) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err("exceeded max depth of 10000".to_owned());
        }
        self.push(content, line);
        self.open.push((self.last, style));
        Ok(())
    }

    /// What is wrong in upstream's words, with the line that it names: its parser counts from 0 and its scanner from 1.
    fn problem(&self, error: &ScanError, text: &str) -> String {
        let at = error.marker().line();
        let (words, line, first) = match scanned(error.kind()) {
            Some((words, further)) => (words, at + further, 1),
            None => match error.kind() {
                Kind::UnclosedFlowCollection { .. } => (self.expected(), text.matches('\n').count(), 0),
                kind => (self.parsed(kind), at.saturating_sub(1), 0),
            },
        };
        let words = if words.is_empty() { error.kind().to_string() } else { words.to_owned() };
        if line == first { words } else { format!("line {line}: {words}") }
    }

    /// What should have come in the collection that is open.
    fn expected(&self) -> &'static str {
        match self.open.last() {
            Some((place, StructureStyle::Flow)) => match self.items[*place].content {
                Content::Sequence(_) => "did not find expected ',' or ']'",
                _ => "did not find expected ',' or '}'",
            },
            _ => "did not find expected key",
        }
    }

    /// The words of the parser, empty for what has none.
    fn parsed(&self, kind: &Kind) -> &'static str {
        match kind {
            Kind::ExpectedNodeContent | Kind::UnexpectedEofImplicitFlowMapping => {
                "did not find expected node content"
            }
            Kind::ExpectedBlockMappingKey
            | Kind::UnexpectedEofBlockMapping
            | Kind::InvalidTrailingSingleQuotedScalar
            | Kind::InvalidTrailingDoubleQuotedScalar
            | Kind::ExpectedFlowMappingSeparator
            | Kind::UnexpectedEofFlowMapping
            | Kind::ExpectedFlowSequenceSeparator
            | Kind::UnexpectedEofFlowSequence
            | Kind::MismatchedFlowCollectionEnd { .. }
            | Kind::MisplacedFlowCollectionEnd
            | Kind::InvalidBlockScalarIndent => self.expected(),
            Kind::ExpectedBlockSequenceEntry => "did not find expected '-' indicator",
            Kind::UndeclaredTagHandle => "found undefined tag handle",
            Kind::UnsupportedYamlMajorVersion => "found incompatible YAML document",
            Kind::DuplicateVersionDirective => "found duplicate %YAML directive",
            Kind::DuplicateTagDirective => "found duplicate %TAG directive",
            Kind::ExpectedDocumentStart => "did not find expected <document start>",
            _ => "",
        }
    }
}

fn whole(tag: &Tag) -> String {
    format!("{}{}", tag.handle(), tag.suffix())
}

/// The words of the scanner, and how far behind the place of the error it says that it is.
fn scanned(kind: &Kind) -> Option<(&'static str, usize)> {
    let words = match kind {
        Kind::UnexpectedCharacter { .. }
        | Kind::TabNotAllowed
        | Kind::TabInBlockIndentation
        | Kind::TabInIndentation => "found character that cannot start any token",
        Kind::MappingValueNotAllowed => "mapping values are not allowed in this context",
        Kind::MappingKeyNotAllowed => "mapping keys are not allowed in this context",
        Kind::BlockSequenceEntryNotAllowed | Kind::BlockEntryInFlowCollection => {
            "block sequence entries are not allowed in this context"
        }
        Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => return Some(("could not find expected ':'", 1)),
        Kind::UnclosedQuotedScalar | Kind::InvalidQuotedScalarIndent => "found unexpected end of stream",
        Kind::DocumentIndicatorInQuotedScalar => "found unexpected document indicator",
        Kind::UnknownQuotedScalarEscape => "found unknown escape character",
        Kind::InvalidQuotedScalarHexEscape => "did not find expected hexdecimal number",
        Kind::InvalidLowSurrogate
        | Kind::MissingLowSurrogate
        | Kind::UnpairedLowSurrogate
        | Kind::InvalidLowSurrogateHexEscape
        | Kind::InvalidUnicodeEscape => "found invalid Unicode character escape code",
        Kind::TabInPlainScalar => "found a tab character that violates indentation",
        Kind::TabAtBlockScalarStart => {
            return Some(("found a tab character where an indentation space is expected", 1));
        }
        Kind::ZeroBlockScalarIndent => "found an indentation indicator equal to 0",
        Kind::InvalidBlockScalarHeader | Kind::InvalidDirectiveTerminator => {
            "did not find expected comment or line break"
        }
        Kind::MissingAnchorOrAliasName => "did not find expected alphabetic or numeric character",
        Kind::InvalidTagTerminator => "did not find expected whitespace or line break",
        Kind::MissingTagUri => "did not find expected tag URI",
        Kind::UnclosedVerbatimTag => "did not find the expected '>'",
        Kind::MissingDirectiveName => "could not find expected directive name",
        Kind::RecursionLimitExceeded => "exceeded max depth of 10000",
        _ => return None,
    };
    Some((words, 0))
}
