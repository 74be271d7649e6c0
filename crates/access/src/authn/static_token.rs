//! `--token-auth-file`: lines of `token,user,uid,"group1,group2"`.

use std::collections::HashMap;
use std::path::Path;

use crate::user::User;

#[derive(Default)]
pub struct StaticTokens(HashMap<String, User>);

impl StaticTokens {
    pub fn from_file(path: &Path) -> Result<StaticTokens, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        StaticTokens::parse(&text).map_err(|error| match error {
            Mistake::Columns(found) => format!(
                "token file '{}' must have at least 3 columns (token, user name, user uid), found {found}",
                path.display()
            ),
            Mistake::Line(line, why) => format!("parse error on line {line}: {why}"),
        })
    }

    fn parse(text: &str) -> Result<StaticTokens, Mistake> {
        let mut tokens = HashMap::new();
        for record in records(text)? {
            let [token, name, uid, rest @ ..] = record.as_slice() else {
                return Err(Mistake::Columns(record.len()));
            };
            if token.is_empty() {
                tracing::warn!(user = name, "A token file has an empty token");
                continue;
            }
            let groups = rest.first().map(|groups| groups.split(',').map(str::to_owned).collect());
            let user = User {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.unwrap_or_default(),
                ..User::default()
            };
            if tokens.insert(token.clone(), user).is_some() {
                tracing::warn!(user = name, "A token file has the same token twice");
            }
        }
        Ok(StaticTokens(tokens))
    }

    pub fn find(&self, token: &str) -> Option<User> {
        self.0.get(token).cloned()
    }
}

#[derive(Debug, PartialEq)]
enum Mistake {
    Columns(usize),
    Line(usize, &'static str),
}

/// The records of a text of comma-separated values: fields within quotes may hold commas, lines and doubled quotes.
fn records(text: &str) -> Result<Vec<Vec<String>>, Mistake> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut line) = (false, 1);
    let text = text.replace("\r\n", "\n");
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        line += usize::from(c == '\n');
        match (quoted, c) {
            (true, '"') if rest.next_if_eq(&'"').is_some() => field.push('"'),
            (true, '"') => {
                quoted = false;
                if rest.peek().is_some_and(|next| !matches!(next, ',' | '\n')) {
                    return Err(Mistake::Line(line, "extraneous or missing \" in quoted-field"));
                }
            }
            (true, c) => field.push(c),
            (false, '"') if field.is_empty() => quoted = true,
            (false, '"') => return Err(Mistake::Line(line, "bare \" in non-quoted-field")),
            (false, ',') => record.push(std::mem::take(&mut field)),
            (false, '\n') => {
                if !record.is_empty() || !field.is_empty() {
                    record.push(std::mem::take(&mut field));
                    records.push(std::mem::take(&mut record));
                }
            }
            (false, c) => field.push(c),
        }
    }
    if quoted {
        return Err(Mistake::Line(line, "extraneous or missing \" in quoted-field"));
    }
    if !record.is_empty() || !field.is_empty() {
        record.push(field);
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens() {
        let text = "a,ann,1\r\n\nb,bob,2,\"dev,ops\"\n\"c,\"\"c\"\"\",cy,3,dev,ops\n,nobody,4";
        let tokens = StaticTokens::parse(text).unwrap();
        let user = |token: &str| {
            tokens.find(token).map(|user| format!("{} {} {}", user.name, user.uid, user.groups.join("+")))
        };
        assert_eq!(user("a").as_deref(), Some("ann 1 "));
        assert_eq!(user("b").as_deref(), Some("bob 2 dev+ops"));
        // what comes after the groups is none
        assert_eq!(user("c,\"c\"").as_deref(), Some("cy 3 dev"));
        assert_eq!(user(""), None);
    }

    #[test]
    fn an_unreadable_line_is_an_error() {
        let refused = |text: &str| StaticTokens::parse(text).err().unwrap();
        assert_eq!(refused("a,ann,1\nb,bob"), Mistake::Columns(2));
        assert_eq!(refused("a,\"ann,1\n"), Mistake::Line(2, "extraneous or missing \" in quoted-field"));
        assert_eq!(refused("a,ann\"x,1"), Mistake::Line(1, "bare \" in non-quoted-field"));
        assert_eq!(refused("a,\"ann\"x,1"), Mistake::Line(1, "extraneous or missing \" in quoted-field"));
    }
}
