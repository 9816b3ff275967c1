//! The lines of a history file, to records.

use serde::Deserialize;

use super::{READABLE_FORMATS, Record};
use crate::input::{InputError, Position};

/// How the line of a verdict begins.
const VERDICT: &[u8] = b"{\"verdict\":";

/// Takes the lines of one history file in their order.
#[derive(Debug)]
pub struct Reader {
    file: String,
    records: Vec<Record>,
    torn: bool,
    /// A line came without its line feed: it must have been the last.
    open: bool,
}

/// All that a file holds.
#[derive(Debug)]
pub struct History {
    /// The last is `Torn` where a record may be cut off that the verdict is made from.
    pub records: Vec<Record>,
    /// Its last line is cut off: whoever wrote it was killed, or is still writing.
    pub torn: bool,
}

/// What every version of the header has.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyFormat,
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl Reader {
    /// The name is for errors.
    pub fn of(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            records: Vec::new(),
            torn: false,
            open: false,
        }
    }

    /// The next line, with its line feed if it has one. Only the last may be without it, and is then
    /// left out unless it is a whole record.
    pub fn line(&mut self, line: &[u8]) -> Result<(), InputError> {
        if self.open {
            let message = "the line is longer than any record";
            return Err(self.error(b"", 1, message));
        }
        let (line, whole) = match line.strip_suffix(b"\n") {
            Some(line) => (line, true),
            None => (line, false),
        };
        self.open = !whole;
        if self.records.is_empty() && whole {
            self.check_format(line)?;
        }
        match serde_json::from_slice(line) {
            Ok(record) => self.records.push(record),
            Err(_) if !whole => self.tear(line),
            Err(error) => return Err(self.error(line, error.column(), &words(&error))),
        }
        Ok(())
    }

    /// A verdict is never judged by: of all records it alone may be cut off without harm.
    fn tear(&mut self, line: &[u8]) {
        self.torn = true;
        if !self.records.is_empty() && !line.starts_with(VERDICT) {
            self.records.push(Record::Torn);
        }
    }

    /// A file without any record is no history.
    pub fn end(self) -> Result<History, InputError> {
        match self.records.is_empty() {
            true => Err(InputError::whole(
                &self.file,
                "not a history: it holds no record",
            )),
            false => Ok(History {
                records: self.records,
                torn: self.torn,
            }),
        }
    }

    fn check_format(&self, line: &[u8]) -> Result<(), InputError> {
        let format = match serde_json::from_slice::<AnyHeader>(line) {
            Ok(any) => any.header.format,
            Err(_) => {
                let message = "not a history: the first line is not its header";
                return Err(self.error(line, 1, message));
            }
        };
        match READABLE_FORMATS.contains(&format) {
            true => Ok(()),
            false => Err(self.error(line, 1, &foreign_format(format))),
        }
    }

    /// At the line that comes next. serde_json counts columns in bytes, from 1; 0 is before the first.
    fn error(&self, line: &[u8], column: usize, message: &str) -> InputError {
        let text = String::from_utf8_lossy(line);
        let before = column.saturating_sub(1).min(line.len());
        let position = Position {
            line: self.records.len() + 1,
            column: String::from_utf8_lossy(&line[..before]).chars().count() + 1,
            length: 1,
        };
        InputError::at_line(&self.file, &text, position, message)
    }
}

/// Why a history of this format is not read.
pub(crate) fn foreign_format(format: u32) -> String {
    let [old, new] = READABLE_FORMATS;
    format!("the history has format {format}, this cellwall reads {old} and {new}")
}

/// What is wrong, without the place, which is told beside it.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Phase, PhaseMark};

    fn read(text: &[u8]) -> Result<History, InputError> {
        let mut reader = Reader::of("h.jsonl");
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            reader.line(line)?;
        }
        reader.end()
    }

    fn header() -> String {
        let header = Record::Header(Box::new(crate::verdict::drill::header()));
        format!("{}\n", serde_json::to_string(&header).unwrap())
    }

    const MARK: &str = "{\"phase\":{\"phase\":\"fire\",\"at_ms\":7000}}\n";

    #[test]
    fn whole_lines_are_records_and_a_torn_last_one_is_told() {
        let text = header() + MARK;
        let history = read(text.as_bytes()).unwrap();
        let fire = PhaseMark {
            phase: Phase::Fire,
            at_ms: 7_000,
        };
        assert_eq!(history.records[1..], [Record::Phase(fire)]);
        assert!(!history.torn);
        for cut in 1..MARK.len() - 1 {
            let history = read(&text.as_bytes()[..text.len() - 1 - cut]).unwrap();
            assert!(history.torn, "{cut}");
            assert_eq!(history.records[1..], [Record::Torn], "{cut}");
        }
        // Only the line feed is missing: nothing of the record is.
        let history = read(text.trim_end().as_bytes()).unwrap();
        assert_eq!((history.records.len(), history.torn), (2, false));
    }

    /// As of a device that never ends: who reads in pieces hears of it with the second one.
    #[test]
    fn nothing_comes_behind_a_line_without_its_end() {
        let mut reader = Reader::of("h.jsonl");
        reader.line(&[0; 1000]).unwrap();
        let error = reader.line(&[0; 1000]).unwrap_err().to_string();
        assert!(error.contains("longer than any record"), "{error}");
        let mut reader = Reader::of("h.jsonl");
        reader.line(header().as_bytes()).unwrap();
        reader.line(MARK.trim_end().as_bytes()).unwrap();
        assert!(reader.line(MARK.as_bytes()).is_err());
    }

    #[test]
    fn errors_name_the_line_and_the_column() {
        let told = |text: String| read(text.as_bytes()).unwrap_err().to_string();
        let error = told(header() + MARK + "{\"phase\":{\"phase\":\"fired\",\"at_ms\":1}}\n");
        assert!(error.contains("h.jsonl:3:25"), "{error}");
        assert!(
            error.contains("fired") && error.contains("reverted"),
            "{error}"
        );
        let error = told(header() + "\n");
        assert!(error.contains("h.jsonl:2:1"), "{error}");
        let error = told(header() + "{\"block\":1}\n" + MARK);
        assert!(error.contains("h.jsonl:2:"), "{error}");
        let error = read(&[header().as_bytes(), b"\xff\xfe\n"].concat()).unwrap_err();
        assert!(error.to_string().contains("h.jsonl:2:1"), "{error}");
    }

    #[test]
    fn what_is_no_history_of_this_format_is_refused() {
        let told = |text: String| read(text.as_bytes()).unwrap_err().to_string();
        assert!(told(String::new()).contains("holds no record"));
        assert!(told("{\"hea".into()).contains("holds no record"));
        assert!(told(MARK.to_owned()).contains("not its header"));
        assert!(told("metadata: {}\n".into()).contains("not its header"));
        for foreign in [0, 3] {
            let format = format!("\"format\":{foreign}");
            let other = header().replacen("\"format\":2", &format, 1);
            let error = told(other);
            assert!(
                error.contains(&format!("format {foreign}, this cellwall reads 1 and 2")),
                "{error}"
            );
        }
        let later = "{\"header\":{\"format\":9,\"unheard\":[]}}\n".to_owned();
        assert!(told(later).contains("format 9"));
    }
}
