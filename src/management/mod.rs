//! The management plane, read only: the models that a region offers, the account's deployments, and the list of models
//! that these make.

mod accounts;
mod asked;
mod catalogue;
mod deployments;
mod entries;
mod failure;
mod openai;
mod pages;
mod plane;
mod remedy;
mod routes;

pub use accounts::Account;
pub use catalogue::Catalogue;
pub use deployments::Deployments;
pub use entries::{Capabilities, Deployment, Model, ModelName, Sku};
pub use failure::{Failure, Said};
pub use openai::{is_of_models, list, retrieve};
pub use plane::{List, Plane, Scope};
pub use remedy::remedy;
pub use routes::{Lists, deployments, models};
