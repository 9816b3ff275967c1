//! DNS: one name at one server, and what the answer must be.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::asks::place::Written;
use crate::asks::{At, Place, Question};
use crate::input::InputError;
use crate::read::is_dns_name;
use crate::values::{Scalar, Text};

const DNS_PORT: u16 = 53;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery {
    pub resolver: Place,
    pub name: String,
    pub record_type: DnsType,
    pub expect: DnsAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsType {
    A,
    Aaaa,
}

/// What the answer must be; anything else is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// At least one address.
    Any,
    /// At least one address, and none outside of these.
    Within(Vec<Within>),
    /// The name is there and has no address of this family.
    Nodata,
    /// There is no such name.
    Nxdomain,
}

/// A set of addresses that an answer may be taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// The addresses of the cell that is probed.
    Cell,
    Prefix(IpNet),
}

impl Scalar for Within {
    const NAME: &'static str = "AddressSet";
    const PATTERN: &'static str = "^([{]cell[}]|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$";
    const HOW: &'static str = "an address, a prefix, or \"{cell}\" for the cell's addresses";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "{cell}" {
            return Ok(Self::Cell);
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Prefix(address.into())),
            Err(_) => IpNet::parse(text).map(Self::Prefix),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsQuerySpec {
    /// The DNS server: `{cell}`, `{uses.NAME}`, or an address that all cells share; port 53 unless
    /// said otherwise.
    resolver: Text<Written>,
    name: String,
    /// Default A.
    r#type: Option<DnsType>,
    /// Default any.
    expect: Option<DnsAnswerSpec>,
}

/// What the answer must be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum DnsAnswerSpec {
    /// At least one address.
    Any,
    /// The name is there and has no address of this type.
    Nodata,
    /// There is no such name.
    Nxdomain,
    /// At least one address, and none outside of these addresses and prefixes.
    Within(Vec<Text<Within>>),
}

impl Question for DnsQuery {
    type Spec = DnsQuerySpec;

    fn read(spec: DnsQuerySpec, at: &At<'_>) -> Result<Self, InputError> {
        let resolver = at
            .below("resolver")
            .place(spec.resolver.0, Some(DNS_PORT))?;
        if !is_dns_name(&spec.name) {
            let message = format!("`{}` is not a DNS name", spec.name);
            let error = at.below("name").wrong(message);
            return Err(error.with_hint("write for instance shop.example"));
        }
        let expect = match spec.expect.unwrap_or(DnsAnswerSpec::Any) {
            DnsAnswerSpec::Any => DnsAnswer::Any,
            DnsAnswerSpec::Nodata => DnsAnswer::Nodata,
            DnsAnswerSpec::Nxdomain => DnsAnswer::Nxdomain,
            DnsAnswerSpec::Within(sets) => within(sets, &at.below("expect").below("within"))?,
        };
        Ok(Self {
            resolver,
            name: spec.name,
            record_type: spec.r#type.unwrap_or(DnsType::A),
            expect,
        })
    }
}

fn within(sets: Vec<Text<Within>>, at: &At<'_>) -> Result<DnsAnswer, InputError> {
    if sets.is_empty() {
        return Err(at
            .wrong("no address would ever be right")
            .with_hint("write nodata or nxdomain if none is wanted"));
    }
    let sets: Vec<Within> = sets.into_iter().map(|set| set.0).collect();
    if sets.contains(&Within::Cell) {
        at.has_addresses()?;
    }
    Ok(DnsAnswer::Within(sets))
}
