//! DNS: one question to one server; bad if the answer is not the one that is wanted.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use scenarios::asks::{DnsAnswer, DnsQuery, DnsType, Within};

use crate::askers::{Asks, Call, Here};
use crate::dns::{self, Lookup};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::{Progress, Step};

pub(crate) struct DnsAsker {
    lookup: Lookup,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Any,
    Within(Vec<IpNet>),
    Nodata,
    Nxdomain,
}

impl Asks for DnsAsker {
    type Question = DnsQuery;

    fn new(question: &DnsQuery, here: &Here<'_>) -> Result<Self, ProbeError> {
        let mut name = Name::from_ascii(&question.name)
            .map_err(|error| here.wrong(format!("`{}` is no DNS name: {error}", question.name)))?;
        name.set_fqdn(true);
        let prefixes = |set: &Within| match set {
            Within::Prefix(prefix) => vec![*prefix],
            Within::Cell => here
                .cell
                .addresses
                .iter()
                .copied()
                .map(IpNet::from)
                .collect(),
        };
        Ok(Self {
            lookup: Lookup {
                server: here.address(&question.resolver)?,
                name,
                record_type: match question.record_type {
                    DnsType::A => RecordType::A,
                    DnsType::Aaaa => RecordType::AAAA,
                },
            },
            wanted: match &question.expect {
                DnsAnswer::Any => Wanted::Any,
                DnsAnswer::Within(sets) => Wanted::Within(sets.iter().flat_map(prefixes).collect()),
                DnsAnswer::Nodata => Wanted::Nodata,
                DnsAnswer::Nxdomain => Wanted::Nxdomain,
            },
        })
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        call.progress.reach(Step::Waiting);
        let answer = self.lookup.ask(call.deadline).await?;
        self.wanted.judge(&answer).map_err(Outcome::Error)
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.lookup.server, progress.text())
    }
}

impl Wanted {
    fn judge(&self, answer: &Message) -> Result<(), String> {
        let code = answer.metadata.response_code;
        // What is cut off may be what would be wrong.
        if answer.metadata.truncation {
            return Err("dns: the answer is truncated".to_owned());
        }
        if let Self::Nxdomain = self {
            return match code {
                ResponseCode::NXDomain => Ok(()),
                ResponseCode::NoError => {
                    Err("dns: there is such a name (wanted: NXDOMAIN)".to_owned())
                }
                code => Err(format!("dns: {code}")),
            };
        }
        if code != ResponseCode::NoError {
            return Err(format!("dns: {code}"));
        }
        let addresses = dns::addresses(answer);
        let foreign = |prefixes: &[IpNet]| {
            let outside =
                |address: &&IpAddr| !prefixes.iter().any(|prefix| prefix.contains(*address));
            addresses.iter().find(outside)
        };
        match self {
            Self::Nodata if addresses.is_empty() => Ok(()),
            Self::Nodata => Err(format!("dns: {} (wanted: no address)", listed(&addresses))),
            _ if addresses.is_empty() => Err("dns: an answer without an address".to_owned()),
            Self::Within(prefixes) => match foreign(prefixes) {
                Some(address) => Err(format!("dns: {address} is none of the wanted addresses")),
                None => Ok(()),
            },
            Self::Any | Self::Nxdomain => Ok(()),
        }
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::{RData, Record};

    fn answer(code: ResponseCode, addresses: &[&str]) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        for address in addresses {
            let address: IpAddr = address.parse().unwrap();
            message.add_answer(Record::from_rdata(Name::root(), 5, RData::from(address)));
        }
        message
    }

    #[test]
    fn an_answer_is_good_for_one_expectation_only() {
        let within = Wanted::Within(vec!["10.0.0.0/8".parse().unwrap()]);
        let inside = answer(ResponseCode::NoError, &["10.0.0.1"]);
        let mixed = answer(ResponseCode::NoError, &["10.0.0.1", "192.0.2.1"]);
        let none = answer(ResponseCode::NoError, &[]);
        let no_name = answer(ResponseCode::NXDomain, &[]);
        let failed = answer(ResponseCode::ServFail, &[]);
        for (wanted, good) in [
            (&Wanted::Any, [true, true, false, false, false]),
            (&within, [true, false, false, false, false]),
            (&Wanted::Nodata, [false, false, true, false, false]),
            (&Wanted::Nxdomain, [false, false, false, true, false]),
        ] {
            let told =
                [&inside, &mixed, &none, &no_name, &failed].map(|answer| wanted.judge(answer));
            assert_eq!(
                told.clone().map(|told| told.is_ok()),
                good,
                "{wanted:?}: {told:?}"
            );
            let mut cut = none.clone();
            cut.metadata.truncation = true;
            assert!(wanted.judge(&cut).unwrap_err().contains("truncated"));
        }
    }
}
