//! Any bytes as a request's target: refused, no route, or a path below the resource's `/openai/` however it is read.

#![no_main]

use aoai_auth_proxy::forward::target;
use aoai_auth_proxy::guard;
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the other target uses the rest")]
#[path = "../../tests/integration/oracle.rs"]
mod oracle;

fuzz_target!(|raw: &[u8]| {
    let Ok(uri) = Uri::try_from(raw) else { return };
    let Ok(request) = Request::get(uri.clone()).header("host", "localhost").body(()) else { return };
    if guard::admit(&request).is_err() || target::check(uri.path()).is_err() {
        return;
    }
    for prefix in ["", "/api/projects/p"] {
        let Some(mapped) = target::map(prefix, &uri) else { continue };
        if let Err(problem) = oracle::inspect(raw, prefix, mapped.as_str()) {
            panic!("{mapped} {problem}");
        }
    }
});
