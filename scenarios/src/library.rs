//! The built-in scenarios, embedded as the text of their files.

macro_rules! drills {
    ($($name:literal),* $(,)?) => {
        const LIBRARY: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../library/drills/", $name, ".yaml")))),*
        ];
    };
}

drills! {
    "aa-unused-address",
    "black-hole-cloud",
    "black-hole-cloud-one-side",
}

/// Every built-in scenario by name, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    LIBRARY.iter().map(|(name, _)| *name)
}

/// The YAML of a built-in scenario.
pub fn get(name: &str) -> Option<&'static str> {
    LIBRARY
        .iter()
        .find(|(found, _)| *found == name)
        .map(|(_, text)| *text)
}
