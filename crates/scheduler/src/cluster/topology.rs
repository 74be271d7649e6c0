//! Topology domains by number: for a label key, the domain of each row. Counts are kept by these numbers, so that a
//! filter finds a node's count without comparing labels.

use rustc_hash::FxHashMap;

use super::{Node, Row, Symbol};

/// The node lacks the key.
pub const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub struct Topology {
    numbers: FxHashMap<Symbol, u32>,
    /// By number: the label's value, and on how many rows it is.
    domains: Vec<(Symbol, u32)>,
    free: Vec<u32>,
    rows: Vec<u32>,
}

impl Topology {
    pub fn domain(&self, row: usize) -> u32 {
        self.rows.get(row).copied().unwrap_or(NONE)
    }

    fn set(&mut self, row: usize, value: Option<&Symbol>) {
        if self.rows.len() <= row {
            self.rows.resize(row + 1, NONE);
        }
        let old = self.rows[row];
        let new = match value {
            Some(value) => self.number(value),
            None => NONE,
        };
        if new != NONE {
            self.domains[new as usize].1 += 1;
        }
        self.rows[row] = new;
        if old != NONE {
            let (value, rows) = &mut self.domains[old as usize];
            *rows -= 1;
            if *rows == 0 {
                self.numbers.remove(&std::mem::take(value));
                self.free.push(old);
            }
        }
    }

    fn number(&mut self, value: &Symbol) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.domains.push((Symbol::default(), 0));
            (self.domains.len() - 1) as u32
        });
        self.domains[number as usize] = (value.clone(), 0);
        self.numbers.insert(value.clone(), number);
        number
    }
}

/// The topologies that anybody counts by.
#[derive(Debug, Default)]
pub struct Topologies(FxHashMap<Symbol, Topology>);

impl Topologies {
    /// A node came, changed, or went away.
    pub fn set(&mut self, row: usize, node: Option<&Node>) {
        for (key, topology) in &mut self.0 {
            topology.set(row, node.and_then(|node| node.labels.get(key)));
        }
    }

    /// The topology of a key, made from all rows when it is first asked for.
    pub fn get(&mut self, key: &Symbol, rows: &[Row]) -> &Topology {
        self.0.entry(key.clone()).or_insert_with(|| {
            let mut topology = Topology::default();
            for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.present) {
                topology.set(index, row.node.labels.get(key));
            }
            topology
        })
    }

    pub fn retain(&mut self, is_used: impl Fn(&Symbol) -> bool) {
        self.0.retain(|key, _| is_used(key));
    }
}
