//! From bytes to a typed document: limits first, then syntax, then shape, each with its place.

use serde::de::DeserializeOwned;
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{Error, MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::input::{InputError, Position, lines};
use crate::places::{self, Places, Tree};

/// Longest file that is read at all, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The only version of the language so far.
pub const API_VERSION: &str = "cellwall.dev/v1";

/// The text of a file, or why its bytes are none.
pub(crate) fn text<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, InputError> {
    if bytes.len() > MAX_BYTES {
        let message = format!(
            "the file is too big: {} bytes, and at most {MAX_BYTES} (1 MiB) are read",
            bytes.len()
        );
        return Err(InputError::whole(file, message));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let error = InputError::whole(file, "the file is UTF-16, and only UTF-8 is read");
        return Err(error.with_hint("save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error, file))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.find('\0') {
        Some(offset) => {
            let position = position_at(text, offset);
            Err(InputError::at(
                file,
                text,
                position,
                "a NUL byte; YAML is text and has none",
            ))
        }
        None => Ok(text),
    }
}

fn not_utf8(bytes: &[u8], error: std::str::Utf8Error, file: &str) -> InputError {
    let at = error.valid_up_to();
    let message = match bytes.get(at) {
        Some(byte) => format!("the file is not UTF-8: byte 0x{byte:02x}"),
        None => "the file is not UTF-8".to_owned(),
    };
    let shown = String::from_utf8_lossy(bytes);
    let position = position_at(&shown, at);
    InputError::at(file, &shown, position, message).with_hint("save it as UTF-8")
}

/// The position of a byte offset.
fn position_at(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line = lines(before).count().max(1);
    let column = lines(before).last().map_or(0, |line| line.chars().count()) + 1;
    Position {
        line,
        column,
        length: 1,
    }
}

/// Limits of the parser: far above any real file, far below what would hurt.
fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_nodes: 100_000,
            max_events: 300_000,
            max_anchors: 100,
            max_aliases: 1_000,
            max_recorded_anchor_events: 100_000,
            max_documents: 2,
            max_merge_keys: 100,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Syntax and places; also that the file is of this kind and version, and holds no empty value.
pub(crate) fn outline(text: &str, file: &str, kind: &str) -> Result<Places, InputError> {
    if text.trim().is_empty() {
        let error = InputError::whole(file, "the file is empty");
        return Err(error.with_hint(format!("it should begin with apiVersion: {API_VERSION}")));
    }
    let tree: Spanned<Tree> = serde_yaml::from_str_with_options(text, options())
        .map_err(|error| translate(&error, text, file, None))?;
    let places = Places::new(file, text, &tree);
    if matches!(tree.value, Tree::Null) {
        let error = InputError::whole(file, "the file holds nothing but comments");
        return Err(error.with_hint(format!("it should begin with apiVersion: {API_VERSION}")));
    }
    if !matches!(tree.value, Tree::Map(_)) {
        let error = InputError::at_value(&places, "", "this is not a document of cellwall");
        return Err(error.with_hint(format!("it should begin with apiVersion: {API_VERSION}")));
    }
    check_head(&places, kind)?;
    if let Some(path) = places.first_null() {
        return Err(InputError::at_key(&places, path, "a value is missing here")
            .with_hint("write one, or leave the whole line out"));
    }
    Ok(places)
}

fn check_head(places: &Places, kind: &str) -> Result<(), InputError> {
    let head = [("apiVersion", API_VERSION), ("kind", kind)];
    for (field, expected) in head {
        if !places.has(field) {
            let message = format!("`{field}` is missing");
            return Err(InputError::at_value(places, "", message)
                .with_hint(format!("write {field}: {expected}")));
        }
        let found = places.scalar(field).unwrap_or_default();
        if found != expected {
            let message = match field {
                "kind" => format!("a {kind} is wanted here, and this file is of kind `{found}`"),
                _ => format!("unknown apiVersion `{found}`"),
            };
            return Err(InputError::at_value(places, field, message).with_valid([expected]));
        }
    }
    Ok(())
}

/// The typed document; its shape is checked, its meaning not yet.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, places: &Places) -> Result<T, InputError> {
    serde_yaml::from_str_with_options(text, options())
        .map_err(|error| translate(&error, text, places.file(), Some(places)))
}

/// The parser's error in our words; `places` is absent while the syntax is still in question.
fn translate(error: &Error, text: &str, file: &str, places: Option<&Places>) -> InputError {
    let error = innermost(error);
    let location = error.location().filter(|found| found.line() > 0);
    let mut position = location.map(places::position);
    if let Some(tab) = tab_indentation(text, position) {
        return InputError::at(file, text, tab, "a tab in the indentation")
            .with_hint("YAML is indented with spaces");
    }
    let (mut message, valid, hint) = wording(error);
    let mut path = String::new();
    if let (Some(places), Some(found)) = (places, position) {
        let at = places.path_at(found.line, found.column);
        position = at.map(|(_, position)| position).or(position);
        path = at.map(|(path, _)| path.to_owned()).unwrap_or_default();
        if let Error::SerdeMissingField { field, .. } = error {
            // The parser points at the last key of the map that lacks the field.
            path = places::parent(&path).unwrap_or_default().to_owned();
            position = places.key(&path).or(position);
            let owner = path.rsplit('.').next().filter(|name| !name.is_empty());
            let owner = owner.map_or("the document".to_owned(), |name| format!("`{name}`"));
            message = format!("{owner} has no `{field}`");
        }
    }
    let input = match position {
        Some(position) => InputError::at(file, text, position, message),
        None => InputError::whole(file, message),
    };
    input.with_path(&path).with_valid(valid).with_hint(hint)
}

fn innermost(mut error: &Error) -> &Error {
    while let Error::WithSnippet { error: inner, .. } | Error::AliasError { error: inner, .. } =
        error
    {
        error = inner;
    }
    error
}

/// The first tab among the spaces that begin a line, not behind the line of the error.
fn tab_indentation(text: &str, error: Option<Position>) -> Option<Position> {
    let last = error?.line;
    lines(text)
        .take(last)
        .enumerate()
        .find_map(|(index, line)| {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            let column = line[..indent].find('\t')? + 1;
            Some(Position {
                line: index + 1,
                column,
                length: 1,
            })
        })
}

/// Message, valid words, hint.
fn wording(error: &Error) -> (String, Vec<String>, &'static str) {
    let owned = |words: &[&'static str]| words.iter().map(|&word| word.to_owned()).collect();
    let plain = |message: &str, hint| (message.to_owned(), Vec::new(), hint);
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (format!("unknown field `{field}`"), owned(expected), ""),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (format!("unknown word `{variant}`"), owned(expected), ""),
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => (
            format!("{expected} is wanted here, not {unexpected}"),
            Vec::new(),
            "",
        ),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            (
                format!("`{key}` is written twice"),
                Vec::new(),
                "each key may stand once in its map",
            )
        }
        Error::MultipleDocuments { .. } => plain(
            "a second document begins here",
            "a fleet and each scenario are files of their own",
        ),
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => plain(
            "a map of fields is wanted here",
            "write for instance { name: value }",
        ),
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => plain("a list is wanted here", "write for instance [one, two]"),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => plain(
            "only one choice may stand here",
            "leave out this one or the one before it",
        ),
        Error::InvalidScalar { ty: "u16", .. } => {
            plain("a whole number from 0 to 65535 is wanted here", "")
        }
        Error::InvalidScalar {
            ty: "u32" | "u64", ..
        } => plain("a whole number that is not negative is wanted here", ""),
        other => limits_or_syntax(other),
    }
}

fn limits_or_syntax(error: &Error) -> (String, Vec<String>, &'static str) {
    let message = UserMessageFormatter.format_message(error).into_owned();
    let limit = matches!(
        error,
        Error::Budget { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
    );
    if limit || message.contains("recursion limit") {
        let message = "the document is too deep, too big, or repeats itself too often".to_owned();
        return (
            message,
            Vec::new(),
            "16 levels and 100,000 values are read at most",
        );
    }
    match error {
        Error::ExternalMessage { .. } => (
            message,
            Vec::new(),
            "is a bracket, a brace or a quote open or missing before this?",
        ),
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => ("a text is wanted here".to_owned(), Vec::new(), ""),
        _ => (message, Vec::new(), ""),
    }
}
