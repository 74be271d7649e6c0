//! Interned text. Node names, node labels, taints, resource, image and scheduler names and the reasons of
//! rejections come from a small vocabulary, and are compared far more often than made. Pod labels are not
//! interned: theirs is without bound, and symbols are never given back.

use std::fmt;
use std::sync::LazyLock;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

/// A text by number. The empty text is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Symbol(u32);

struct Table {
    numbers: FxHashMap<&'static str, u32>,
    texts: Vec<&'static str>,
}

static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(|| {
    let mut numbers = FxHashMap::default();
    numbers.insert("", 0);
    RwLock::new(Table { numbers, texts: vec![""] })
});

impl Symbol {
    pub fn new(text: &str) -> Symbol {
        if let Some(number) = TABLE.read().numbers.get(text) {
            return Symbol(*number);
        }
        let mut table = TABLE.write();
        if let Some(number) = table.numbers.get(text) {
            return Symbol(*number);
        }
        let text: &'static str = Box::leak(text.into());
        let number = table.texts.len() as u32;
        table.texts.push(text);
        table.numbers.insert(text, number);
        Symbol(number)
    }

    pub fn as_str(self) -> &'static str {
        TABLE.read().texts[self.0 as usize]
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}
