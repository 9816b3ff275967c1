//! Placeholders: what `{cell}`, `{id}` and the like stand for in a text.

use std::net::IpAddr;

use crate::fleet::Cell;

/// The cell's first address, in brackets if IPv6.
pub(super) const CELL: &str = "cell";
/// The cell's name.
pub(super) const CELL_NAME: &str = "cell.name";
/// Before the name of a declared dependency: its address and port.
pub(super) const USES: &str = "uses.";

/// Replaces each `{name}` that `values` knows by its value, all of them at once: a value that holds
/// braces is not looked into. Other braces stay as they are.
pub fn fill<N: AsRef<str>, V: AsRef<str>>(text: &str, values: &[(N, V)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        let known = values.iter().find_map(|(name, value)| {
            let behind = rest[1..].strip_prefix(name.as_ref())?.strip_prefix('}')?;
            Some((value, behind))
        });
        match known {
            Some((value, behind)) => {
                filled.push_str(value.as_ref());
                rest = behind;
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// What stands for a cell in every text of its probes.
pub fn cell_values(name: &str, cell: &Cell) -> Vec<(String, String)> {
    let mut values = vec![(CELL_NAME.to_owned(), name.to_owned())];
    if let Some(address) = cell.addresses.first() {
        values.push((CELL.to_owned(), literal(*address)));
    }
    values.extend(cell.uses.iter().map(|(name, endpoint)| {
        let there = format!("{}:{}", literal(endpoint.address), endpoint.port);
        (format!("{USES}{name}"), there)
    }));
    values
}

/// An address as URLs hold it.
pub fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// What stands between braces in a text in which braces mean nothing else. A brace without its
/// partner is told as what stands behind it.
pub(super) fn names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let inside = &rest[at + 1..];
        let end = inside.find(['{', '}']).unwrap_or(inside.len());
        names.push(&inside[..end]);
        rest = inside.get(end + 1..).unwrap_or_default();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_placeholders_at_once_and_nothing_else() {
        let values = [("id", "7"), ("token", "{id}"), ("cell", "[fd00::1]")];
        assert_eq!(
            fill("http://{cell}/{id}?t={token}{other}", &values),
            "http://[fd00::1]/7?t={id}{other}"
        );
        assert_eq!(fill("{\"id\":\"{id}\",{", &values), "{\"id\":\"7\",{");
        assert_eq!(fill("{{id}}", &values), "{7}");
        assert_eq!(fill("\u{e9}{id}\u{e9}", &values), "\u{e9}7\u{e9}");
    }

    #[test]
    fn every_brace_is_found() {
        assert_eq!(names("a{b}c{d}"), ["b", "d"]);
        assert_eq!(names("a}b"), ["b"]);
        assert_eq!(names("a{b"), ["b"]);
        assert!(names("none").is_empty());
    }
}
