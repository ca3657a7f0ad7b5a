//! What a checked JWT, or the page of an identity service, says of a user. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Claimed;
use super::shown::quoted;
use crate::job::{Space, Tenant, User};

/// Claims that name a user, the best first.
const USER_CLAIMS: [&str; 3] = ["email", "preferred_username", "sub"];

/// A JSON object with names of our and others' choice.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// The claim as text, if it is one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The claim as a time, Unix time in seconds; fractions are cut off.
    fn time(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name)?;
        let whole = |time: f64| (time >= 0.0 && time < u64::MAX as f64).then_some(time as u64);
        value.as_u64().or_else(|| whole(value.as_f64()?))
    }

    /// When the connection of a token's bearer has to end, Unix time in seconds. A token that is
    /// good only because clocks may differ by `leeway` seconds gets these.
    ///
    /// # Errors
    /// When there is no end, or it is past.
    pub(super) fn end(&self, leeway: u64, now: u64) -> Result<u64, String> {
        let end = self.time("exp").ok_or("it has no `exp`")?;
        match end {
            end if end > now => Ok(end),
            end if end.saturating_add(leeway) > now => Ok(end.saturating_add(leeway)),
            end => Err(format!("it ended {} s ago", now - end)),
        }
    }

    /// # Errors
    /// When it was made in the future.
    pub(super) fn made_by_now(&self, leeway: u64, now: u64) -> Result<(), String> {
        match self.time("iat") {
            Some(made) if made > now.saturating_add(leeway) => {
                Err(format!("it is made {} s from now", made - now))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Which of the groups is missing in the claim.
    pub(super) fn in_groups(&self, claim: &str, required: &[String]) -> Result<(), String> {
        let is_in = |group: &String| match self.0.get(claim) {
            Some(Value::Array(held)) => held.iter().any(|held| held == group),
            Some(Value::String(held)) => held == group,
            _ => false,
        };
        match required.iter().find(|group| !is_in(group)) {
            None => Ok(()),
            Some(missing) => {
                let user = quoted(self.text("sub").unwrap_or("the user"));
                Err(format!("{user} is not in the group `{missing}` (claim `{claim}`)"))
            }
        }
    }

    /// Who it is, by the claim that the settings name or the usual ones.
    ///
    /// # Errors
    /// When no such claim has text.
    pub(super) fn user(&self, claim: Option<&str>) -> Result<User, String> {
        // Whoever may choose his address at the issuer chooses whose name he has here.
        let unproved = self.0.get("email_verified").is_some_and(|proved| proved == false);
        let name = match claim {
            Some(claim) => self.text(claim),
            None => USER_CLAIMS
                .iter()
                .filter(|claim| !(unproved && **claim == "email"))
                .find_map(|claim| self.text(claim)),
        };
        let wanted = claim.unwrap_or("sub");
        let name = name.map(User::new).filter(|user| !user.as_str().is_empty());
        name.ok_or_else(|| format!("it names no user: wanted text in `{wanted}`"))
    }

    /// Whose client it is, by the claim that the settings name; the settings' own when they name
    /// none.
    ///
    /// # Errors
    /// When the claim is missing or no tenant's name. It is not made one: two claims must not
    /// become one tenant.
    pub(super) fn tenant(
        &self,
        claim: Option<&str>,
        fixed: Option<&Tenant>,
    ) -> Result<Option<Tenant>, String> {
        let Some(claim) = claim else { return Ok(fixed.cloned()) };
        let named = self.text(claim).ok_or_else(|| format!("it has no text in `{claim}`"))?;
        let tenant: Tenant =
            named.parse().map_err(|_| format!("{} in `{claim}` is no tenant", quoted(named)))?;
        may_be_named(&tenant)?;
        Ok(Some(tenant))
    }
}

/// # Errors
/// When the name is taken by the space of those who have no tenant.
pub(super) fn may_be_named(tenant: &Tenant) -> Result<(), String> {
    if tenant.as_str() == Space::shared().as_str() {
        return Err(format!("no tenant is named `{tenant}`: the space of all has this name"));
    }
    Ok(())
}

impl Claimed {
    /// Nothing but the tenant that the settings name.
    pub(super) fn nameless(tenant: Option<&Tenant>) -> Self {
        Self { user: None, tenant: tenant.cloned(), expires: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_end_is_the_tokens_own() {
        let at = |exp: Value| claims(json!({"exp": exp})).end(30, 1_000);
        assert_eq!(at(json!(1_001)), Ok(1_001));
        assert_eq!(at(json!(1_001.9)), Ok(1_001));
        assert_eq!(at(json!(1_000)), Ok(1_030));
        assert_eq!(at(json!(971)), Ok(1_001));
        assert!(at(json!(970)).unwrap_err().contains("30 s ago"));
        for junk in [json!("2000"), json!(-1), json!(null), json!(1e300)] {
            assert!(at(junk).is_err());
        }
    }

    #[test]
    fn a_token_of_the_future_is_no_token_yet() {
        let made = |iat: Value| claims(json!({"iat": iat})).made_by_now(30, 1_000).is_ok();
        assert!(made(json!(1_030)) && made(json!(null)));
        assert!(!made(json!(1_031)));
    }

    #[test]
    fn all_groups_are_needed() {
        let required = ["a".to_owned(), "b".to_owned()];
        let is_in = |groups: Value| {
            claims(json!({"groups": groups, "sub": "alice"})).in_groups("groups", &required)
        };
        assert!(is_in(json!(["b", "a", "c"])).is_ok());
        assert!(is_in(json!(["a"])).unwrap_err().contains("`b`"));
        for junk in [json!("a"), json!(null), json!({"a": 1}), json!([["a", "b"]]), json!("ab")] {
            assert!(is_in(junk).is_err());
        }
        assert!(claims(json!({"g": "a"})).in_groups("g", &required[..1]).is_ok());
    }

    #[test]
    fn a_users_name_is_the_best_there_is() {
        let name = |value: Value, claim| claims(value).user(claim).map(|user| user.to_string());
        let all = json!({"sub": "1", "email": "a@b", "preferred_username": "a", "x": "y"});
        assert_eq!(name(all.clone(), None), Ok("a@b".into()));
        assert_eq!(name(all.clone(), Some("x")), Ok("y".into()));
        assert!(name(all, Some("z")).is_err());
        let unproved = json!({"sub": "1", "email": "root@b", "email_verified": false});
        assert_eq!(name(unproved, None), Ok("1".into()));
        assert!(name(json!({"sub": ""}), None).is_err());
        assert!(name(json!({"sub": "\n"}), None).is_err());
    }

    #[test]
    fn a_tenant_is_taken_as_it_is_or_not_at_all() {
        let tenant = |text: &str| claims(json!({"org": text})).tenant(Some("org"), None);
        assert_eq!(tenant("team-a").unwrap().unwrap().as_str(), "team-a");
        for bad in ["Team-A", "team a", "", "shared", "team.a", &"x".repeat(33)] {
            assert!(tenant(bad).is_err(), "{bad}");
        }
        let fixed: Tenant = "fixed".parse().unwrap();
        let claims = claims(json!({}));
        assert_eq!(claims.tenant(None, Some(&fixed)).unwrap(), Some(fixed.clone()));
        assert!(claims.tenant(Some("org"), Some(&fixed)).is_err());
    }
}
