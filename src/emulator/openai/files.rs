//! Files: uploaded as a stream, kept in memory, given back unchanged.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{Multipart, Path, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use serde_json::{Value, json};
use uuid::Uuid;

use super::DataPlane;
use super::refusal::Refusal;
use crate::emulator::lock::Lock;

/// How much all files together may hold.
const CAPACITY: u64 = 1024 * 1024 * 1024;

/// The files of the account, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Files(Lock<BTreeMap<u64, File>>);

#[derive(Debug, Clone)]
struct File {
    id: String,
    name: String,
    purpose: String,
    created: u64,
    content: Content,
}

/// The pieces of a file as they came, so that a large one is never copied.
#[derive(Debug, Clone, Default)]
struct Content {
    pieces: Vec<Bytes>,
    length: u64,
}

/// `POST /openai/v1/files`
pub(super) async fn upload(
    State(plane): State<Arc<DataPlane>>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let form = form.map_err(|rejection| Refusal::Invalid { message: rejection.body_text(), param: None })?;
    let file = read_form(&plane, form).await?;
    let entry = file.entry();
    plane.files.add(file);
    Ok((StatusCode::CREATED, Json(entry)))
}

/// `GET /openai/v1/files`
pub(super) async fn list(State(plane): State<Arc<DataPlane>>) -> Json<Value> {
    let entries: Vec<_> = plane.files.0.open().values().map(File::entry).collect();
    let ends = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone());
    let (first, last) = (ends(entries.first()), ends(entries.last()));
    Json(json!({ "object": "list", "data": entries, "first_id": first, "last_id": last, "has_more": false }))
}

/// `GET /openai/v1/files/{id}`
pub(super) async fn retrieve(
    State(plane): State<Arc<DataPlane>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(plane.files.find(&id)?.entry()))
}

/// `GET /openai/v1/files/{id}/content`
pub(super) async fn content(
    State(plane): State<Arc<DataPlane>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let file = plane.files.find(&id)?;
    let name: String =
        file.name.chars().filter(|char| char.is_ascii_graphic() && !matches!(char, '"' | '\\')).collect();
    let fields = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((fields, file.content.into_body()))
}

/// `DELETE /openai/v1/files/{id}`
pub(super) async fn delete(
    State(plane): State<Arc<DataPlane>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    plane.files.find(&id)?;
    plane.files.0.open().retain(|_, file| file.id != id);
    Ok(Json(json!({ "id": id, "object": "file", "deleted": true })))
}

async fn read_form(plane: &DataPlane, mut form: Multipart) -> Result<File, Refusal> {
    let (mut purpose, mut file) = (None, None);
    while let Some(mut field) = form.next_field().await.map_err(|error| unreadable(&error))? {
        match field.name() {
            Some("purpose") => purpose = Some(read_word(field).await?),
            Some("file") => {
                let name = field.file_name().unwrap_or("upload").to_owned();
                file = Some((name, read_content(&plane.files, &mut field).await?));
            }
            _ => {}
        }
    }
    let (name, content) = file.ok_or(Refusal::Missing("file"))?;
    let purpose = purpose.ok_or(Refusal::Missing("purpose"))?;
    let id = format!("assistant-{}", Uuid::new_v4().simple());
    Ok(File { id, name, purpose, created: plane.control.tokens.now(), content })
}

/// As UTF-8, which the library reads as one of forty encodings.
async fn read_word(field: Field<'_>) -> Result<String, Refusal> {
    let word = field.bytes().await.map_err(|error| unreadable(&error))?;
    Ok(String::from_utf8_lossy(&word).into_owned())
}

async fn read_content(files: &Files, field: &mut Field<'_>) -> Result<Content, Refusal> {
    let mut content = Content::default();
    let taken = files.taken();
    while let Some(piece) = field.chunk().await.map_err(|error| unreadable(&error))? {
        content.length += u64::try_from(piece.len()).unwrap_or(CAPACITY);
        if taken + content.length > CAPACITY {
            return Err(Refusal::TooLarge("The files of the emulator may hold 1 GiB together.".to_owned()));
        }
        content.pieces.push(piece);
    }
    Ok(content)
}

fn unreadable(error: &MultipartError) -> Refusal {
    Refusal::Invalid { message: error.body_text(), param: None }
}

impl Files {
    fn add(&self, file: File) {
        let mut files = self.0.open();
        let number = files.last_key_value().map_or(0, |(number, _)| number + 1);
        files.insert(number, file);
    }

    fn find(&self, id: &str) -> Result<File, Refusal> {
        let found = self.0.open().values().find(|file| file.id == id).cloned();
        found.ok_or_else(|| Refusal::ItemNotFound { kind: "File", id: id.to_owned() })
    }

    fn taken(&self) -> u64 {
        self.0.open().values().map(|file| file.content.length).sum()
    }
}

impl File {
    fn entry(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.content.length,
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        })
    }
}

impl Content {
    fn into_body(self) -> Body {
        Body::new(Pieces { pieces: self.pieces.into_iter(), left: self.length })
    }
}

/// A body whose length is known and that still goes out piece by piece.
struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.next();
        if let Some(piece) = &piece {
            self.left = self.left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
