//! The constants of the emulated Azure: one tenant, three principals, one subscription with one Azure OpenAI account.
//!
//! All of it is made up. The names exist so that tests and demos can say whom they mean.

/// The tenant that every token names.
pub const TENANT_ID: &str = "5e1f0c2a-7b64-4a35-9c1d-2f8e6d0b7a10";

/// The subscription of the account.
pub const SUBSCRIPTION_ID: &str = "0d9b7c31-4a52-4f0e-8e63-1c5a2b7f9e20";

/// The resource group of the account.
pub const RESOURCE_GROUP: &str = "emulated-rg";

/// The Azure OpenAI account, in Azure also called the resource.
pub const ACCOUNT: &str = "emulated-openai";

/// The region of the account, as ARM writes it.
pub const LOCATION: &str = "swedencentral";

/// The region of the account, as the data plane's `x-ms-region` writes it.
pub const REGION: &str = "Sweden Central";

/// The secret of [`SERVICE_PRINCIPAL`].
pub const CLIENT_SECRET: &str = "emulated-client-secret-that-opens-nothing";

/// The only subject that the federated credential of [`USER_ASSIGNED`] lets in.
pub const FEDERATED_SUBJECT: &str = "system:serviceaccount:default:app";

/// The issuer that the federated credential of [`USER_ASSIGNED`] trusts.
pub const FEDERATED_ISSUER: &str = "https://oidc.emulated-cluster.invalid/";

/// The audience that a federated token must have.
pub const FEDERATED_AUDIENCE: &str = "api://AzureADTokenExchange";

/// The system-assigned managed identity of the emulated machine.
pub const SYSTEM_ASSIGNED: Principal = Principal {
    client_id: "1a6f3d58-92c4-4e7b-8d05-6b3c9f1e7a31",
    object_id: "2b7e4c69-a3d5-4f8c-9e16-7c4dae2f8b32",
    resource_id: Some(
        "/subscriptions/0d9b7c31-4a52-4f0e-8e63-1c5a2b7f9e20/resourcegroups/emulated-rg\
         /providers/Microsoft.Compute/virtualMachines/emulated-vm",
    ),
};

/// The user-assigned managed identity of the emulated machine; it also has a federated credential.
pub const USER_ASSIGNED: Principal = Principal {
    client_id: "3c8d5b7a-b4e6-40ad-8f27-8d5ebf309c41",
    object_id: "4d9e6c8b-c5f7-41be-9a38-9e6fca41ad42",
    resource_id: Some(
        "/subscriptions/0d9b7c31-4a52-4f0e-8e63-1c5a2b7f9e20/resourcegroups/emulated-rg\
         /providers/Microsoft.ManagedIdentity/userAssignedIdentities/emulated-identity",
    ),
};

/// The application with a client secret.
pub const SERVICE_PRINCIPAL: Principal = Principal {
    client_id: "5eaf7d9c-d608-42cf-8b49-af70db52be51",
    object_id: "6fb08ead-e719-43d0-9c5a-b081ec63cf52",
    resource_id: None,
};

/// What the data plane's tokens may be for (a trailing slash does not matter).
pub const OPENAI_AUDIENCES: [&str; 2] = ["https://cognitiveservices.azure.com", "https://ai.azure.com"];

/// What ARM's tokens may be for (a trailing slash does not matter).
pub const MANAGEMENT_AUDIENCES: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];

/// Resources that Entra knows too: good for tokens that are real, but for something else.
pub const OTHER_AUDIENCES: [&str; 4] =
    ["https://vault.azure.net", "https://storage.azure.com", "https://graph.microsoft.com", "https://ml.azure.com"];

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// The application id, claim `appid`.
    pub client_id: &'static str,
    /// The object id, claim `oid`; error messages name it.
    pub object_id: &'static str,
    /// The ARM id of a managed identity, claim `xms_mirid`.
    pub resource_id: Option<&'static str>,
}

/// Whether Entra has a service principal for `resource`, so that a token for it can be issued.
pub(super) fn knows_resource(resource: &str) -> bool {
    let resource = resource.trim_end_matches('/');
    OPENAI_AUDIENCES.iter().chain(&MANAGEMENT_AUDIENCES).chain(&OTHER_AUDIENCES).any(|known| *known == resource)
}
