//! Where in a YAML file each value stands, by its path: the bridge from a checked model to its text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned};

use crate::input::Position;

/// Keys are cut to this many characters in paths, so that a hostile file cannot make huge ones.
const LONGEST_SEGMENT: usize = 64;

/// A file's text and the place of every key and value in it, by YAML path
/// (`spec.method[1].fault`). Empty for a scenario that was made by code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    file: Arc<str>,
    text: Arc<str>,
    spots: Arc<BTreeMap<String, Spot>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Spot {
    key: Option<Position>,
    value: Position,
    /// The text of a scalar; `None` for maps, lists and nulls.
    scalar: Option<String>,
    null: bool,
}

impl Places {
    pub(crate) fn new(file: &str, text: &str, tree: &Spanned<Tree>) -> Places {
        let mut spots = BTreeMap::new();
        collect(tree, String::new(), None, &mut spots);
        Places {
            file: file.into(),
            text: text.into(),
            spots: Arc::new(spots),
        }
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where the value of a path begins; the nearest enclosing one if the file lacks it.
    pub(crate) fn value(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(spot) = self.spots.get(path) {
                return Some(spot.value);
            }
            path = parent(path)?;
        }
    }

    /// Where the key of a path stands; its value, or the nearest enclosing one, if there is no key.
    pub(crate) fn key(&self, path: &str) -> Option<Position> {
        match self.spots.get(path) {
            Some(Spot { key: Some(key), .. }) => Some(*key),
            _ => self.value(path),
        }
    }

    pub(crate) fn scalar(&self, path: &str) -> Option<&str> {
        self.spots.get(path)?.scalar.as_deref()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.spots.contains_key(path)
    }

    /// The first value that is empty (`slo:` with nothing behind it), if any.
    pub(crate) fn first_null(&self) -> Option<&str> {
        self.spots
            .iter()
            .filter(|(_, spot)| spot.null)
            .min_by_key(|(_, spot)| spot.value)
            .map(|(path, _)| path.as_str())
    }

    /// The path whose key or value begins at a position; a key before a value, inner before outer.
    pub(crate) fn path_at(&self, line: usize, column: usize) -> Option<(&str, Position)> {
        let begins = |p: &Position| p.line == line && p.column == column;
        let keys = self
            .spots
            .iter()
            .filter_map(|(path, spot)| Some((path, spot.key?)));
        let values = self.spots.iter().map(|(path, spot)| (path, spot.value));
        keys.filter(|(_, p)| begins(p))
            .max_by_key(|(path, _)| path.len())
            .or_else(|| {
                values
                    .filter(|(_, p)| begins(p))
                    .max_by_key(|(path, _)| path.len())
            })
            .map(|(path, position)| (path.as_str(), position))
    }
}

/// The path one level up: `a.b[0]` -> `a.b` -> `a` -> the whole file.
pub(crate) fn parent(path: &str) -> Option<&str> {
    if path.is_empty() {
        return None;
    }
    Some(path.rfind(['.', '[']).map_or("", |end| &path[..end]))
}

fn collect(
    tree: &Spanned<Tree>,
    path: String,
    key: Option<Position>,
    spots: &mut BTreeMap<String, Spot>,
) {
    match &tree.value {
        Tree::Map(entries) => {
            for (name, value) in entries {
                let word: String = name.value.chars().take(LONGEST_SEGMENT).collect();
                let inner = match path.as_str() {
                    "" => word,
                    outer => format!("{outer}.{word}"),
                };
                collect(value, inner, Some(position(name.referenced)), spots);
            }
        }
        Tree::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{index}]"), None, spots);
            }
        }
        Tree::Scalar(_) | Tree::Null => {}
    }
    let spot = Spot {
        key,
        value: position(tree.referenced),
        scalar: match &tree.value {
            Tree::Scalar(text) => Some(text.clone()),
            _ => None,
        },
        null: matches!(tree.value, Tree::Null),
    };
    spots.insert(path, spot);
}

pub(crate) fn position(location: Location) -> Position {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Position {
        line: size(location.line()).max(1),
        column: size(location.column()).max(1),
        length: size(location.span().len()).max(1),
    }
}

/// Any YAML, kept only for its shape and places.
#[derive(Debug)]
pub(crate) enum Tree {
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Scalar(String),
    Null,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_string()))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_string()))
    }

    fn visit_i128<E: de::Error>(self, v: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_string()))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_string()))
    }

    fn visit_u128<E: de::Error>(self, v: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_string()))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_string()))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(v.to_owned()))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Scalar(String::new()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Places {
        Places::new("f", text, &serde_yaml::from_str(text).unwrap())
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let places = places("a:\n  - b: 1\n    long: two\n");
        let at = |line, column, length| {
            Some(Position {
                line,
                column,
                length,
            })
        };
        assert_eq!(places.key("a[0].long"), at(3, 5, 4));
        assert_eq!(places.value("a[0].long"), at(3, 11, 3));
        assert_eq!(places.value("a[0].long.beyond"), places.value("a[0].long"));
        assert_eq!(
            places.path_at(3, 5),
            Some(("a[0].long", at(3, 5, 4).unwrap()))
        );
        assert_eq!(places.value("nowhere"), places.value(""));
    }

    #[test]
    fn a_long_key_makes_no_long_path() {
        let places = places(&format!("{}: {{ b: 1 }}", "k".repeat(900)));
        assert!(
            places
                .spots
                .keys()
                .all(|path| path.len() <= LONGEST_SEGMENT + 2)
        );
    }

    #[test]
    fn parents_end_at_the_file() {
        assert_eq!(parent("a.b[0]"), Some("a.b"));
        assert_eq!(parent("a"), Some(""));
        assert_eq!(parent(""), None);
    }
}
