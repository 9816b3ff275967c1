//! The scalars of the language: durations, rates, percentages, addresses and names, each strict.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A value that is written as one word.
pub(crate) trait Scalar: Sized {
    /// Name in the JSON Schema, and what an error says is wanted.
    const NAME: &'static str;
    /// A regular expression for editors; the parser below it is the judge.
    const PATTERN: &'static str;
    /// How to write it, with an example.
    const HOW: &'static str;
    fn parse(text: &str) -> Result<Self, String>;
}

/// A scalar as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<T>(pub T);

impl<'de, T: Scalar> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word<T>(std::marker::PhantomData<T>);
        impl<T: Scalar> Visitor<'_> for Word<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "{}", T::HOW)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
                T::parse(text).map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Word(std::marker::PhantomData))
    }
}

impl<T: Scalar> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": T::PATTERN, "description": T::HOW })
    }
}

/// A name: never a path, never empty, at most 63 characters (RFC 1123 label, lower case).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub String);

impl Scalar for Name {
    const NAME: &'static str = "Name";
    const PATTERN: &'static str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    const HOW: &'static str = "a name of a-z, 0-9 and - such as gd-aliyun";

    fn parse(text: &str) -> Result<Self, String> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = (1..=63).contains(&text.len())
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        match good {
            true => Ok(Name(text.to_owned())),
            false => Err(format!(
                "`{text}` is not a name: a-z, 0-9 and - inside, 63 characters at most, never a path"
            )),
        }
    }
}

impl Scalar for Duration {
    const NAME: &'static str = "Duration";
    const PATTERN: &'static str = "^([0-9]+(ms|s|m|min|h|d) ?)+$";
    const HOW: &'static str = "a duration with its unit such as 90s, 5m or 500ms";

    fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
            return Err(format!("`{text}` has no unit; write {text}s for seconds"));
        }
        humantime::parse_duration(text)
            .map_err(|_| format!("`{text}` is not a duration; write for instance 90s, 5m or 500ms"))
    }
}

/// How long a fault holds without a renewal: a duration, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease(pub Option<Duration>);

impl Scalar for Lease {
    const NAME: &'static str = "Lease";
    const PATTERN: &'static str = "^(none|([0-9]+(ms|s|m|min|h|d) ?)+)$";
    const HOW: &'static str = "a duration with its unit such as 5s, or none";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Lease(None));
        }
        Duration::parse(text)
            .map(|length| Lease(Some(length)))
            .map_err(|why| format!("{why}, or none"))
    }
}

/// Events per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(pub f64);

/// Lowest rate of a probe, per second: fewer than 36 an hour prove nothing in the longest window.
pub(crate) const MIN_RATE: f64 = 0.01;
/// Highest rate of a probe, per second.
pub(crate) const MAX_RATE: f64 = 1_000.0;

impl Scalar for Rate {
    const NAME: &'static str = "Rate";
    const PATTERN: &'static str = "^[0-9]+(\\.[0-9]+)?/s$";
    const HOW: &'static str = "a rate such as 20/s";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate; write for instance 20/s");
        let rate = decimal(text.strip_suffix("/s").ok_or_else(wrong)?).ok_or_else(wrong)?;
        match (MIN_RATE..=MAX_RATE).contains(&rate) {
            true => Ok(Rate(rate)),
            false => Err(format!(
                "`{text}` is out of range: {MIN_RATE}/s to {MAX_RATE}/s"
            )),
        }
    }
}

/// A fraction, written in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percentage(pub f64);

impl Scalar for Percentage {
    const NAME: &'static str = "Percentage";
    const PATTERN: &'static str = "^[0-9]+(\\.[0-9]+)?%$";
    const HOW: &'static str = "a percentage such as 2%";

    fn parse(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_suffix('%').and_then(decimal) else {
            return Err(match decimal(text) {
                Some(bare) if bare > 0.0 && bare < 1.0 => {
                    format!(
                        "`{text}` is not a percentage; write {}%",
                        (bare * 1e6).round() / 1e4
                    )
                }
                Some(_) => format!("`{text}` is not a percentage; write {text}%"),
                None => format!("`{text}` is not a percentage; write for instance 2%"),
            });
        };
        match number <= 100.0 {
            true => Ok(Percentage(number / 100.0)),
            false => Err(format!("`{text}` is more than 100%")),
        }
    }
}

/// Digits with an optional fraction: no sign, exponent, `inf` or `nan`, which f64 would take.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.len() <= 20
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok()).flatten()
}

impl Scalar for IpAddr {
    const NAME: &'static str = "Address";
    const PATTERN: &'static str = "^[0-9a-fA-F.:]+$";
    const HOW: &'static str = "an IP address such as 198.51.100.5 or 2001:db8::5";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not an IP address"))
    }
}

impl Scalar for SocketAddr {
    const NAME: &'static str = "AddressAndPort";
    const PATTERN: &'static str = "^.+:[0-9]{1,5}$";
    const HOW: &'static str = "an address with its port such as 198.51.100.5:80";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not ADDRESS:PORT, as in 198.51.100.5:80 or [2001:db8::5]:80");
        let found: SocketAddr = text.parse().map_err(|_| wrong())?;
        if found.port() == 0 {
            Err(wrong())
        } else {
            Ok(found)
        }
    }
}

/// A DNS server: an address, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolver(pub SocketAddr);

impl Scalar for Resolver {
    const NAME: &'static str = "Resolver";
    const PATTERN: &'static str = "^.+$";
    const HOW: &'static str = "an address, with a port unless it is 53";

    fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Resolver(SocketAddr::new(address, 53))),
            Err(_) => SocketAddr::parse(text).map(Resolver),
        }
    }
}

impl Scalar for IpNet {
    const NAME: &'static str = "Prefix";
    const PATTERN: &'static str = "^[0-9a-fA-F.:]+/[0-9]{1,3}$";
    const HOW: &'static str = "a prefix such as 198.51.100.0/26 or 2001:db8:1::/48";

    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let whole = IpNet::from(address);
            return Err(format!(
                "`{text}` has no prefix length; write {whole} for one address"
            ));
        }
        let prefix: IpNet = text
            .parse()
            .map_err(|_| format!("`{text}` is not a prefix; write for instance 198.51.100.0/26"))?;
        match prefix.trunc() == prefix {
            true => Ok(prefix),
            false => Err(format!(
                "`{text}` has bits behind its length; write {} for the whole prefix",
                prefix.trunc()
            )),
        }
    }
}

/// `20/s` as probes per second. The error says how to write it.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    Rate::parse(text).map(|rate| rate.0)
}

/// `90s`. The error says how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
}

/// `2%` as the fraction 0.02. The error says how to write it.
pub fn parse_percentage(text: &str) -> Result<f64, String> {
    Percentage::parse(text).map(|percentage| percentage.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_never_guessed() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("90").unwrap_err().contains("write 90s"));
        assert!(parse_duration("soon").is_err());
        assert_eq!(parse_rate("0.5/s"), Ok(0.5));
        assert_eq!(parse_rate("0.01/s"), Ok(0.01));
        assert_eq!(parse_rate("1000/s"), Ok(1000.0));
        assert!(
            parse_rate("0.009/s")
                .unwrap_err()
                .ends_with("out of range: 0.01/s to 1000/s")
        );
        for wrong in [
            "20", "20/m", "0/s", "-1/s", "1001/s", "inf/s", "1e3/s", "/s", "NaN/s",
        ] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_percentage("2%"), Ok(0.02));
        assert!(parse_percentage("2").unwrap_err().contains("write 2%"));
        assert!(parse_percentage("0.02").unwrap_err().contains("write 2%"));
        assert!(parse_percentage("101%").is_err());
    }

    #[test]
    fn names_are_never_paths() {
        for wrong in ["", "../x", "a/b", "A", "-a", "a-", "a.b", "a b", "\u{e9}"] {
            assert!(Name::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Name::parse(&"a".repeat(64)).is_err());
        assert!(Name::parse(&"a".repeat(63)).is_ok());
        assert!(Name::parse("gd-aliyun").is_ok());
    }

    #[test]
    fn prefixes_are_whole() {
        assert!(
            IpNet::parse("10.1.2.3/16")
                .unwrap_err()
                .contains("10.1.0.0/16")
        );
        assert!(
            IpNet::parse("10.1.2.3")
                .unwrap_err()
                .contains("10.1.2.3/32")
        );
        assert!(IpNet::parse("2001:db8::/32").is_ok());
        assert!(IpNet::parse("10.0.0.0/33").is_err());
    }

    #[test]
    fn a_resolver_listens_on_53_unless_told() {
        assert_eq!(Resolver::parse("192.0.2.1").unwrap().0.port(), 53);
        assert_eq!(
            Resolver::parse("[2001:db8::1]:5353").unwrap().0.port(),
            5353
        );
        assert!(Resolver::parse("192.0.2.1:0").is_err());
    }
}
