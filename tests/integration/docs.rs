//! What the documentation quotes is what the sources say: a page that answers errors must have the errors that there are.

use std::fs;
use std::path::Path;

/// The page that is searched for error texts.
const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// A template of a message must share this much with a quotation: two words, say.
const ENOUGH: usize = 10;

#[test]
fn every_code_of_an_error_has_its_answer() {
    let source = include_str!("../../src/error/answer.rs");
    let (_, behind) = source.split_once("pub fn code(&self)").expect("the function");
    let (function, _) = behind.split_once("\n    }\n").expect("its end");
    let codes: Vec<&str> = quoted(function).collect();
    assert!(codes.len() >= 18, "{codes:?}");
    for code in codes {
        let heading = PAGE.lines().any(|line| line.starts_with("### ") && line.contains(&format!("`{code}`")));
        assert!(heading, "docs/troubleshooting.md has no heading for `{code}`");
    }
}

#[test]
fn what_is_quoted_of_ours_is_still_said() {
    let texts = texts("src");
    let templates: Vec<Vec<&str>> = texts.iter().map(|text| fixed_parts(text)).collect();
    let mut seen = 0;
    for title in ["The proxy does not start", "Not ready", "No token for Azure"] {
        let first_cells = section(title).filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        for quotation in first_cells.flat_map(code).filter(|text| !text.starts_with("AADSTS")) {
            seen += 1;
            assert!(is_said(quotation, &texts, &templates), "no source says: {quotation}");
        }
    }
    for line in section("The proxy's own errors").filter(|line| line.starts_with('`') && !line.starts_with("```")) {
        seen += 1;
        let quotation = code(line).next().expect("what the paragraph begins with");
        assert!(is_said(quotation, &texts, &templates), "no source says: {quotation}");
    }
    assert!(seen > 40, "only {seen} quotations were found");
}

#[test]
fn what_is_quoted_of_azures_is_what_we_look_for() {
    let known: String = ["src/explain", "src/emulator"].into_iter().flat_map(texts).collect::<String>().to_lowercase();
    let rows = section("What Azure refuses").filter(|line| line.starts_with("| 4"));
    let quotations: Vec<&str> = rows.filter_map(|line| line.split(" | ").nth(1)).flat_map(code).collect();
    assert!(quotations.len() > 10, "{quotations:?}");
    for quotation in quotations {
        assert!(known.contains(&quotation.to_lowercase()), "neither hints nor emulator know: {quotation}");
    }
}

/// The lines under a heading of the second level.
fn section(title: &str) -> impl Iterator<Item = &'static str> {
    let heading = format!("## {title}");
    let behind = PAGE.lines().skip_while(move |line| *line != heading).skip(1);
    behind.take_while(|line| !line.starts_with("## "))
}

/// What stands in backticks, single or double.
fn code(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let begin = rest.find('`')?;
        let fence = if rest[begin..].starts_with("``") { "``" } else { "`" };
        let (text, behind) = rest[begin + fence.len()..].split_once(fence)?;
        rest = behind;
        Some(text.trim())
    })
}

/// What stands between each pair of quotation marks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// The text literals of all sources below `directory`, roughly: enough to look for words in.
fn texts(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(path).expect("a source").replace("'\"'", "").replace("\\\"", "'");
            // A literal that goes on in the next line begins there without blanks.
            let lines: Vec<&str> = source.split("\\\n").collect();
            let joined = lines.iter().enumerate().map(|(at, part)| if at == 0 { part } else { part.trim_start() });
            found.extend(quoted(&joined.collect::<String>()).map(str::to_owned));
        }
    }
    found
}

/// What a message has between the places that are filled in.
fn fixed_parts(template: &str) -> Vec<&str> {
    template.split('{').map(|part| part.split_once('}').map_or(part, |(_, fixed)| fixed)).collect()
}

fn is_said(quotation: &str, texts: &[String], templates: &[Vec<&str>]) -> bool {
    texts.iter().any(|text| text.contains(quotation)) || templates.iter().any(|parts| begins(quotation, parts))
}

/// Whether a message made of `parts` can begin with `quotation`.
fn begins(quotation: &str, parts: &[&str]) -> bool {
    let Some(mut rest) = quotation.strip_prefix(parts[0]) else { return false };
    let mut shared = parts[0].len();
    for part in parts[1..].iter().filter(|part| !part.is_empty()) {
        let Some((filled_in, behind)) = rest.split_once(part) else { break };
        if filled_in.is_empty() {
            return false;
        }
        (rest, shared) = (behind, shared + part.len());
    }
    // What is left is filled in: a name, an address.
    shared >= ENOUGH && !rest.contains(' ')
}
