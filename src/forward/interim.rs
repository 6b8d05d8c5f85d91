//! Interim responses (RFC 9110 §15.2) of the resource: 103 and the like go on to the caller; 100 says that content is
//! wanted. The library tells of them over HTTP/1.1 only.

use http::{Request, StatusCode};

use super::fields;
use super::permission::Permission;
use super::upload::RequestBody;
use crate::server::Interim;

/// Has interim responses to `request` passed on.
pub(super) fn pass_on(request: &mut Request<RequestBody>, caller: Option<Interim>, permission: Option<Permission>) {
    if caller.is_none() && permission.is_none() {
        return;
    }
    hyper::ext::on_informational(request, move |response| match (response.status(), &permission, &caller) {
        (StatusCode::CONTINUE, Some(permission), _) => permission.give(),
        // The caller gets its own when its content is read, and another protocol only by a final response.
        (StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS, _, _) | (_, _, None) => {}
        (status, _, Some(caller)) => {
            let mut passed = response.headers().clone();
            fields::clean_response(&mut passed);
            caller.send(status, passed);
        }
    });
}
