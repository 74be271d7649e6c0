//! From text to syntax trees. The grammar and its messages are the public parser's; limits that keep hostile text from
//! exhausting the stack stand here, macros are expanded on the way into our own tree.

use std::sync::Arc;

use cel_parser::common::ast::{self, EntryExpr, LiteralValue, SourceInfo};

use crate::macros::Macros;
use crate::source::{Issues, Place, Source};
use crate::syntax::{Call, Entry, Expr, Field, Id, Item, Kind, Literal};
use crate::syntax_errors;

/// Characters of an expression.
const MAX_SIZE: usize = 100_000;
/// Nesting of brackets and conditionals, and of operators.
const MAX_DEPTH: usize = 250;
/// Nodes that macros may make copies of.
const MAX_NODES: usize = 200_000;
/// Depth of the tree with all macros expanded.
const MAX_TREE: usize = 400;
/// Above this estimated depth the text is not given to the parser, which recurses once per operator of a chain.
const MAX_CHAIN: usize = 2_000;
/// Below this estimated depth the parser runs on the caller's stack.
const SHALLOW: usize = 16;
/// Stack of the thread that parses deep text. It is reserved, not touched, unless it is needed.
const DEEP_STACK: usize = 256 << 20;

/// Parses a text and expands its macros.
pub(crate) fn parse(text: &str, macros: Macros) -> Result<(Expr, Source), Issues> {
    let mut issues = Issues::new(text);
    let refuse = |mut issues: Issues, message: String| {
        issues.report(Place::NONE, message);
        issues
    };
    let size = text.chars().count();
    if size > MAX_SIZE {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_SIZE}");
        return Err(refuse(issues, message));
    }
    let depth = crate::depth::estimate(text);
    if depth.nesting >= MAX_DEPTH {
        return Err(refuse(issues, format!("expression recursion limit exceeded: {MAX_DEPTH}")));
    }
    if depth.total > MAX_CHAIN {
        return Err(refuse(issues, "max recursion depth exceeded".to_owned()));
    }
    let lower = || {
        let parsed = parser().parse_with_source_info(text);
        let (tree, places) = parsed.map_err(|errors| syntax_errors::issues(text, &errors))?;
        let mut lowering = Lowering::new(text, places, macros);
        let tree = lowering.expr(tree);
        Ok((tree, lowering))
    };
    let (tree, lowering) = if depth.total <= SHALLOW {
        lower()?
    } else {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(DEEP_STACK).spawn_scoped(scope, lower);
            match thread.map(|thread| thread.join()) {
                Ok(Ok(parsed)) => parsed,
                _ => Err(refuse(Issues::new(text), "expression could not be parsed".to_owned())),
            }
        })?
    };
    let Lowering { source, reports, deepest, .. } = lowering;
    if deepest > MAX_DEPTH || tree.depth() > MAX_TREE {
        return Err(refuse(issues, "max recursion depth exceeded".to_owned()));
    }
    for (id, message) in reports {
        issues.report(source.place(id), message);
    }
    issues.into_result()?;
    Ok((tree, source))
}

fn parser() -> cel_parser::parser::Parser {
    let limit = u16::try_from(MAX_DEPTH).unwrap_or(u16::MAX);
    cel_parser::Env::default().parser().enable_ident_escape_syntax(true).max_recursion_depth(limit)
}

/// Copies the parser's tree into ours.
pub(crate) struct Lowering {
    source: Source,
    /// Characters before each byte offset, for texts that are not ASCII.
    characters: Option<Vec<u32>>,
    places: SourceInfo,
    macros: Macros,
    reports: Vec<(Id, String)>,
    depth: usize,
    deepest: usize,
}

impl Lowering {
    fn new(text: &str, places: SourceInfo, macros: Macros) -> Self {
        let characters = (!text.is_ascii()).then(|| {
            let mut table = Vec::with_capacity(text.len() + 1);
            for (count, c) in (0..).zip(text.chars()) {
                table.extend(std::iter::repeat_n(count, c.len_utf8()));
            }
            table.push(table.last().map_or(0, |last| last + 1));
            table
        });
        let source = Source { text: text.to_owned(), offsets: vec![0] };
        Lowering { source, characters, places, macros, reports: Vec::new(), depth: 0, deepest: 0 }
    }

    /// A new node at the place of an existing one.
    pub fn node_at(&mut self, id: Id, kind: Kind) -> Expr {
        let offset = self.source.offset(id);
        self.source.offsets.push(offset);
        Expr { id: self.source.offsets.len() - 1, kind }
    }

    /// Whether macros have made so many nodes that they may copy no more.
    pub fn is_full(&self) -> bool {
        self.source.offsets.len() > MAX_NODES
    }

    pub fn report(&mut self, id: Id, message: String) {
        self.reports.push((id, message));
    }

    fn id(&mut self, parsed: u64) -> Id {
        let start = self.places.offset_for(parsed).map_or(0, |(start, _)| start);
        let offset = match &self.characters {
            None => start,
            Some(table) => table.get(start as usize).copied().unwrap_or(start),
        };
        self.source.offsets.push(offset);
        self.source.offsets.len() - 1
    }

    fn expr(&mut self, parsed: ast::IdedExpr) -> Expr {
        let counts = matches!(&parsed.expr, ast::Expr::Select(_))
            || matches!(&parsed.expr, ast::Expr::Call(call) if call.target.is_some()
                || (call.func_name.starts_with('_') && !matches!(call.func_name.as_str(), "_&&_" | "_||_"))
                || call.func_name == "@in");
        self.depth += usize::from(counts);
        self.deepest = self.deepest.max(self.depth);
        let expr = self.counted(parsed);
        self.depth -= usize::from(counts);
        expr
    }

    fn counted(&mut self, parsed: ast::IdedExpr) -> Expr {
        let id = self.id(parsed.id);
        let kind = match parsed.expr {
            ast::Expr::Unspecified => Kind::Literal(Literal::Null),
            ast::Expr::Literal(literal) => {
                let literal = lower_literal(literal);
                self.move_to_sign(id, &literal);
                Kind::Literal(literal)
            }
            ast::Expr::Ident(name) => Kind::Ident(Arc::from(name)),
            ast::Expr::Select(select) => Kind::Select {
                operand: Box::new(self.expr(*select.operand)),
                field: Arc::from(select.field),
                test: select.test,
            },
            ast::Expr::Call(call) => return self.call(id, call),
            ast::Expr::List(list) => Kind::List(self.items(list)),
            ast::Expr::Map(map) => Kind::Map(self.entries(map.entries)),
            ast::Expr::Struct(message) => {
                Kind::Struct { name: message.type_name, fields: self.fields(message.entries) }
            }
            // Only macros make them, and the parser is given none.
            ast::Expr::Comprehension(_) => Kind::Literal(Literal::Null),
        };
        Expr { id, kind }
    }

    /// A negative number begins at its sign, where the parser has the place of its digits.
    fn move_to_sign(&mut self, id: Id, literal: &Literal) {
        let is_negative = match literal {
            Literal::Int(value) => *value < 0,
            Literal::Double(value) => value.is_sign_negative(),
            _ => false,
        };
        if !is_negative {
            return;
        }
        let offset = self.source.offset(id);
        let before: Vec<char> = self.source.text.chars().take(offset as usize).collect();
        if let Some(sign) = before.iter().rposition(|c| *c == '-') {
            self.source.offsets[id] = sign as u32;
        }
    }

    fn call(&mut self, id: Id, call: ast::CallExpr) -> Expr {
        let target = call.target.map(|target| Box::new(self.expr(*target)));
        let args: Vec<Expr> = call.args.into_iter().map(|arg| self.expr(arg)).collect();
        let call = Call { function: call.func_name, target, args };
        match self.macros.find(&call) {
            None => Expr { id, kind: Kind::Call(call) },
            Some(expand) => expand(self, id, call),
        }
    }

    fn items(&mut self, list: ast::ListExpr) -> Vec<Item> {
        let optional = list.optional_indices;
        let elements = list.elements.into_iter().enumerate();
        elements
            .map(|(at, value)| Item { value: self.expr(value), optional: optional.contains(&at) })
            .collect()
    }

    fn entries(&mut self, entries: Vec<ast::IdedEntryExpr>) -> Vec<Entry> {
        let mut lowered = Vec::with_capacity(entries.len());
        for entry in entries {
            if let EntryExpr::MapEntry(entry) = entry.expr {
                let (key, value) = (self.expr(entry.key), self.expr(entry.value));
                lowered.push(Entry { key, value, optional: entry.optional });
            }
        }
        lowered
    }

    fn fields(&mut self, entries: Vec<ast::IdedEntryExpr>) -> Vec<Field> {
        let mut lowered = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = self.id(entry.id);
            if let EntryExpr::StructField(field) = entry.expr {
                let (name, optional) = (Arc::from(field.field), field.optional);
                lowered.push(Field { id, name, value: self.expr(field.value), optional });
            }
        }
        lowered
    }
}

fn lower_literal(literal: LiteralValue) -> Literal {
    match literal {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(value) => Literal::Bool(value.into_inner()),
        LiteralValue::Int(value) => Literal::Int(value.into_inner()),
        LiteralValue::UInt(value) => Literal::Uint(value.into_inner()),
        LiteralValue::Double(value) => Literal::Double(value.into_inner()),
        LiteralValue::String(value) => Literal::String(Arc::from(value.inner())),
        LiteralValue::Bytes(value) => Literal::Bytes(Arc::from(value.inner())),
    }
}
