//! JSONPath as columns of tables use it: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `..name`,
//! `['a.b']`, `[0]`, `[1:3]`, `[-1]`, `[*]`, unions of names or numbers. What `kubectl` has beyond it (ranges, text
//! between paths) is left out.

use api::Tree;

/// A path that is parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Union(Vec<JsonPath>),
    Filter { left: Operand, compare: Option<(Compare, Operand)> },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Tree),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl JsonPath {
    /// Parses a path without the braces that `kubectl` has around it.
    pub fn parse(text: &str) -> Result<JsonPath, Error> {
        let text = text.strip_prefix('$').unwrap_or(text);
        if text.len() > MAX_LENGTH {
            return Err(Error(format!("a path may have at most {MAX_LENGTH} bytes")));
        }
        let mut parser = Parser { chars: text.chars().collect(), at: 0, in_filter: false };
        let steps = parser.steps()?;
        match parser.peek() {
            None => Ok(JsonPath { steps }),
            Some(other) => Err(Error(format!("unrecognized character in action: {other:?}"))),
        }
    }

    /// Everything that the path leads to; missing members lead nowhere.
    pub fn find<'t>(&self, tree: &'t Tree) -> Vec<&'t Tree> {
        self.steps.iter().fold(vec![tree], |found, step| {
            found.into_iter().flat_map(|tree| step.below(tree)).take(MAX_RESULTS).collect()
        })
    }
}

/// Each step takes its time for each object that is shown.
const MAX_LENGTH: usize = 4096;

/// More is of no use in a cell, and a recursive path could find each value at each depth.
const MAX_RESULTS: usize = 10_000;

impl Step {
    fn below<'t>(&self, tree: &'t Tree) -> Vec<&'t Tree> {
        match (self, tree) {
            (Step::Field(name), Tree::Object(object)) => object.get(name).into_iter().collect(),
            (Step::Wildcard, Tree::Object(object)) => object.values().collect(),
            (Step::Wildcard, Tree::Array(items)) => items.iter().collect(),
            (Step::Recursive, tree) => {
                let mut all = Vec::new();
                descendants(tree, &mut all);
                all
            }
            (Step::Slice { start, end, step }, Tree::Array(items)) => slice(items, *start, *end, *step),
            (Step::Union(paths), tree) => paths.iter().flat_map(|path| path.find(tree)).collect(),
            (Step::Filter { left, compare }, Tree::Array(items)) => {
                items.iter().filter(|item| matches(left, compare.as_ref(), item)).collect()
            }
            (Step::Filter { left, compare }, Tree::Object(object)) => {
                object.values().filter(|item| matches(left, compare.as_ref(), item)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn descendants<'t>(tree: &'t Tree, all: &mut Vec<&'t Tree>) {
    if all.len() >= MAX_RESULTS {
        return;
    }
    all.push(tree);
    match tree {
        Tree::Object(object) => object.values().for_each(|below| descendants(below, all)),
        Tree::Array(items) => items.iter().for_each(|below| descendants(below, all)),
        _ => {}
    }
}

fn slice(items: &[Tree], start: Option<i64>, end: Option<i64>, step: i64) -> Vec<&Tree> {
    let length = items.len() as i64;
    let place = |index: i64| if index < 0 { index + length } else { index };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)).min(length));
    let range = start.max(0)..end.max(0);
    range
        .step_by(usize::try_from(step.max(1)).unwrap_or(1))
        .filter_map(|index| items.get(index as usize))
        .collect()
}

fn matches(left: &Operand, compare: Option<&(Compare, Operand)>, item: &Tree) -> bool {
    let found = |operand: &Operand| match operand {
        Operand::Value(value) => Some(value.clone()),
        Operand::Path(path) => path.find(item).first().map(|found| (*found).clone()),
    };
    let Some((compare, right)) = compare else { return found(left).is_some() };
    let (Some(left), Some(right)) = (found(left), found(right)) else { return false };
    let order = match (&left, &right) {
        (Tree::Number(left), Tree::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Tree::String(left), Tree::String(right)) => Some(left.cmp(right)),
        (left, right) => (left == right).then_some(std::cmp::Ordering::Equal),
    };
    match compare {
        Compare::Equal => order.is_some_and(|order| order.is_eq()),
        Compare::NotEqual => !order.is_some_and(|order| order.is_eq()),
        Compare::Less => order.is_some_and(|order| order.is_lt()),
        Compare::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Compare::Greater => order.is_some_and(|order| order.is_gt()),
        Compare::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    /// Filters have none in them: kubectl ends one at the first `)`.
    in_filter: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn takes(&mut self, text: &str) -> bool {
        let rest = self.chars.get(self.at..).unwrap_or_default();
        let found = rest.iter().copied().take(text.chars().count()).eq(text.chars());
        if found {
            self.at += text.chars().count();
        }
        found
    }

    /// What a backslash is before, if anything.
    fn escaped(&mut self) -> Option<char> {
        self.at += 1;
        self.peek()
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.chars.len());
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn steps(&mut self) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        loop {
            if self.takes("..") {
                if steps.last() == Some(&Step::Recursive) {
                    return Err(Error("invalid multiple recursive descent".to_owned()));
                }
                steps.push(Step::Recursive);
                if !matches!(self.peek(), Some('[')) {
                    steps.extend(self.name());
                }
            } else if self.takes(".") {
                steps.extend(self.name());
            } else if self.takes("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    /// A name, in which a backslash is before what would end it.
    fn name(&mut self) -> Option<Step> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '.' | '[' | ']' | ')' | ' ' | '=' | '!' | '<' | '>' | ',' | '|' | '}' => break,
                '\\' => name.extend(self.escaped()),
                c => name.push(c),
            }
            self.advance();
        }
        match name.as_str() {
            "" => None,
            "*" => Some(Step::Wildcard),
            _ => Some(Step::Field(name)),
        }
    }

    /// What stands in brackets, behind the first.
    fn bracket(&mut self) -> Result<Step, Error> {
        self.space();
        if self.takes("?(") {
            if std::mem::replace(&mut self.in_filter, true) {
                return Err(Error("unterminated filter".to_owned()));
            }
            let step = self.filter()?;
            self.in_filter = false;
            self.space();
            return match self.takes(")]") {
                true => Ok(step),
                false => Err(Error("unterminated filter".to_owned())),
            };
        }
        if self.takes("*]") {
            return Ok(Step::Wildcard);
        }
        let mut parts = Vec::new();
        loop {
            self.space();
            parts.push(self.part()?);
            self.space();
            if self.takes("]") {
                break;
            }
            if !self.takes(",") {
                return Err(Error("unterminated array".to_owned()));
            }
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Step::Union(parts.into_iter().map(|step| JsonPath { steps: vec![step] }).collect()),
        })
    }

    /// A name in quotes, or numbers with colons between.
    fn part(&mut self) -> Result<Step, Error> {
        if let Some(quote @ ('\'' | '"')) = self.peek() {
            return Ok(Step::Field(self.quoted(quote)?));
        }
        let mut numbers = vec![self.number()];
        while self.takes(":") {
            numbers.push(self.number());
        }
        match numbers.as_slice() {
            [Some(index)] => {
                let end = (*index != -1).then(|| index.saturating_add(1));
                Ok(Step::Slice { start: Some(*index), end, step: 1 })
            }
            [start, end] => Ok(Step::Slice { start: *start, end: *end, step: 1 }),
            [start, end, step] if step.is_none_or(|step| step > 0) => {
                Ok(Step::Slice { start: *start, end: *end, step: step.unwrap_or(1) })
            }
            _ => Err(Error("invalid array index".to_owned())),
        }
    }

    fn number(&mut self) -> Option<i64> {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect::<String>().parse().ok()
    }

    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(Error("unterminated quoted string".to_owned())),
                Some('\\') => text.extend(self.escaped()),
                Some(c) if c == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
            self.advance();
        }
    }

    fn filter(&mut self) -> Result<Step, Error> {
        self.space();
        let left = self.operand()?;
        self.space();
        let operators = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let Some((_, compare)) = operators.iter().find(|(text, _)| self.takes(text)) else {
            return Ok(Step::Filter { left, compare: None });
        };
        self.space();
        let right = self.operand()?;
        Ok(Step::Filter { left, compare: Some((*compare, right)) })
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        match self.peek() {
            Some('@') => {
                self.at += 1;
                Ok(Operand::Path(JsonPath { steps: self.steps()? }))
            }
            Some(quote @ ('\'' | '"')) => Ok(Operand::Value(self.quoted(quote)?.into())),
            _ => {
                let start = self.at;
                while self.peek().is_some_and(|c| !matches!(c, ')' | ' ' | '=' | '!' | '<' | '>')) {
                    self.at += 1;
                }
                let word: String = self.chars[start..self.at].iter().collect();
                let value = match word.as_str() {
                    "true" => Some(Tree::Bool(true)),
                    "false" => Some(Tree::Bool(false)),
                    word => word.parse::<i64>().map(Tree::from).or(word.parse::<f64>().map(Tree::from)).ok(),
                };
                value
                    .map(Operand::Value)
                    .ok_or_else(|| Error(format!("unrecognized word {word:?} in a filter")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn paths_lead_to_values() {
        let tree = json!({
            "spec": {"replicas": 3, "list": [1, 2, 3], "a.b": "dotted"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False", "n": 5}]},
        });
        let check = |path: &str, expect: Tree| {
            let found = JsonPath::parse(path).unwrap();
            let found: Vec<Tree> = found.find(&tree).into_iter().cloned().collect();
            assert_eq!(Tree::Array(found), expect, "{path}");
        };
        check(".spec.replicas", json!([3]));
        check("$.spec.replicas", json!([3]));
        check(".spec.missing.deeper", json!([]));
        check(".spec['a.b']", json!(["dotted"]));
        check(r".spec.a\.b", json!(["dotted"]));
        check(".spec.list[0]", json!([1]));
        check(".spec.list[-1]", json!([3]));
        check(".spec.list[-1:]", json!([3]));
        check(".spec.list[0:2]", json!([1, 2]));
        check(".spec.list[0,2]", json!([1, 3]));
        check(".spec.list[*]", json!([1, 2, 3]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type == 'Other')].status", json!(["False"]));
        check(".status.conditions[?(@.n)].type", json!(["Other"]));
        check(".status.conditions[?(@.n>4)].type", json!(["Other"]));
        check("..type", json!(["Ready", "Other"]));
        check(".status.conditions[*].type", json!(["Ready", "Other"]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [".a[", ".a[?(@.b==)]", ".a]", ".a['b]", ".a[x]", r".a['b\", "...."] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
        let nested = format!(".a{}", "[?(@".repeat(1_000));
        assert_eq!(JsonPath::parse(&nested), Err(Error("unterminated filter".to_owned())));
        assert!(JsonPath::parse(&".a".repeat(100_000)).is_err());
    }

    #[test]
    fn any_beginning_of_a_path_is_one_or_refused() {
        let whole = r#"$..a\.b['c\'d'][?(@.e\.f>="g\"h")][-9223372036854775807:9223372036854775807:1][9223372036854775807,-1].*"#;
        let tree = json!({"a.b": {"c'd": [{"e.f": "z"}]}});
        JsonPath::parse(whole).unwrap();
        for (end, _) in whole.char_indices() {
            for tail in ["", "\\", "\\\\", "[?(@.x\\"] {
                if let Ok(path) = JsonPath::parse(&format!("{}{tail}", &whole[..end])) {
                    path.find(&tree);
                }
            }
        }
        assert_eq!(JsonPath::parse(r".spec.a\"), JsonPath::parse(".spec.a"));
    }
}
