//! The canary's own tables: the hooks of the real cut, for one peer and our ids only.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Error, Passed};
use crate::changes::Hands;
use crate::changes::firewall::{self, GATE, INGRESS_PRIORITY};
use crate::journal::Permit;
use crate::kernel::echo;
use crate::kernel::namespaces::NamespaceId;
use crate::kernel::nft::{
    Cmp, DEVICES_PER_CHAIN, Expression, Family, Field, Gate, Hook, Meta, SetKind, Table,
    Transaction, Verdict,
};

const ICMP: [u8; 1] = [1];
const ICMPV6: [u8; 1] = [58];
/// The longest phase is well below; behind it the kernel ends the canary's cut by itself.
const GATE_MS: u64 = 1_500;

pub struct Rules<'a> {
    pub table: &'a str,
    pub peers: BTreeSet<IpAddr>,
    /// First and last id of ours.
    pub ids: (u16, u16),
}

impl Rules<'_> {
    pub fn load(
        &self,
        phase: Passed,
        place: Option<NamespaceId>,
        hands: &mut Hands,
        permit: &Permit,
    ) -> Result<(), Error> {
        let devices = firewall::devices_of(place, hands)
            .map_err(|cause| Error::Devices(words(place), cause))?;
        let table = self.table_of(phase);
        let mut transaction = Transaction::default();
        transaction.add_owned_table(&table);
        transaction.add_set(&table, GATE, SetKind::Gate, 1);
        match phase {
            Passed::Ingress => {
                let hook = Hook::Prerouting {
                    priority: INGRESS_PRIORITY,
                };
                transaction.add_chain(&table, "ingress", &hook);
                self.add_rules(&mut transaction, &table, "ingress", phase);
            }
            Passed::Egress => {
                let devices: Vec<String> = devices.into_iter().collect();
                for (number, devices) in devices.chunks(DEVICES_PER_CHAIN).enumerate() {
                    let chain = format!("egress{number}");
                    transaction.add_chain(&table, &chain, &Hook::Egress { devices });
                    self.add_rules(&mut transaction, &table, &chain, phase);
                }
            }
        }
        transaction.add_gate(&table, GATE, Gate::from_millis(GATE_MS));
        let nft = hands.nft_of(place);
        let Some(nft) = nft.map_err(|cause| Error::Table(words(place), cause))? else {
            return Ok(()); // a pod that is gone
        };
        nft.commit(transaction, permit)
            .map_err(|cause| Error::Table(words(place), cause))
    }

    pub fn delete(
        &self,
        phase: Passed,
        place: Option<NamespaceId>,
        hands: &mut Hands,
        permit: &Permit,
    ) -> Result<(), Error> {
        let mut transaction = Transaction::default();
        transaction.delete_table(&self.table_of(phase));
        let nft = hands.nft_of(place);
        let Some(nft) = nft.map_err(|cause| Error::Table(words(place), cause))? else {
            return Ok(());
        };
        match nft.commit(transaction, permit) {
            Err(cause) if !cause.is_missing() => Err(Error::Table(words(place), cause)),
            _ => Ok(()),
        }
    }

    fn table_of(&self, phase: Passed) -> Table {
        Table {
            family: match phase {
                Passed::Ingress => Family::Inet,
                Passed::Egress => Family::Netdev,
            },
            name: self.table.to_owned(),
        }
    }

    fn add_rules(&self, transaction: &mut Transaction, table: &Table, chain: &str, phase: Passed) {
        let (first, last) = (self.ids.0.to_be_bytes(), self.ids.1.to_be_bytes());
        for peer in &self.peers {
            let Match {
                ethertype,
                protocol,
                bytes,
                field,
                kind,
            } = Match::of(*peer, phase);
            let mut rule = vec![
                Expression::Meta(Meta::Protocol),
                Expression::Compare(Cmp::Equal, &ethertype),
                Expression::GateKey,
                Expression::Lookup {
                    set: GATE,
                    inverted: false,
                },
                Expression::Payload(field),
                Expression::Compare(Cmp::Equal, &bytes),
                Expression::Meta(Meta::Layer4),
                Expression::Compare(Cmp::Equal, &protocol),
                Expression::Payload(Field::Transport(0, 1)),
                Expression::Compare(Cmp::Equal, &kind),
                Expression::Payload(Field::Transport(4, 2)),
                Expression::Compare(Cmp::AtLeast, &first),
                Expression::Compare(Cmp::AtMost, &last),
            ];
            match phase {
                Passed::Ingress => rule.push(Expression::Verdict(Verdict::Drop)),
                Passed::Egress => rule.extend(Expression::vanish()),
            }
            transaction.add_rule(table, chain, &rule);
        }
    }
}

/// What a canary's packet of one phase has that no other packet has, but for the id.
struct Match {
    ethertype: [u8; 2],
    protocol: [u8; 1],
    bytes: Vec<u8>,
    field: Field,
    kind: [u8; 1],
}

impl Match {
    /// Answers come from the peer, requests go to it.
    fn of(peer: IpAddr, phase: Passed) -> Self {
        let answers = phase == Passed::Ingress;
        match peer {
            IpAddr::V4(peer) => Self {
                ethertype: firewall::ETHERTYPE_IPV4,
                protocol: ICMP,
                bytes: peer.octets().to_vec(),
                field: Field::Network(if answers { 12 } else { 16 }, 4),
                kind: [if answers {
                    echo::REPLY_4
                } else {
                    echo::REQUEST_4
                }],
            },
            IpAddr::V6(peer) => Self {
                ethertype: firewall::ETHERTYPE_IPV6,
                protocol: ICMPV6,
                bytes: peer.octets().to_vec(),
                field: Field::Network(if answers { 8 } else { 24 }, 16),
                kind: [if answers {
                    echo::REPLY_6
                } else {
                    echo::REQUEST_6
                }],
            },
        }
    }
}

fn words(place: Option<NamespaceId>) -> String {
    place.map_or_else(|| "at the host".to_owned(), |id| format!("in {id}"))
}
