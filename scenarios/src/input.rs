//! Errors in files that people wrote: where, what, the line itself, and which words are valid.

use std::fmt;

use crate::places::Places;

/// Longest piece of a source line or of a foreign word that an error shows, in characters.
const SHOWN: usize = 160;

/// A place in a file; line and column count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
    /// Characters that the caret underlines; at least one is drawn.
    pub length: usize,
}

/// A file could not be used. Nothing has been altered when this is returned: reading and planning
/// touch no machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError(Box<InputDetails>);

/// What is known of an [`InputError`], which gives it out by deref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDetails {
    pub file: String,
    /// Absent only when the error concerns the file as a whole.
    pub position: Option<Position>,
    /// YAML path of the value, for instance `spec.cells.gd-aliyun.nodes[0].address`.
    pub path: String,
    pub message: String,
    /// The source line with control characters replaced; empty without a position.
    pub source_line: String,
    /// The closed list of words that would have been valid here; may be empty.
    pub valid: Vec<String>,
    /// What to write or do instead; may be empty.
    pub hint: String,
}

impl std::error::Error for InputError {}

impl std::ops::Deref for InputError {
    type Target = InputDetails;

    fn deref(&self) -> &InputDetails {
        &self.0
    }
}

impl InputError {
    pub(crate) fn whole(file: &str, message: impl Into<String>) -> InputError {
        InputError(Box::new(InputDetails {
            file: printable(file, usize::MAX),
            position: None,
            path: String::new(),
            message: printable(&message.into(), 4 * SHOWN),
            source_line: String::new(),
            valid: Vec::new(),
            hint: String::new(),
        }))
    }

    /// At a position in `text`, which is the whole file.
    pub(crate) fn at(
        file: &str,
        text: &str,
        position: Position,
        message: impl Into<String>,
    ) -> InputError {
        let mut error = InputError::whole(file, message);
        error.0.position = Some(position);
        error.0.source_line = source_line(text, position.line);
        error
    }

    /// At a position of a file of which only this line is at hand.
    pub(crate) fn at_line(
        file: &str,
        line: &str,
        position: Position,
        message: impl Into<String>,
    ) -> InputError {
        let mut error = InputError::whole(file, message);
        error.0.position = Some(position);
        error.0.source_line = printable(line, usize::MAX);
        error
    }

    /// At the value of a YAML path, or at the nearest part of the path that the file has.
    pub(crate) fn at_value(places: &Places, path: &str, message: impl Into<String>) -> InputError {
        InputError::placed(places, path, places.value(path), message)
    }

    /// At the key of a YAML path: for names that are keys, and for fields that should not be there.
    pub(crate) fn at_key(places: &Places, path: &str, message: impl Into<String>) -> InputError {
        InputError::placed(places, path, places.key(path), message)
    }

    fn placed(
        places: &Places,
        path: &str,
        position: Option<Position>,
        message: impl Into<String>,
    ) -> InputError {
        let error = match position {
            Some(position) => InputError::at(places.file(), places.text(), position, message),
            // A scenario made by code stands in no file.
            None if places.file().is_empty() => InputError::whole("scenario", message),
            None => InputError::whole(places.file(), message),
        };
        error.with_path(path)
    }

    pub(crate) fn with_path(mut self, path: &str) -> InputError {
        self.0.path = printable(path, SHOWN);
        self
    }

    pub(crate) fn with_valid<S: AsRef<str>>(
        mut self,
        words: impl IntoIterator<Item = S>,
    ) -> InputError {
        self.0.valid = words
            .into_iter()
            .map(|word| printable(word.as_ref(), SHOWN))
            .collect();
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> InputError {
        self.0.hint = printable(&hint.into(), 4 * SHOWN);
        self
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(position) = self.position else {
            write!(f, "{}: {}", self.file, self.message)?;
            self.fmt_advice(f, "")?;
            return write!(f, "\nnothing was altered");
        };
        let (line, column) = (position.line, position.column);
        writeln!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
        let margin = " ".repeat(line.to_string().len());
        let (shown, caret_at) = window(&self.source_line, column);
        let room = shown.chars().count().saturating_sub(caret_at).max(1);
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {shown}")?;
        let carets = "^".repeat(position.length.clamp(1, room));
        write!(f, "{margin} | {}{carets}", " ".repeat(caret_at))?;
        self.fmt_advice(f, &margin)?;
        write!(f, "\nnothing was altered")
    }
}

impl InputError {
    fn fmt_advice(&self, f: &mut fmt::Formatter<'_>, margin: &str) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "\n{margin} = at {}", self.path)?;
        }
        if !self.valid.is_empty() {
            write!(f, "\n{margin} = valid here: {}", self.valid.join(", "))?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n{margin} = {}", self.hint)?;
        }
        Ok(())
    }
}

/// Text for a terminal: control characters (escape sequences among them) become `?`, long text is cut.
pub fn printable(text: &str, longest: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(longest)
        .map(|c| {
            if c == '\t' {
                ' '
            } else if unprintable(c) {
                '?'
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(longest).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Control characters, and those that reorder the text around them.
fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The lines of a YAML text: a line ends at LF, CR LF or a lone CR.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn source_line(text: &str, line: usize) -> String {
    let line = lines(text).nth(line.saturating_sub(1)).unwrap_or_default();
    printable(line, usize::MAX)
}

/// The part of a long line around a column, and where in it the caret stands (from 0).
fn window(line: &str, column: usize) -> (String, usize) {
    let caret_at = column.saturating_sub(1).min(line.chars().count());
    let from = if caret_at < SHOWN {
        0
    } else {
        caret_at - SHOWN / 2
    };
    let shown = line.chars().skip(from).take(SHOWN).collect();
    (shown, caret_at - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_word() {
        let position = Position {
            line: 2,
            column: 5,
            length: 3,
        };
        let error = InputError::at("f.yaml", "a:\n    bad: 1\n", position, "no such field")
            .with_valid(["good"]);
        assert_eq!(
            error.to_string(),
            "f.yaml:2:5: no such field\n  |\n2 |     bad: 1\n  |     ^^^\n  \
             = valid here: good\nnothing was altered"
        );
    }

    #[test]
    fn a_terminal_is_never_given_escapes() {
        let position = Position {
            line: 1,
            column: 1,
            length: 99,
        };
        let error = InputError::at("a\u{1b}[31m", "x\u{1b}[2J\u{202e}y", position, "m\u{7}");
        assert!(
            error
                .to_string()
                .chars()
                .all(|c| c == '\n' || !unprintable(c))
        );
    }

    #[test]
    fn a_long_line_is_shown_around_its_column() {
        let text = format!("{}WRONG{}", "a".repeat(5_000), "b".repeat(5_000));
        let position = Position {
            line: 1,
            column: 5_001,
            length: 5,
        };
        let shown = InputError::at("f", &text, position, "m").to_string();
        assert!(shown.contains("WRONG"));
        assert!(shown.len() < 1_000);
    }

    #[test]
    fn lines_end_as_yaml_says() {
        assert_eq!(
            lines("a\r\nb\rc\nd").collect::<Vec<_>>(),
            ["a", "b", "c", "d"]
        );
    }
}
