//! What is well-formed is read as another parser reads it, and nothing depends on cuts.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use super::*;

const PLACES: &[Place<usize>] = &[
    Place { what: 0, path: &["a"], most: 60 },
    Place { what: 1, path: &["b", "a"], most: 60 },
    Place { what: 2, path: &["b", "bb"], most: 60 },
    Place { what: 3, path: &["b", "c", "a", "b", "c"], most: 60 },
];

/// The values found in pieces of `length` bytes, and whether the object has ended.
fn read(json: &[u8], length: usize) -> (Vec<(usize, Option<String>)>, bool) {
    let (mut skim, mut values) = (Skim::new(PLACES), Vec::new());
    for mut piece in json.chunks(length) {
        while let Some(found) = skim.next(&mut piece, |_, _| None) {
            values.push((found.what, found.json.map(|json| String::from_utf8_lossy(json).into_owned())));
        }
    }
    (values, skim.has_ended())
}

/// Objects with keys that lead to places, or nearly.
fn objects() -> impl Strategy<Value = Value> {
    let key = || prop_oneof![4 => select(vec!["a", "b", "bb", "c", "A", "aa", ""]).prop_map(str::to_owned), 1 => any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        r#"[\\"\[\]{}:,ab ]{0,80}"#.prop_map(Value::from),
    ];
    let object = move |value: BoxedStrategy<Value>| {
        vec((key(), value), 0..5).prop_map(|members| Value::Object(Map::from_iter(members)))
    };
    let nested = object;
    let value = leaf.prop_recursive(
        6,
        40,
        5,
        move |value| prop_oneof![1 => vec(value.clone(), 0..4).prop_map(Value::from), 3 => nested(value.boxed())],
    );
    object(value.boxed())
}

/// What is found in `object`, in the places' order.
fn expected(object: &Value) -> Vec<(usize, Option<String>)> {
    let found = |place: &Place<usize>| {
        let value = place.path.iter().try_fold(object, |value, key| value.as_object()?.get(*key))?;
        Some((place.what, Some(value.to_string()).filter(|json| json.len() <= place.most)))
    };
    PLACES.iter().filter_map(found).collect()
}

proptest! {
    #[test]
    fn another_parser_reads_the_same(object in objects(), length in 1..50_usize) {
        let json = object.to_string();
        let (mut values, has_ended) = read(json.as_bytes(), json.len());
        prop_assert!(has_ended);
        prop_assert_eq!(&read(json.as_bytes(), length), &(values.clone(), true));
        values.sort_unstable();
        prop_assert_eq!(values, expected(&object));
    }

    #[test]
    fn blanks_do_not_matter(object in objects()) {
        let json = serde_json::to_string_pretty(&object).unwrap();
        let (values, has_ended) = read(json.as_bytes(), 7);
        prop_assert!(has_ended);
        let mut found: Vec<usize> = values.into_iter().map(|(what, _)| what).collect();
        found.sort_unstable();
        let expected: Vec<usize> = expected(&object).into_iter().map(|(what, _)| what).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn what_is_malformed_is_lost_or_not_complete() {
    for json in [
        "",
        "{",
        "[]",
        "1",
        "{}x",
        "{x}",
        r#"{"a"}"#,
        r#"{"a" 1}"#,
        r#"{"a":}"#,
        r#"{"a":]}"#,
        r#"{"a":1 2}"#,
        r#"{"x":[}"#,
    ] {
        assert!(!read(json.as_bytes(), json.len().max(1)).1, "{json}");
    }
}
