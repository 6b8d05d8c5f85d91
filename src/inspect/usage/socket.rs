//! What a server says over a WebSocket that its responses cost: each response of a session by itself.

use super::counted::{Cost, Usage};
use super::glance;
use super::message::{MESSAGE, Message, Said};
use crate::inspect::frames::{Frames, Part};

/// Reads what a server says over a WebSocket for what it has cost.
#[derive(Debug)]
pub struct SocketUsageReader {
    frames: Frames,
    message: Message,
    /// The id of the last response whose cost was told.
    last: Option<String>,
    model: Option<String>,
    transcriber: Option<String>,
    /// That not all could be read was told.
    told_unread: bool,
}

impl SocketUsageReader {
    /// A reader of what follows the switch of protocols.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: Frames::default(),
            message: Message::new(MESSAGE),
            last: None,
            model: None,
            transcriber: None,
            told_unread: false,
        }
    }

    /// Reads the next piece. Each message that ends in it and tells a cost is `told`, with the model if that is known. Once what
    /// passes cannot be read, as it is compressed or this is no WebSocket, a cost that is not known is told: once, as nobody can
    /// see how many responses there are in it.
    pub fn read(&mut self, mut piece: &[u8], mut told: impl FnMut(Option<Usage>, Option<&str>)) {
        while let Some(part) = self.frames.next(&mut piece) {
            match part {
                Part::Text(text) => {
                    let is_all = self.message.is_at_start() && self.frames.have_ended_text();
                    if !is_all || glance::usage(text) || glance::session(text) {
                        self.message.read(text);
                    }
                }
                Part::End => {
                    if let Some(said) = self.message.end() {
                        self.hear(said, &mut told);
                    }
                }
            }
        }
        if !self.told_unread && !self.frames.are_readable() {
            self.told_unread = true;
            told(None, self.model.as_deref());
        }
    }

    fn hear(&mut self, said: Said, told: &mut impl FnMut(Option<Usage>, Option<&str>)) {
        self.model = said.model_of_session.or(self.model.take());
        self.transcriber = said.transcriber.or(self.transcriber.take());
        let Cost::Told(usage) = said.cost else { return };
        if !said.is_of_response {
            // Beside the responses, only transcriptions cost anything.
            told(Some(usage), self.transcriber.as_deref());
        } else if said.response.is_none() || said.response != self.last {
            told(Some(usage), said.model.as_deref().or(self.model.as_deref()));
            self.last = said.response;
        }
    }

    #[cfg(test)]
    pub(super) fn retained(&self) -> usize {
        let names = [&self.last, &self.model, &self.transcriber];
        self.message.retained() + names.into_iter().flatten().map(String::capacity).sum::<usize>()
    }
}

impl Default for SocketUsageReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::message::LONGEST_USAGE;
    use super::super::tests::cut;
    use super::*;

    fn frame(first: u8, content: &str) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[first, 126], &length[..], content.as_bytes()].concat()
    }

    fn text(content: &str) -> Vec<u8> {
        frame(0x81, content)
    }

    /// Each cost with its model, and whether all could be read.
    type Heard<T> = (Vec<(T, Option<String>)>, bool);

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard<Usage> {
        let (mut reader, mut heard, mut unread) = (SocketUsageReader::new(), Vec::new(), 0);
        for piece in pieces {
            reader.read(piece, |usage, model| match usage {
                Some(usage) => heard.push((usage, model.map(str::to_owned))),
                None => unread += 1,
            });
        }
        assert!(unread <= 1, "it is told once");
        (heard, unread == 0)
    }

    /// Input, cached and output tokens and the model of each, wherever the session is cut.
    fn told(session: &[Vec<u8>]) -> Heard<[u64; 3]> {
        let session = session.concat();
        let whole = read([&session[..]]);
        for length in 1..session.len() {
            assert_eq!(read(session.chunks(length)), whole, "{length}");
        }
        let counts = |(usage, model): (Usage, _)| ([usage.input, usage.cached, usage.output], model);
        (whole.0.into_iter().map(counts).collect(), whole.1)
    }

    fn done(id: u32) -> String {
        format!(
            r#"{{"type":"response.done","response":{{"object":"realtime.response","id":"r{id}","output":[{{"id":"i"}}],"usage":{{"total_tokens":7,"input_tokens":3,"output_tokens":4,"input_token_details":{{"cached_tokens":2,"audio_tokens":3}}}}}}}}"#
        )
    }

    #[test]
    fn each_response_of_a_session_has_its_cost() {
        let transcript = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"x","usage":{"type":"tokens","input_tokens":1,"input_token_details":{"audio_tokens":1},"output_tokens":2}}"#;
        let of = |model: &str| Some(model.to_owned());
        let (told, is_readable) = told(&[
            text(&done(0)),
            text(transcript),
            text(
                r#"{"type":"session.created","session":{"model":"rt","audio":{"input":{"transcription":{"model":"ear"}}}}}"#,
            ),
            text(r#"{"type":"response.created","response":{"id":"r1","usage":null}}"#),
            text(&done(1)),
            text("no JSON"),
            text(&done(1)),
            text(r#"{"type":"session.usage.updated","usage":{"seconds":1.5}}"#),
            text(transcript),
            text(
                r#"{"type":"session.updated","session":{"model":"rt2","input_audio_transcription":{"model":"ear2"}}}"#,
            ),
            frame(0x01, &done(2)[..50]),
            frame(0x89, "ping"),
            frame(0x80, &done(2)[50..]),
            text(transcript),
        ]);
        assert_eq!(
            told,
            [
                ([3, 2, 4], None),
                ([1, 0, 2], None),
                ([3, 2, 4], of("rt")),
                ([1, 0, 2], of("ear")),
                ([3, 2, 4], of("rt2")),
                ([1, 0, 2], of("ear2")),
            ]
        );
        assert!(is_readable);
    }

    #[test]
    fn responses_tell_their_model_themselves() {
        let completed = |kind: &str, id: u32| {
            text(&format!(
                r#"{{"type":"response.{kind}","response":{{"id":"resp_{id}","model":"m{id}","usage":{{"input_tokens":1,"input_tokens_details":{{"cached_tokens":1}},"output_tokens":1}}}}}}"#
            ))
        };
        let (told, _) = told(&[completed("completed", 1), completed("incomplete", 2), completed("failed", 3)]);
        assert_eq!(told, [1, 2, 3].map(|id| ([1, 1, 1], Some(format!("m{id}")))));
    }

    #[test]
    fn what_is_compressed_is_passed_over() {
        let session = [text(&done(1)), frame(0x41, &done(2)), frame(0x80, &done(3)), text(&done(4))];
        let (told, is_readable) = told(&session);
        assert_eq!((told.len(), is_readable), (2, false));
    }

    #[test]
    fn nothing_long_is_kept() {
        let mut reader = SocketUsageReader::new();
        let mut never = |_: Option<Usage>, _: Option<&str>| panic!("nothing was told");
        reader.read(&[&[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0], &br#"{"response":{"id":""#[..]].concat(), &mut never);
        let piece = vec![b'x'; 1 << 16];
        (0..1 << 10).for_each(|_| reader.read(&piece, &mut never));
        assert!(reader.retained() <= 2 * LONGEST_USAGE);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in vec(any::<u8>(), 0..200), cuts in vec(any::<Index>(), 0..8), at in any::<Index>()) {
            let mut session = [text(&done(1)), bytes, text(&done(2))].concat();
            prop_assert_eq!(read(cut(&session, &cuts)), read([&session[..]]));
            let at = at.index(session.len());
            session[at] ^= 0x40;
            prop_assert_eq!(read(session.chunks(1)), read([&session[..]]));
        }
    }
}
