//! Embeddings of texts and token lists.

use axum::Json;
use axum::extract::Path;
use serde::Deserialize;
use serde_json::{Value, json};

use super::prompt::tokens;
use super::refusal::Refusal;
use super::sent::Sent;
use super::vectors::{as_base64, unit_vector};
use crate::emulator::catalogue::{self, Deployment, Kind};

/// How many inputs one request may have.
const MOST_INPUTS: usize = 2048;

/// What the client asks for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    model: Option<String>,
    input: Option<Input>,
    #[serde(default)]
    encoding_format: Encoding,
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

/// One thing to embed: what is hashed, and roughly how many tokens it has.
struct Item {
    content: Vec<u8>,
    tokens: usize,
}

/// `POST /openai/v1/embeddings`: the body names the deployment.
pub(super) async fn create(Sent(asked): Sent<Asked>) -> Result<Json<Value>, Refusal> {
    let model = asked.model.clone().ok_or(Refusal::Missing("model"))?;
    embed(&model, asked)
}

/// `POST /openai/deployments/{deployment}/embeddings`: the path names the deployment.
pub(super) async fn create_on_deployment(
    Path(deployment): Path<String>,
    Sent(asked): Sent<Asked>,
) -> Result<Json<Value>, Refusal> {
    embed(&deployment, asked)
}

fn embed(deployment: &str, asked: Asked) -> Result<Json<Value>, Refusal> {
    let deployment = catalogue::deployment(deployment).ok_or(Refusal::DeploymentNotFound)?;
    let dimensions = dimensions(deployment, asked.dimensions)?;
    let items = asked.input.ok_or(Refusal::Missing("input"))?.items();
    if items.is_empty() || items.len() > MOST_INPUTS {
        let message = format!("'$.input' is invalid. It needs between 1 and {MOST_INPUTS} items.");
        return Err(Refusal::Invalid { message, param: Some("input") });
    }
    let data: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let vector = unit_vector(&item.content, dimensions);
            let embedding = match asked.encoding_format {
                Encoding::Float => json!(vector),
                Encoding::Base64 => Value::String(as_base64(&vector)),
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let tokens: usize = items.iter().map(|item| item.tokens).sum();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(Json(json!({ "object": "list", "data": data, "model": deployment.model.name, "usage": usage })))
}

fn dimensions(deployment: Deployment, asked: Option<usize>) -> Result<usize, Refusal> {
    let model = deployment.model;
    let Kind::Embeddings { dimensions, adjustable } = model.kind else {
        return Err(Refusal::OperationNotSupported { operation: "embeddings", model: model.name });
    };
    let message = match asked {
        None => return Ok(dimensions),
        Some(_) if !adjustable => "This model does not support specifying dimensions.".to_owned(),
        Some(asked) if (1..=dimensions).contains(&asked) => return Ok(asked),
        Some(asked) => format!("Invalid value for 'dimensions' = {asked}. Must be between 1 and {dimensions}."),
    };
    Err(Refusal::Invalid { message, param: Some("dimensions") })
}

impl Input {
    fn items(self) -> Vec<Item> {
        match self {
            Self::Text(text) => vec![Item::of_text(&text)],
            Self::Texts(texts) => texts.iter().map(|text| Item::of_text(text)).collect(),
            Self::Tokens(tokens) if tokens.is_empty() => Vec::new(),
            Self::Tokens(tokens) => vec![Item::of_tokens(&tokens)],
            Self::TokenLists(lists) => lists.iter().map(|tokens| Item::of_tokens(tokens)).collect(),
        }
    }
}

impl Item {
    fn of_text(text: &str) -> Self {
        Self { content: text.as_bytes().to_vec(), tokens: tokens(text) }
    }

    fn of_tokens(tokens: &[u32]) -> Self {
        Self { content: tokens.iter().flat_map(|token| token.to_le_bytes()).collect(), tokens: tokens.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(input: Value) -> usize {
        serde_json::from_value::<Input>(input).unwrap().items().len()
    }

    #[test]
    fn inputs_of_every_form_are_told_apart() {
        assert_eq!(items(json!("one")), 1);
        assert_eq!(items(json!(["one", "two"])), 2);
        assert_eq!(items(json!([1, 2, 3])), 1);
        assert_eq!(items(json!([[1, 2], [3]])), 2);
        assert_eq!(items(json!([])), 0);
    }

    #[test]
    fn dimensions_are_limited_by_the_model() {
        let small = catalogue::deployment("text-embedding-3-small").unwrap();
        let ada = catalogue::deployment("text-embedding-ada-002").unwrap();
        assert_eq!(dimensions(small, None).unwrap(), 1536);
        assert_eq!(dimensions(small, Some(256)).unwrap(), 256);
        assert!(dimensions(small, Some(1537)).is_err());
        assert!(dimensions(ada, Some(256)).is_err());
    }
}
