//! The lines of a history file, to records, on all cores.

use std::io::{self, Read};

use serde::Deserialize;

use super::{READABLE_FORMATS, Record};
use crate::cores;
use crate::input::{InputError, Position};

/// How the line of a verdict begins.
const VERDICT: &[u8] = b"{\"verdict\":";

/// A line longer than this is no record.
const LINE_MAX: usize = 64 << 20;
/// Bytes that are read before their lines are parsed.
const BATCH: u64 = 8 << 20;
/// Fewer lines are not worth another thread.
const LINES_OF_A_THREAD: usize = 1_000;

type Parsed = Result<Record, serde_json::Error>;

/// Why a history was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Input(#[from] InputError),
}

/// Takes the lines of one history file in their order.
#[derive(Debug)]
struct Reader {
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

/// A whole history. The name is for errors.
pub fn read(mut source: impl Read, file: &str) -> Result<History, ReadError> {
    let mut reader = Reader::of(file);
    let mut text = Vec::new();
    loop {
        let read = source.by_ref().take(BATCH).read_to_end(&mut text)?;
        let last = text.iter().rposition(|byte| *byte == b'\n');
        let whole = match last {
            Some(at) if read > 0 => at + 1,
            None if read > 0 && text.len() < LINE_MAX => continue,
            _ => text.len(),
        };
        reader.lines(&text[..whole])?;
        text.drain(..whole);
        if read == 0 {
            return Ok(reader.end()?);
        }
    }
}

fn record(line: &[u8]) -> Parsed {
    serde_json::from_slice(line.strip_suffix(b"\n").unwrap_or(line))
}

impl Reader {
    fn of(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            records: Vec::new(),
            torn: false,
            open: false,
        }
    }

    /// The next lines, with their line feeds. Only the last of all may be without one, and is then left
    /// out unless it is a whole record.
    fn lines(&mut self, text: &[u8]) -> Result<(), InputError> {
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let parsed = cores::map(&lines, LINES_OF_A_THREAD, |line| record(line));
        for (line, parsed) in lines.iter().zip(parsed) {
            self.take(line, parsed)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8], parsed: Parsed) -> Result<(), InputError> {
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
        match parsed {
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
    fn end(self) -> Result<History, InputError> {
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
    let [old, .., new] = READABLE_FORMATS;
    format!("the history has format {format}, this cellwall reads {old} to {new}")
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
        match super::read(text, "h.jsonl") {
            Ok(history) => Ok(history),
            Err(ReadError::Input(error)) => Err(error),
            Err(ReadError::Io(error)) => panic!("{error}"),
        }
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
        reader.lines(&[0; 1000]).unwrap();
        let error = reader.lines(&[0; 1000]).unwrap_err().to_string();
        assert!(error.contains("longer than any record"), "{error}");
        let mut reader = Reader::of("h.jsonl");
        reader.lines(header().as_bytes()).unwrap();
        reader.lines(MARK.trim_end().as_bytes()).unwrap();
        assert!(reader.lines(MARK.as_bytes()).is_err());
        let endless = io::repeat(0).take(2 * LINE_MAX as u64 + BATCH);
        let error = super::read(endless, "h.jsonl").unwrap_err().to_string();
        assert!(error.contains("longer than any record"), "{error}");
    }

    /// More than one thread parses, and more than one batch is read.
    #[test]
    fn records_and_errors_of_long_files_keep_their_lines() {
        let at = |ms: usize| MARK.replace("7000", &ms.to_string());
        let count = 2 * BATCH as usize / MARK.len();
        let text = header() + &(1..count).map(at).collect::<String>();
        let records = read(text.as_bytes()).unwrap().records;
        assert_eq!(records.len(), count);
        for (ms, record) in records.iter().enumerate().skip(1) {
            assert!(matches!(record, Record::Phase(mark) if mark.at_ms == ms as u64));
        }
        let spoilt = text.replace(&at(count - 5), "{}\n");
        let error = read(spoilt.as_bytes()).unwrap_err().to_string();
        let line = format!("h.jsonl:{}:", count - 4);
        assert!(error.contains(&line), "{error}");
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
        for foreign in [0, 4] {
            let format = format!("\"format\":{foreign}");
            let other = header().replacen("\"format\":3", &format, 1);
            let error = told(other);
            assert!(
                error.contains(&format!("format {foreign}, this cellwall reads 1 to 3")),
                "{error}"
            );
        }
        let later = "{\"header\":{\"format\":9,\"unheard\":[]}}\n".to_owned();
        assert!(told(later).contains("format 9"));
    }
}
