//! JSONPath (RFC 9535): where in an answer a value is looked for, and what it must be.

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::Value;

use crate::asks::At;
use crate::input::InputError;
use crate::values::{Scalar, Text};

/// Longest path that is read, in bytes.
const LONGEST_PATH: usize = 1000;

/// A path such as `$.items[0].id`, known to be one.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    text: String,
    query: JpQuery,
}

impl JsonPath {
    /// # Errors
    /// In words, if it is no JSONPath.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a JSONPath; write for instance $.items[0].id");
        if text.len() > LONGEST_PATH {
            return Err(format!("a JSONPath has at most {LONGEST_PATH} bytes"));
        }
        let query = parse_json_path(text).map_err(|_| wrong())?;
        let text = text.to_owned();
        Ok(Self { text, query })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything in `json` that it leads to; none if nothing.
    ///
    /// # Errors
    /// If the path cannot be followed, which is not the same as leading nowhere.
    pub fn find<'a>(&self, json: &'a Value) -> Result<Vec<&'a Value>, String> {
        let found = js_path_process(&self.query, json).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|found| found.val()).collect())
    }
}

impl Scalar for JsonPath {
    const NAME: &'static str = "JsonPath";
    const PATTERN: &'static str = "^[$]";
    const HOW: &'static str = "a JSONPath such as $.items[0].id";

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

/// One thing that must be so in a JSON answer.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonCheck {
    pub path: JsonPath,
    pub wanted: JsonWanted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum JsonWanted {
    /// The path leads somewhere, or (false) nowhere.
    Exists(bool),
    /// The path leads somewhere, and everything there is this text, number, true or false.
    Equals(Value),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonSpec {
    path: Text<JsonPath>,
    /// Everything that the path leads to must be this; a text may hold placeholders.
    equals: Option<Plain>,
    /// false: the path must lead nowhere. Default true.
    exists: Option<bool>,
}

impl JsonCheck {
    pub(super) fn read(spec: JsonSpec, at: &At<'_>) -> Result<Self, InputError> {
        let wanted = match (spec.equals, spec.exists) {
            (Some(_), Some(_)) => {
                let message = "either equals or exists, not both";
                return Err(at.below("exists").wrong_key(message));
            }
            (Some(Plain(value)), None) => JsonWanted::Equals(value),
            (None, exists) => JsonWanted::Exists(exists.unwrap_or(true)),
        };
        let path = spec.path.0;
        Ok(Self { path, wanted })
    }
}

/// A text, a number, true or false; never a list or a map.
#[derive(Clone, Debug, PartialEq)]
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Plain;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a text, a number, true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Plain, E> {
                Ok(Plain(value.into()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Plain, E> {
                Ok(Plain(value.into()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Plain, E> {
                Ok(Plain(value.into()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Plain, E> {
                let number = serde_json::Number::from_f64(value);
                let number = number.ok_or_else(|| E::custom("JSON has no such number"))?;
                Ok(Plain(number.into()))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Plain, E> {
                Ok(Plain(value.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Plain {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Plain".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_somewhere_nowhere_or_are_refused() {
        let json = serde_json::json!({ "items": [{ "id": 7 }, { "id": 8 }], "a.b": true });
        let count = |path: &str| JsonPath::new(path).unwrap().find(&json).unwrap().len();
        assert_eq!(count("$.items[*].id"), 2);
        assert_eq!(count("$.items[9]"), 0);
        assert_eq!(count("$['a.b']"), 1);
        assert_eq!(count("$"), 1);
        let deep = format!("$[?{}@.a{}]", "(".repeat(400), ")".repeat(400));
        for wrong in [
            "",
            "items",
            "$.",
            "$.items[",
            "$..",
            "$.items[?]",
            "\u{0}",
            deep.as_str(),
        ] {
            assert!(JsonPath::new(wrong).is_err(), "{wrong}");
        }
    }
}
