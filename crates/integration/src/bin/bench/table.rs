//! The table of results: medians, their ratio, and the budgets of the design.

use std::fmt;

struct Row {
    measure: String,
    budget: Option<f64>,
    /// One list of values for each side.
    values: [Vec<f64>; 2],
}

pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
    shown: usize,
    both: bool,
}

impl Table {
    pub fn new(both: bool) -> Table {
        Table { rows: Vec::new(), notes: Vec::new(), shown: 0, both }
    }

    /// Records one value of a measure of a side (0 is ours). The measure's name ends in its unit.
    pub fn record(
        &mut self,
        side: usize,
        measure: impl Into<String>,
        value: f64,
        budget: impl Into<Option<f64>>,
    ) {
        let measure = measure.into();
        let index = match self.rows.iter().position(|row| row.measure == measure) {
            Some(index) => index,
            None => {
                self.rows.push(Row { measure, budget: budget.into(), values: Default::default() });
                self.rows.len() - 1
            }
        };
        self.rows[index].values[side].push(value);
    }

    pub fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// The rows that came since this was last asked.
    pub fn since_last(&mut self) -> String {
        let rows = self.rows[self.shown..].iter().map(|row| self.line(row) + "\n").collect();
        self.shown = self.rows.len();
        rows
    }

    fn line(&self, row: &Row) -> String {
        let [ours, upstream] = [median(&row.values[0]), median(&row.values[1])];
        let ratio = ours
            .zip(upstream)
            .filter(|(_, upstream)| *upstream > 0.0)
            .map(|(ours, upstream)| ours / upstream);
        let verdict = match (ours, row.budget) {
            (Some(ours), Some(budget)) if ours > budget => " over",
            _ => "",
        };
        let mut line = format!("| {:<58} | {:>9} ", row.measure, text(ours));
        if self.both {
            line += &format!("| {:>9} | {:>6} ", text(upstream), text(ratio));
        }
        line + &format!("| {:<12} |", text(row.budget) + verdict)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (columns, rule) = match self.both {
            true => ("upstream | ratio  | ", " --- | --- |"),
            false => ("", ""),
        };
        writeln!(formatter, "| {:<58} | {:>9} | {columns}{:<12} |", "measure", "ours", "budget")?;
        writeln!(formatter, "| --- | --- |{rule} --- |")?;
        for row in &self.rows {
            writeln!(formatter, "{}", self.line(row))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(formatter, "not measured: {note}"))
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// Three digits that count.
fn text(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value >= 100.0 || value == 0.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 0.1 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}
