//! Whether the identity holds a role that lets it call: nobody is asked; it follows from what the resource has answered.

use serde_json::json;

use super::ask::Refusal;
use super::data::Access;
use super::report::{Finding, Mend};

/// What listing models and, if one was made, a call have come to. `account`: the account's id, if it is known.
pub(super) fn role(listing: &Access, call: Option<&Access>, account: Option<&str>) -> Finding {
    let missing = |message: &str, refusal: &Refusal| {
        let mend = at(account, refusal.mend.clone());
        Finding::failed(message, mend).notes(vec![refusal.message.clone()])
    };
    let finding = match (listing, call) {
        (Access::Allowed, Some(Access::Allowed)) => {
            Finding::ok("it may list models and call: the resource let both in")
        }
        (Access::Allowed, None) => Finding::ok(
            "it may list models, so it holds a role on the data plane here; that it may call is shown by --call alone",
        ),
        (Access::NoRole(_), Some(Access::Allowed)) => {
            let advice = "nothing, if programs do not list models; else assign 'Cognitive Services OpenAI User' too";
            Finding::warning("it may call, and not list models").mend(Mend::new(advice, None))
        }
        (_, Some(Access::NoRole(refusal))) => missing("it lacks a role that lets it call", refusal),
        (Access::NoRole(refusal), None) => {
            missing("it lacks the role that lets it list models and, most likely, the one that lets it call", refusal)
        }
    };
    let told = |access: &Access| if matches!(access, Access::Allowed) { "allowed" } else { "refused" };
    finding.detail(json!({ "list_models": told(listing), "call": call.map_or("not_known", told) }))
}

/// The same, with the account's own id where the role is to be assigned.
fn at(account: Option<&str>, mend: Mend) -> Mend {
    let is_plain = |id: &&str| id.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let Some(id) = account.filter(is_plain) else { return mend };
    let commands = mend.commands.into_iter().map(|command| match command.split_once(" --scope ") {
        Some((assign, _)) => format!("{assign} --scope {id}"),
        None => command,
    });
    Mend { commands: commands.collect(), ..mend }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::cli::check::report::Status;

    fn no_role() -> Access {
        let assign = "az role assignment create --assignee x --role 'y' --scope $(az account list --query '[0]')";
        Access::NoRole(Refusal {
            status: StatusCode::UNAUTHORIZED,
            cause: None,
            message: "PermissionDenied".to_owned(),
            mend: Mend::new("a role is missing", [assign.to_owned()]),
        })
    }

    #[test]
    fn what_was_let_in_says_what_the_role_allows() {
        for (listing, call, expected) in [
            (Access::Allowed, Some(Access::Allowed), Status::Ok),
            (Access::Allowed, None, Status::Ok),
            (no_role(), Some(Access::Allowed), Status::Warning),
            (no_role(), None, Status::Failed),
            (Access::Allowed, Some(no_role()), Status::Failed),
            (no_role(), Some(no_role()), Status::Failed),
        ] {
            assert_eq!(role(&listing, call.as_ref(), None).status, expected, "{listing:?} {call:?}");
        }
    }

    #[test]
    fn the_accounts_own_id_is_named_if_it_can_be_pasted() {
        let scope = |account| role(&no_role(), None, account).mend.expect("a mend").commands[0].clone();
        assert!(scope(Some("/subscriptions/s/accounts/a")).ends_with("--role 'y' --scope /subscriptions/s/accounts/a"));
        for account in [None, Some("/subscriptions/$(touch x)")] {
            assert!(scope(account).ends_with("'[0]')"), "{account:?}");
        }
    }
}
