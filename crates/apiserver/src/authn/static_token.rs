//! `--token-auth-file`: lines of `token,user,uid,"group1,group2"`.

use std::collections::HashMap;
use std::path::Path;

use crate::user::User;

#[derive(Default)]
pub struct StaticTokens(HashMap<String, User>);

impl StaticTokens {
    pub fn from_file(path: &Path) -> Result<StaticTokens, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut tokens = HashMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut fields = line.splitn(4, ',').map(str::trim);
            let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(format!(
                    "token file {:?} must have at least 3 columns (token, user name, user uid)",
                    path
                ));
            };
            let groups = fields.next().unwrap_or_default().trim_matches('"');
            let groups =
                groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned);
            let user =
                User { name: name.into(), uid: uid.into(), groups: groups.collect(), ..User::default() };
            tokens.insert(token.to_owned(), user);
        }
        Ok(StaticTokens(tokens))
    }

    pub fn find(&self, token: &str) -> Option<User> {
        self.0.get(token).cloned()
    }
}
