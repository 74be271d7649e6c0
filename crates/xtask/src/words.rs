//! Finds words in names, comments, texts and documents for which `docs/style.md` asks for others. Its table is the
//! list: there is no second one here.
//!
//! Data files are left out: they are upstream's words, or recordings of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The document with the table, which has to name the words.
const STYLE: &str = "docs/style.md";
const DATA: &[&str] = &["json", "jsonl", "lock", "proto", "txt"];
/// Upstream's messages, which must stay as they are.
const UPSTREAM: &[&str] = &["attempting to grant RBAC permissions not currently held"];

/// What to write instead, by the words of a term, in lower case.
type Terms = BTreeMap<Vec<String>, String>;

pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let style = std::fs::read_to_string(root.join(STYLE)).context(STYLE)?;
    let terms = terms(&style);
    ensure!(!terms.is_empty(), "{STYLE} has no table of words");
    let mut found = Vec::new();
    for path in files(&root)? {
        let is_data = Path::new(&path).extension().is_some_and(|it| DATA.iter().any(|data| it == *data));
        if is_data || path == STYLE {
            continue;
        }
        found.extend(uses(&path, &terms).into_iter().map(|(_, what)| format!("{path}: its name has {what}")));
        // Not a text, a link that leads nowhere, or removed and not yet committed.
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        found.extend(uses(&text, &terms).into_iter().map(|(line, what)| format!("{path}:{line}: {what}")));
    }
    if !found.is_empty() {
        bail!("words that {STYLE} replaces:\n{}", found.join("\n"));
    }
    Ok(())
}

/// Every file that is committed or would be.
fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("running git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("reading git ls-files")?;
    Ok(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// Terms of the table: rows whose first cell has them in backticks, and in whose second stands what to write instead.
fn terms(style: &str) -> Terms {
    let mut terms = Terms::new();
    for row in style.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = row.split('|');
        let (Some(first), Some(instead)) = (cells.next(), cells.next()) else { continue };
        for term in first.split('`').step_by(2) {
            let words: Vec<String> = words(term).into_iter().map(|(_, word)| word).collect();
            if !words.is_empty() {
                terms.insert(words, instead.trim().to_owned());
            }
        }
    }
    terms
}

/// The terms that occur in a text, each with its line and what to write instead.
fn uses(text: &str, terms: &Terms) -> Vec<(usize, String)> {
    let text = UPSTREAM.iter().fold(text.to_owned(), |text, message| text.replace(message, ""));
    let words = words(&text);
    let mut found = Vec::new();
    for (at, (line, _)) in words.iter().enumerate() {
        for (term, instead) in terms {
            let here = words[at..].iter().map(|(_, word)| word).take(term.len());
            if here.eq(term.iter()) {
                found.push((*line, format!("{:?}, write {instead}", term.join(" "))));
            }
        }
    }
    found
}

/// The words of a text in lower case, each with its line. Identifiers are taken apart: `tableRow` and `TABLE_ROW`
/// are two words each.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut last = ' ';
        for next in line.chars().chain([' ']) {
            let begins = last.is_lowercase() && next.is_uppercase();
            if (begins || !next.is_alphabetic()) && !word.is_empty() {
                words.push((number + 1, std::mem::take(&mut word)));
            }
            if next.is_alphabetic() {
                word.extend(next.to_lowercase());
            }
            last = next;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: &str = "A text.\n\n| term | write | example |\n|---|---|---|\n| `grok`, `groks` | understand | – |\n| `as it were` | nothing | – |\n";

    fn check(text: &str) -> Vec<(usize, String)> {
        uses(text, &terms(STYLE))
    }

    #[test]
    fn terms_are_found_in_names_and_sentences() {
        let grok = |line| vec![(line, "\"grok\", write understand".to_owned())];
        assert_eq!(check("/// Groks it.\n"), [(1, "\"groks\", write understand".to_owned())]);
        for text in
            ["fn can_grok()", "let grok2 = 1;", "struct WillGrok;", "mod grok;", "NOT_GROK", "grokIt()"]
        {
            assert_eq!(check(text), grok(1), "{text}");
        }
        assert_eq!(check("one\ntwo grok\n"), grok(2));
        assert_eq!(check("// works, as\n// it were"), [(1, "\"as it were\", write nothing".to_owned())]);
        assert_eq!(check("fn as_it_were()").len(), 1);
    }

    #[test]
    fn other_words_and_upstreams_messages_pass() {
        assert_eq!(check("grokking agrok as it was"), []);
        assert_eq!(uses(UPSTREAM[0], &terms("| `permissions` | rights | – |")), []);
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(terms("no table\n| term | write |\n"), Terms::new());
        assert_eq!(terms(STYLE).len(), 3);
    }
}
