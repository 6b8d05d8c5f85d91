//! What may be repeated in a hint of what others wrote. A hint holds commands that people paste, so nothing enters one that
//! means anything to a shell or to whatever quotes the hint.

/// Longer ones are no ids or names.
const LONGEST: usize = 253;

/// `text` if it looks like an id or a host.
pub(super) fn id(text: &str) -> Option<&str> {
    made_of(text, "-.")
}

/// `text` if it looks like the name of a deployment.
pub(super) fn name(text: &str) -> Option<&str> {
    made_of(text, "-._")
}

/// `text` if it looks like a URI without query.
pub(super) fn uri(text: &str) -> Option<&str> {
    made_of(text, "-._:/")
}

/// `text` if it is letters, digits and `marks`, and does not begin like an option.
fn made_of<'a>(text: &'a str, marks: &str) -> Option<&'a str> {
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    (begins_well && text.len() <= LONGEST && text.chars().all(allowed)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_hosts_are_repeated() {
        for text in ["0b1f6471-1bf0-4dda-aec3-cb9272f09590", "name.openai.azure.com", "127.0.0.1", "a"] {
            assert_eq!(id(text), Some(text));
        }
        assert_eq!(name("gpt_4.1-mini"), Some("gpt_4.1-mini"));
        assert_eq!(uri("https://ai.azure.com/"), Some("https://ai.azure.com/"));
    }

    #[test]
    fn whatever_a_shell_could_read_is_not() {
        let long = "a".repeat(LONGEST + 1);
        for text in
            ["", "-a", "--help", "$(id)", "`id`", "a b", "a'b", "a\"b", "a\\b", "a;b", "a|b", "a\nb", "a&b", "é", &long]
        {
            assert_eq!((id(text), name(text), uri(text)), (None, None, None), "{text}");
        }
        assert_eq!(id("a_b"), None);
        assert_eq!(name("a/b"), None);
    }
}
