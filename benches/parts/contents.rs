//! What requests and answers hold, and who reads it.

use aoai_auth_proxy::inspect::model::ModelReader;
use aoai_auth_proxy::inspect::usage::{SocketUsageReader, UsageReader};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

/// The most that a TLS record holds.
const PIECE: usize = 16 << 10;
pub(crate) const JSON: &str = "application/json";
pub(crate) const EVENTS: &str = "text/event-stream";

/// A request with so many messages, and behind them its model: the order of OpenAI's own clients.
pub(crate) fn request(messages: usize) -> String {
    let text = r#"A proxy stands between two sides, and says \"here you are\" to each of them.\nWhy does it do so? "#
        .repeat(7);
    let message = format!(r#"{{"role":"user","content":"{text}"}}"#);
    let system =
        r#"{"role":"system","content":"You are a helpful assistant. Be brief, and say so when you do not know."}"#;
    format!(
        r#"{{"messages":[{system},{}],"model":"gpt-4o-mini","temperature":0.7,"max_tokens":256,"stream":false}}"#,
        vec![message; messages].join(",")
    )
}

/// An answer with ten vectors, of 200 KB.
pub(crate) fn embeddings() -> String {
    let numbers: Vec<String> = (0..1536_u32).map(|n| format!("-0.0{:08}", n * 48_271 % 99_999_989)).collect();
    let vector = format!(r#"{{"object":"embedding","index":0,"embedding":[{}]}}"#, numbers.join(","));
    let usage = r#"{"prompt_tokens":80,"total_tokens":80}"#;
    format!(
        r#"{{"object":"list","data":[{}],"model":"text-embedding-3-small","usage":{usage}}}"#,
        vec![vector; 10].join(",")
    )
}

/// An answer of 1 KB.
pub(crate) fn chat() -> String {
    let text = r#"A proxy stands between two sides,\nand says \"here you are\" to each of them. "#.repeat(5);
    format!(
        r#"{{"id":"chatcmpl-CXf3QDfNLbH4RmvVNHRP0s1ZZqBTh","object":"chat.completion","created":1763740800,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":96,"total_tokens":115,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_560af6e559"}}"#
    )
}

/// A stream of 1000 words with the usage at its end.
pub(crate) fn chat_chunks() -> String {
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-CXf3QDfNLbH4RmvVNHRP0s1ZZqBTh\",\"object\":\"chat.completion.chunk\",\"created\":1763740800,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",{rest}}}\n\n"
        )
    };
    let word = chunk(
        r#""choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x1Hq9""#,
    );
    let usage = chunk(
        r#""choices":[],"usage":{"prompt_tokens":19,"completion_tokens":1000,"total_tokens":1019},"obfuscation":"""#,
    );
    format!("{}{usage}data: [DONE]\n\n", word.repeat(1000))
}

/// The same in the Responses API.
pub(crate) fn response_deltas() -> String {
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
    let usage = r#"{"input_tokens":19,"input_tokens_details":{"cached_tokens":0},"output_tokens":1000,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":1019}"#;
    [event("response.created", &response("null")), delta.repeat(1000), event("response.completed", &response(usage))]
        .concat()
}

/// An image of 1 MiB.
pub(crate) fn image() -> String {
    let image = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAADwf7zU+/8AAAAAAAAAAAAAAAAA".repeat((1 << 20) / 64);
    format!(
        r#"{{"created":1763740800,"data":[{{"b64_json":"{image}"}}],"usage":{{"input_tokens":50,"output_tokens":4160,"total_tokens":4210}}}}"#
    )
}

/// A session of 1000 pieces of speech, whose cost is told at its end.
pub(crate) fn speech() -> Vec<u8> {
    let message = |text: &str| {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[0x81, 126], &length[..], text.as_bytes()].concat()
    };
    let sound = "UklGRiQAAABXQVZFZm10IBAAAAABAAEA".repeat(20);
    let delta = format!(
        r#"{{"type":"response.output_audio.delta","event_id":"event_B1","response_id":"resp_B1","item_id":"item_B1","output_index":0,"content_index":0,"delta":"{sound}"}}"#
    );
    let done = r#"{"type":"response.done","response":{"object":"realtime.response","id":"resp_B1","output":[],"usage":{"total_tokens":7,"input_tokens":3,"output_tokens":4}}}"#;
    [message(&delta).repeat(1000), message(done)].concat()
}

pub(crate) fn models(content: &[u8]) -> Option<u64> {
    let mut reader = ModelReader::new();
    content.chunks(PIECE).try_for_each(|piece| reader.read(piece)).ok()?;
    reader.end().ok().map(|()| reader.models().len() as u64)
}

pub(crate) fn tokens(fields: &HeaderMap, content: &[u8]) -> Option<u64> {
    let mut reader = UsageReader::of(fields);
    content.chunks(PIECE).for_each(|piece| reader.read(piece));
    reader.usage().map(|usage| usage.total())
}

pub(crate) fn heard(content: &[u8]) -> Option<u64> {
    let (mut reader, mut total) = (SocketUsageReader::new(), None);
    content.chunks(PIECE).for_each(|piece| reader.read(piece, |usage, _| total = usage.map(|usage| usage.total())));
    total
}

/// Fields of a response with content of `kind`.
pub(crate) fn of_kind(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
}
