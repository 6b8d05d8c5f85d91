//! Names that enter a URL or a token request: checked once, here.

use std::fmt;

use serde::Deserialize;

/// What a token is asked for: a resource's URI followed by `/.default`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Scope(String);

impl Scope {
    /// Reads a scope.
    ///
    /// # Errors
    ///
    /// Says what would be right if `text` is not a resource's URI followed by `/.default`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
        match text.strip_suffix("/.default") {
            Some(resource) if !resource.is_empty() && text.chars().all(plain) => Ok(Self(text.to_owned())),
            _ => {
                Err("must be a resource's URI followed by /.default, like https://cognitiveservices.azure.com/.default"
                    .to_owned())
            }
        }
    }

    /// The scope as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope that stands for all of `resource`.
    pub(super) fn of(resource: &str) -> Self {
        Self(format!("{resource}/.default"))
    }
}

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An id, or one segment of a management URL: letters, digits, dashes and dots, and not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Segment(String);

impl Segment {
    /// Reads a segment.
    ///
    /// # Errors
    ///
    /// Says what is allowed if `text` holds anything else, nothing, dots alone or more than 128 bytes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        let named = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
        if named && text.len() <= 128 && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected letters, digits, dashes and dots".to_owned())
        }
    }

    /// The segment's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Segment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a resource or of its group, as Azure allows them: letters and digits of any script, `_`, `-`, `.` and
/// parentheses, and no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ResourceName(String);

impl ResourceName {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// Says what is allowed if `text` holds anything else, nothing of a name, or more than 90 characters.
    pub fn parse(text: &str) -> Result<Self, String> {
        /// What Azure allows for groups; other names are shorter.
        const LONGEST: usize = 90;
        let plain = |c: char| c.is_alphanumeric() || "_-.()".contains(c);
        let named = text.contains(char::is_alphanumeric) && !text.ends_with('.');
        if named && text.chars().count() <= LONGEST && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected letters, digits, `_`, `-`, `.` and parentheses, and no dot at the end".to_owned())
        }
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the name of the same: Azure's names do not differ by case alone.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

impl TryFrom<String> for ResourceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Azure resource id of a user-assigned identity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ResourceId(String);

impl TryFrom<String> for ResourceId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("/subscriptions/") {
            Some(rest) if !rest.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace()) => Ok(Self(text)),
            _ => Err("expected /subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME"
                .to_owned()),
        }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_inside_its_place() {
        for good in ["swedencentral", "2023-05-01", "2024-06-01-preview", "0b1f6471-1bf0-4dda-aec3-cb9272f09590", "a.b"]
        {
            assert!(Segment::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "...", "a/b", "..%2f..", "a b", "a?b", "a#b", "é", "a\\b", "-", &"a".repeat(129)] {
            assert!(Segment::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_names_a_resource() {
        assert!(Scope::parse("https://cognitiveservices.azure.com/.default").is_ok());
        for bad in
            ["", "/.default", "https://cognitiveservices.azure.com", "https://a b/.default", "https://x/.default?y"]
        {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resources_name_stays_inside_its_place() {
        for good in ["my-group", "rg_1", "a.b", "group(1)", "größe", "A", &"a".repeat(90)] {
            assert!(ResourceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a.", "_", "a/b", "a%2f", "a b", "a?b", "a#b", "a\\b", "a\n", &"a".repeat(91)] {
            assert!(ResourceName::parse(bad).is_err(), "{bad}");
        }
        let like = |a, b| ResourceName::parse(a).expect(a).is_like(&ResourceName::parse(b).expect(b));
        assert!(like("RG", "rg") && !like("rg", "rg2"));
    }

    #[test]
    fn a_resource_id_begins_at_its_subscription() {
        let id = "/subscriptions/s/resourceGroups/g (1)/x".replace(' ', "_");
        assert_eq!(ResourceId::try_from(id.clone()).expect("an id").to_string(), id);
        for bad in ["", "name", "/subscriptions/", "subscriptions/s", "https://h/subscriptions/s", "/subscriptions/a b"]
        {
            assert!(ResourceId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
