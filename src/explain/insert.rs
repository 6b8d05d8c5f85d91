//! A hint put into the content of a refusal, which stays as it is otherwise.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::words::BYTE_ORDER_MARK;

/// An object's members as they are written; of several with one name the last, which is the one that parsers keep.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// `content` with one more member `hint` in its `error` object. Everything else stays byte for byte.
///
/// An object without `error` gets one, with what it says itself as code and message, since that is where clients look.
/// [`None`] if `content` is no JSON object, if its `error` is none, or if that has a hint already.
#[must_use]
pub fn insert(content: &[u8], hint: &str) -> Option<Vec<u8>> {
    let content = str::from_utf8(content).ok()?;
    let text = content.trim_start_matches(BYTE_ORDER_MARK);
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    let hint = format!(r#""hint":{}"#, Value::from(hint));
    let (object, nothing_before, addition) = match members.get("error") {
        Some(error) => {
            let inside: Members<'_> = serde_json::from_str(error.get()).ok()?;
            if inside.contains_key("hint") {
                return None;
            }
            (error.get(), inside.is_empty(), hint)
        }
        None => (text, members.is_empty(), error_member(&members, &hint)),
    };
    let separator = if nothing_before { "" } else { "," };
    let (before, after) = content.split_at_checked(end(content, object)?)?;
    Some([before, separator, &addition, after].concat().into_bytes())
}

/// Where in `content` the last member of `object` ends, a part of it.
fn end(content: &str, object: &str) -> Option<usize> {
    let begin = object.as_ptr().addr().checked_sub(content.as_ptr().addr())?;
    Some(begin + object.trim_end().strip_suffix('}')?.trim_end().len())
}

/// An `error` that says what the object around it says.
fn error_member(members: &Members<'_>, hint: &str) -> String {
    let string = |name| members.get(name).map(|value| value.get()).filter(|value| value.starts_with('"'));
    let number = |name| members.get(name).map(|value| value.get()).filter(|value| value.parse::<u16>().is_ok());
    let code = string("code").or_else(|| string("statusCode")).map(str::to_owned);
    let code = code.or_else(|| number("statusCode").map(|status| format!(r#""{status}""#)));
    let code = code.map(|code| format!(r#""code":{code},"#)).unwrap_or_default();
    let message = string("message").map(|message| format!(r#""message":{message},"#)).unwrap_or_default();
    format!(r#""error":{{{code}{message}{hint}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn inserted(content: &str) -> Option<String> {
        insert(content.as_bytes(), "h").map(|content| String::from_utf8(content).expect("UTF-8"))
    }

    #[test]
    fn the_hint_is_the_last_member_of_the_error() {
        for (content, expected) in [
            (r#"{"error":{"code":"c"}}"#, r#"{"error":{"code":"c","hint":"h"}}"#),
            (r#"{"error":{}}"#, r#"{"error":{"hint":"h"}}"#),
            (r#"{"error":{ }}"#, r#"{"error":{"hint":"h" }}"#),
            (
                "{ \"a\" : [1.0, {}] ,\r\n\t\"error\" : { \"x\" : { } \r\n } , \"b\":\"}\" }\n",
                "{ \"a\" : [1.0, {}] ,\r\n\t\"error\" : { \"x\" : { },\"hint\":\"h\" \r\n } , \"b\":\"}\" }\n",
            ),
            (r#"{"\u0065rror":{"m":"\ud83d\ude00 é }"}}"#, r#"{"\u0065rror":{"m":"\ud83d\ude00 é }","hint":"h"}}"#),
            ("\u{feff}{\"error\":{\"a\":1}}", "\u{feff}{\"error\":{\"a\":1,\"hint\":\"h\"}}"),
            (r#"{"error":null,"error":{"a":1,"a":2}}"#, r#"{"error":null,"error":{"a":1,"a":2,"hint":"h"}}"#),
            (r#"{"error":{"inner":{"hint":"x"}}}"#, r#"{"error":{"inner":{"hint":"x"},"hint":"h"}}"#),
        ] {
            assert_eq!(inserted(content).as_deref(), Some(expected), "{content}");
        }
    }

    #[test]
    fn an_object_without_error_gets_one_that_says_the_same() {
        for (content, expected) in [
            ("{}", r#"{"error":{"hint":"h"}}"#),
            (" { } \n", " {\"error\":{\"hint\":\"h\"} } \n"),
            (
                r#"{"statusCode":401,"message":"a \"b\" \u00e9"}"#,
                r#"{"statusCode":401,"message":"a \"b\" \u00e9","error":{"code":"401","message":"a \"b\" \u00e9","hint":"h"}}"#,
            ),
            (
                r#"{"code":"C","statusCode":1,"message":["m"]}"#,
                r#"{"code":"C","statusCode":1,"message":["m"],"error":{"code":"C","hint":"h"}}"#,
            ),
            (r#"{"statusCode":"401","code":2}"#, r#"{"statusCode":"401","code":2,"error":{"code":"401","hint":"h"}}"#),
            (r#"{"statusCode":4.01e2}"#, r#"{"statusCode":4.01e2,"error":{"hint":"h"}}"#),
        ] {
            assert_eq!(inserted(content).as_deref(), Some(expected), "{content}");
        }
    }

    #[test]
    fn anything_else_is_left_alone() {
        for content in [
            "",
            "null",
            "[]",
            "[{\"error\":{}}]",
            "\"error\"",
            "<html></html>",
            r#"{"error":"text"}"#,
            r#"{"error":null}"#,
            r#"{"error":[{}]}"#,
            r#"{"error":{},"error":1}"#,
            r#"{"error":{"hint":"theirs"}}"#,
            r#"{"error":{"h\u0069nt":null}}"#,
            r#"{"error":{}"#,
            r#"{"error":{}} {}"#,
            r#"{"error":{"a":1,}}"#,
            "data: {\"error\":{}}\n\n",
        ] {
            assert_eq!(inserted(content), None, "{content}");
        }
        assert_eq!(insert(b"{\"error\":{\"a\":\"\xff\"}}", "h"), None);
    }

    #[test]
    fn every_hint_arrives_as_it_is() {
        for hint in ["", "it's \"quoted\" \\ back", "line\nline\t\u{0}\u{7f}", "é 😀 \u{2028}", "},\"x\":{"] {
            let content = insert(br#"{"error":{"a":1}}"#, hint).expect("a hint");
            let parsed: Value = serde_json::from_slice(&content).expect("JSON");
            assert_eq!(parsed, serde_json::json!({ "error": { "a": 1, "hint": hint } }));
        }
    }

    #[test]
    fn whatever_the_object_nothing_but_the_hint_is_new() {
        let mut taken = 0;
        for seed in 0..20_000 {
            let content = object(&mut Rng::with_seed(seed), 0);
            let before: Value = serde_json::from_str(&content).expect(&content);
            let Some(result) = inserted(&content) else {
                let error = before.get("error").expect("an error");
                assert!(!error.is_object() || error.get("hint").is_some(), "{content}");
                continue;
            };
            taken += 1;
            assert!(is_text_with_insertion(&content, &result), "{content}\n{result}");
            let mut after: Value = serde_json::from_str(&result).expect(&result);
            let error = after.get_mut("error").and_then(Value::as_object_mut).expect("an error");
            assert_eq!(error.remove("hint"), Some(Value::from("h")), "{result}");
            if before.get("error").is_none() {
                after.as_object_mut().and_then(|after| after.remove("error"));
            }
            assert_eq!(after, before, "{content}\n{result}");
        }
        assert!(taken > 5_000, "{taken}");
    }

    fn is_text_with_insertion(text: &str, longer: &str) -> bool {
        let same = text.bytes().zip(longer.bytes()).take_while(|(one, other)| one == other).count();
        longer.len() > text.len() && longer.as_bytes().ends_with(&text.as_bytes()[same..])
    }

    /// Any JSON object that may meet the function, as text: odd spaces, escaped and repeated names.
    fn object(rng: &mut Rng, depth: usize) -> String {
        let names =
            ["error", "\\u0065rror", "hint", "h\\u0069nt", "code", "message", "statusCode", "a", "", "\\\"}", "é😀"];
        let members = (0..rng.usize(0..5)).map(|_| {
            let name = names[rng.usize(..names.len())];
            format!("{}\"{name}\"{}:{}{}{}", space(rng), space(rng), space(rng), value(rng, depth + 1), space(rng))
        });
        let members = members.collect::<Vec<_>>().join(",");
        let (front, back) = if depth == 0 { (space(rng), space(rng)) } else { ("", "") };
        format!("{front}{{{members}{}}}{back}", if members.is_empty() { space(rng) } else { "" })
    }

    fn value(rng: &mut Rng, depth: usize) -> String {
        let plain =
            ["null", "true", "-0.0", "1e3", "401", "\"\"", "\"} \\\" \\\\\"", "\"\\ud83d\\ude00\"", "[]", "[ 1, {} ]"];
        if depth < 4 && rng.bool() { object(rng, depth) } else { plain[rng.usize(..plain.len())].to_owned() }
    }

    fn space(rng: &mut Rng) -> &'static str {
        ["", "", " ", "\r\n", "\t "][rng.usize(..5)]
    }
}
