//! What it costs to read what responses have cost: `cargo bench --locked --bench inspect`.
//!
//! Each response comes in pieces as long as a TLS record, as those of the resource do.

use std::hint::black_box;

use aoai_auth_proxy::inspect::usage::UsageReader;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

/// The most that a TLS record holds.
const PIECE: usize = 16 << 10;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// An answer with ten vectors, of 200 KB.
fn embeddings() -> String {
    let numbers: Vec<String> = (0..1536_u32).map(|n| format!("-0.0{:08}", n * 48_271 % 99_999_989)).collect();
    let vector = format!(r#"{{"object":"embedding","index":0,"embedding":[{}]}}"#, numbers.join(","));
    let usage = r#"{"prompt_tokens":80,"total_tokens":80}"#;
    format!(
        r#"{{"object":"list","data":[{}],"model":"text-embedding-3-small","usage":{usage}}}"#,
        vec![vector; 10].join(",")
    )
}

/// An answer of 1 KB.
fn chat() -> String {
    let text = r#"A proxy stands between two sides,\nand says \"here you are\" to each of them. "#.repeat(5);
    format!(
        r#"{{"id":"chatcmpl-CXf3QDfNLbH4RmvVNHRP0s1ZZqBTh","object":"chat.completion","created":1763740800,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":96,"total_tokens":115,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_560af6e559"}}"#
    )
}

/// A stream of 500 words with the usage at its end.
fn chat_chunks() -> String {
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-CXf3QDfNLbH4RmvVNHRP0s1ZZqBTh\",\"object\":\"chat.completion.chunk\",\"created\":1763740800,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",{rest}}}\n\n"
        )
    };
    let word = chunk(
        r#""choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x1Hq9""#,
    );
    let usage = chunk(
        r#""choices":[],"usage":{"prompt_tokens":19,"completion_tokens":500,"total_tokens":519},"obfuscation":"""#,
    );
    format!("{}{usage}data: [DONE]\n\n", word.repeat(500))
}

/// The same in the Responses API.
fn response_deltas() -> String {
    let response = |usage: &str| {
        format!(
            r#""response":{{"id":"resp_68f0","object":"response","created_at":1763740800,"status":"completed","model":"gpt-4o-mini-2024-07-18","output":[],"usage":{usage},"metadata":{{}}}}"#
        )
    };
    let event = |kind: &str, rest: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":4,{rest}}}\n\n")
    };
    let delta = event(
        "response.output_text.delta",
        r#""item_id":"msg_68f0a5c2d1b48190a1","output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"x1Hq9xkLzu""#,
    );
    let usage = r#"{"input_tokens":19,"input_tokens_details":{"cached_tokens":0},"output_tokens":500,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":519}"#;
    [event("response.created", &response("null")), delta.repeat(500), event("response.completed", &response(usage))]
        .concat()
}

/// An image of 1 MiB.
fn image() -> String {
    let image = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAADwf7zU+/8AAAAAAAAAAAAAAAAA".repeat((1 << 20) / 64);
    format!(
        r#"{{"created":1763740800,"data":[{{"b64_json":"{image}"}}],"usage":{{"input_tokens":50,"output_tokens":4160,"total_tokens":4210}}}}"#
    )
}

fn tokens(fields: &HeaderMap, content: &[u8]) -> Option<u64> {
    let mut reader = UsageReader::of(fields);
    content.chunks(PIECE).for_each(|piece| reader.read(piece));
    reader.usage().map(|usage| usage.total())
}

fn usage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("usage");
    for (name, kind, content, total) in [
        ("embeddings", JSON, embeddings(), 80),
        ("chat", JSON, chat(), 115),
        ("chat chunks", EVENTS, chat_chunks(), 519),
        ("response deltas", EVENTS, response_deltas(), 519),
        ("image", JSON, image(), 4210),
    ] {
        let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        assert_eq!(tokens(&fields, content.as_bytes()), Some(total), "{name}");
        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| tokens(&fields, black_box(content.as_bytes()))));
    }
    group.finish();
}

criterion_group!(benches, usage);
criterion_main!(benches);
