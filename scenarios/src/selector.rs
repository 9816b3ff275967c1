//! Which series of a metric are meant: a name and conditions on labels, written as in PromQL.

use std::collections::BTreeMap;
use std::fmt;

use regex_lite::Regex;

/// `shop_requests_total{route="/checkout",code=~"5.."}`. A condition that is a regular expression
/// must match the whole value; a label that is absent has the value "".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    label: String,
    operator: Operator,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Matches,
    MatchesNot,
}

/// Longest first, so that `=~` is not read as `=`.
const OPERATORS: [(&str, Operator); 4] = [
    ("=~", Operator::Matches),
    ("!~", Operator::MatchesNot),
    ("!=", Operator::IsNot),
    ("=", Operator::Is),
];

impl Selector {
    /// Reads a selector; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (metric, rest) = match text.trim().split_once('{') {
            None => (text.trim(), None),
            Some((metric, rest)) => (metric.trim(), Some(rest)),
        };
        if !is_name(metric, ":") {
            return Err(format!("`{metric}` is not the name of a metric"));
        }
        let conditions = match rest {
            None => Vec::new(),
            Some(rest) => conditions(rest)?,
        };
        Ok(Self {
            metric: metric.to_owned(),
            conditions,
        })
    }

    /// The same, of the series alone whose label has this value.
    #[must_use]
    pub fn with(mut self, label: &str, value: &str) -> Self {
        self.conditions.push(Condition {
            label: label.to_owned(),
            operator: Operator::Is,
            value: value.to_owned(),
        });
        self
    }

    /// Whether a series of this metric is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.conditions.iter().all(|condition| {
            let value = labels.get(&condition.label).map_or("", String::as_str);
            condition.holds(value)
        })
    }
}

impl Condition {
    fn holds(&self, value: &str) -> bool {
        // Checked when it was read.
        let matches = || whole(&self.value).is_ok_and(|pattern| pattern.is_match(value));
        match self.operator {
            Operator::Is => value == self.value,
            Operator::IsNot => value != self.value,
            Operator::Matches => matches(),
            Operator::MatchesNot => !matches(),
        }
    }
}

fn whole(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())
}

/// Everything behind the opening brace.
fn conditions(text: &str) -> Result<Vec<Condition>, String> {
    let mut rest = text.trim_start();
    let mut found = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix('}') {
            return match end.trim().is_empty() {
                true => Ok(found),
                false => Err(format!("`{}` stands behind the closing brace", end.trim())),
            };
        }
        let (condition, behind) = condition(rest)?;
        found.push(condition);
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if behind.starts_with('}') => behind,
            None => return Err("a closing brace is missing".to_owned()),
        };
    }
}

fn condition(text: &str) -> Result<(Condition, &str), String> {
    let end = text.find(['=', '!', '}']).unwrap_or(text.len());
    let (label, rest) = text.split_at(end);
    let label = label.trim();
    if !is_name(label, "") {
        return Err(format!("`{label}` is not the name of a label"));
    }
    let operator = OPERATORS.into_iter().find_map(|(word, operator)| {
        let rest = rest.strip_prefix(word)?;
        Some((operator, rest))
    });
    let (operator, rest) = operator
        .ok_or_else(|| format!("`{label}` is compared with nothing; write {label}=\"...\""))?;
    let rest = rest.trim_start();
    let Some(rest) = rest.strip_prefix('"') else {
        return Err(format!("the value of `{label}` is not in double quotes"));
    };
    let (value, rest) =
        quoted(rest).ok_or_else(|| format!("the value of `{label}` has no closing quote"))?;
    if matches!(operator, Operator::Matches | Operator::MatchesNot) {
        whole(&value).map_err(|why| format!("the pattern of `{label}` is none: {why}"))?;
    }
    let label = label.to_owned();
    Ok((
        Condition {
            label,
            operator,
            value,
        },
        rest,
    ))
}

/// A quoted text without its first quote: what it says, and what comes behind it.
pub fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn is_name(text: &str, beside: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || beside.contains(c);
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(inner)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.metric)?;
        if self.conditions.is_empty() {
            return Ok(());
        }
        let conditions = self.conditions.iter().map(|condition| {
            let (word, _) = OPERATORS
                .into_iter()
                .find(|(_, operator)| *operator == condition.operator)
                .unwrap_or(OPERATORS[3]);
            let value = condition.value.replace('\\', "\\\\").replace('"', "\\\"");
            let value = value.replace('\n', "\\n");
            format!("{}{word}\"{value}\"", condition.label)
        });
        write!(f, "{{{}}}", conditions.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn selectors_choose_series_as_prometheus_does() {
        let read = |text| Selector::parse(text).unwrap();
        let series = labels(&[("route", "/checkout"), ("code", "503")]);
        for (text, chosen) in [
            ("requests", true),
            ("requests{}", true),
            (r#"requests{route="/checkout"}"#, true),
            (r#"requests{ route = "/checkout" , code =~ "5.." , }"#, true),
            (r#"requests{code=~"50"}"#, false),
            (r#"requests{code!~"5..|4.."}"#, false),
            (r#"requests{code!="503"}"#, false),
            (r#"requests{absent=""}"#, true),
            (r#"requests{absent!=""}"#, false),
        ] {
            assert_eq!(read(text).matches(&series), chosen, "{text}");
        }
        let told = read(r#"a:b{x="q\"\\",y!~"n.*"}"#).with("cell", "aws");
        assert_eq!(told.to_string(), r#"a:b{x="q\"\\",y!~"n.*",cell="aws"}"#);
        assert_eq!(read(&told.to_string()), told);
    }

    #[test]
    fn what_is_no_selector_is_told_why() {
        for (text, why) in [
            ("", "is not the name of a metric"),
            ("rate(x[5m])", "is not the name of a metric"),
            ("x{a}", "compared with nothing"),
            ("x{a=b}", "not in double quotes"),
            ("x{a=\"b}", "no closing quote"),
            ("x{a=\"b\"", "a closing brace is missing"),
            ("x{a=\"b\"} + 1", "behind the closing brace"),
            ("x{a=~\"(\"}", "the pattern of `a` is none"),
            ("x{1a=\"b\"}", "is not the name of a label"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
