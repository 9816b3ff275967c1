//! The silent cut: packets to and from peers vanish, and neither side is told.
//!
//! Ingress is dropped in inet prerouting before conntrack and defragmentation, so that new and
//! established, own and forwarded packets are lost alike. Egress is lost at the devices (netdev
//! egress), because a drop in the output hook tells the local sender. ARP and ICMPv6 133-137 pass.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use scenarios::change::{FirewallCut, Management as Kept, Peers};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, Management, Place, Reversible};
use crate::journal::Permit;
use crate::kernel::devices;
use crate::kernel::namespaces::NamespaceId;
use crate::kernel::nft::{
    Cmp, DEVICES_PER_CHAIN, Expression, Family, Field, Gate, Hook, Meta, Nft, SetKind, Table,
    Transaction, Verdict,
};
use crate::pods::PodId;

/// Before conntrack (-200), raw (-300) and defragmentation (-400).
pub const INGRESS_PRIORITY: i32 = -450;
pub const GATE: &str = "gate";
const PEERS_4: &str = "peers4";
const PEERS_6: &str = "peers6";
const INGRESS: &str = "ingress";

pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: [u8; 1] = [6];
const ICMPV6: [u8; 1] = [58];
/// Router and neighbour discovery (RFC 4861): 133 to 137.
const DISCOVERY: ([u8; 1], [u8; 1]) = ([133], [137]);
const ARPHRD_LOOPBACK: u16 = 772;

/// The tables that hold one cut, and what was true when it was captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// inet and netdev, as far as the direction needs them.
    pub tables: Vec<Table>,
    /// Devices whose egress is cut, as they were at arm. Ones that come later are not; those that
    /// are there at a renewal or at the end of the step are named in `gaps` of the REVERTED event.
    pub devices: Vec<String>,
    pub management: Management,
    /// Pods that have the same tables in their own namespace, because their packets do not pass the
    /// host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<PodId>,
    /// Those of the devices that are the host's own, with their numbers: one that is not there at the
    /// end has drifted. A device that leads to a pod comes and goes with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lasting: BTreeMap<String, u32>,
}

/// Which ways of a packet are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    pub ingress: bool,
    pub egress: bool,
}

impl Undo {
    /// Of a canary: its tables anywhere, whether they were ever loaded or not.
    pub fn of_canary(table: &str, management: Management, inside: Vec<PodId>) -> Self {
        let families = [Family::Inet, Family::Netdev];
        let tables = families.map(|family| Table {
            family,
            name: table.to_owned(),
        });
        Self {
            tables: tables.into(),
            devices: Vec::new(),
            management,
            inside,
            lasting: BTreeMap::new(),
        }
    }

    /// The host first, then the pods.
    fn places(&self) -> Vec<Option<NamespaceId>> {
        let pods = self.inside.iter().map(|pod| Some(pod.namespace));
        std::iter::once(None).chain(pods).collect()
    }

    fn table(&self, family: Family) -> Option<&Table> {
        self.tables.iter().find(|table| table.family == family)
    }

    /// What has become of the devices on which the cut hung, where they are not what they were.
    fn drifted(&self) -> Vec<String> {
        if self.lasting.is_empty() {
            return Vec::new();
        }
        let present = match devices::own() {
            Ok(present) => present,
            Err(cause) => return vec![format!("cannot list the network devices: {cause}")],
        };
        let fate = |(name, number): (&String, &u32)| match present.get(name) {
            Some(now) if now == number => None,
            Some(_) => Some(format!(
                "device {name}, on which the cut hung, was made anew meanwhile"
            )),
            None => Some(format!(
                "device {name}, on which the cut hung, is gone, and its part of the cut with it"
            )),
        };
        self.lasting.iter().filter_map(fate).collect()
    }
}

impl Reversible for FirewallCut {
    type Undo = Undo;

    fn capture(&self, hands: &mut Hands, place: &Place) -> Result<Undo, Error> {
        let name = place.name();
        let mut tables = Vec::new();
        let mut pinned = Vec::new();
        let mut lasting = BTreeMap::new();
        if self.direction.ingress() {
            tables.push(Table {
                family: Family::Inet,
                name: name.clone(),
            });
        }
        if self.direction.egress() {
            tables.push(Table {
                family: Family::Netdev,
                name,
            });
            pinned.extend(devices::without_loopback().map_err(Error::Devices)?);
            lasting = devices::own().map_err(Error::Devices)?;
        }
        let seen = hands.nft().and_then(Nft::tables).map_err(Error::Look)?;
        match seen
            .iter()
            .find(|seen| tables.iter().any(|table| seen.is(table)))
        {
            Some(taken) => Err(Error::Taken(taken.to_string())),
            None => Ok(Undo {
                tables,
                devices: pinned,
                management: match self.management {
                    Kept::Keep => place.management.clone(),
                    Kept::Cut => Management::none(),
                },
                inside: Vec::new(),
                lasting,
            }),
        }
    }

    fn load(&self, undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<(), Error> {
        for place in undo.places() {
            if let Some(nft) = hands.nft_of(place).map_err(Error::Load)? {
                nft.commit(inert(self, undo), permit).map_err(Error::Load)?;
            }
        }
        Ok(())
    }

    /// The prefixes, which may be many, are in the kernel's sets; fire needs only what they mean.
    fn forget_loaded(&mut self) {
        let (Peers::Only(prefixes) | Peers::AllBut(prefixes)) = &mut self.peers;
        *prefixes = Vec::new();
    }

    fn apply(
        &self,
        undo: &Undo,
        hands: &mut Hands,
        gate: Gate,
        permit: &Permit,
    ) -> Result<(), Error> {
        for place in undo.places() {
            let present = devices_of(place, hands).map_err(Error::Devices)?;
            let devices: Vec<String> = match place {
                // A pinned device that went away (a pod that ended) must not make the batch fail.
                None => undo
                    .devices
                    .iter()
                    .filter(|d| present.contains(*d))
                    .cloned()
                    .collect(),
                Some(_) => present.into_iter().collect(),
            };
            let Some(nft) = hands.nft_of(place).map_err(Error::Apply)? else {
                continue; // a pod that has ended
            };
            let transaction = fire(self, undo, &devices, gate);
            nft.commit(transaction, permit).map_err(Error::Apply)?;
        }
        Ok(())
    }

    fn renew(undo: &Undo, hands: &mut Hands, gate: Gate, permit: &Permit) -> Result<(), Error> {
        for place in undo.places() {
            let Some(nft) = hands.nft_of(place).map_err(Error::Renew)? else {
                continue;
            };
            let mut transaction = Transaction::default();
            for table in &undo.tables {
                transaction.delete_gate(table, GATE);
                transaction.add_gate(table, GATE, gate);
            }
            nft.commit(transaction, permit).map_err(|error| {
                if error.is_missing() {
                    Error::GateClosed
                } else {
                    Error::Renew(error)
                }
            })?;
        }
        Ok(())
    }

    fn undo(undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        let mut failed = Ok(());
        for pod in &undo.inside {
            // A namespace that nobody is in any more took its tables with it.
            let gone = match hands.found(pod.namespace) {
                Ok(Some(nft)) => delete(&undo.tables, nft, permit),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            failed = failed.and(gone);
        }
        let nft = hands.nft().map_err(Error::Look)?;
        delete(&undo.tables, nft, permit).and(failed)?;
        Ok(undo.drifted())
    }

    fn may_repeat(_undo: &Undo) -> bool {
        true
    }

    fn gaps(undo: &Undo) -> Vec<String> {
        if undo.table(Family::Netdev).is_none() {
            return Vec::new();
        }
        match devices::without_loopback() {
            Ok(present) => present
                .iter()
                .filter(|device| !undo.devices.contains(device))
                .map(|device| format!("device {device} appeared after arm: its egress was not cut"))
                .collect(),
            Err(cause) => vec![format!("cannot list the network devices: {cause}")],
        }
    }
}

/// Deletes those of the tables that are there.
fn delete(tables: &[Table], nft: &mut Nft, permit: &Permit) -> Result<(), Error> {
    let seen = nft.tables().map_err(Error::Look)?;
    let there = |table: &&Table| seen.iter().any(|seen| seen.is(table));
    let ours: Vec<&Table> = tables.iter().filter(there).collect();
    let mut together = Transaction::default();
    ours.iter().for_each(|table| together.delete_table(table));
    if nft.commit(together, permit).is_ok() {
        return Ok(());
    }
    // One of them cannot go: let the others go.
    let mut failed = None;
    for table in ours {
        let mut alone = Transaction::default();
        alone.delete_table(table);
        match nft.commit(alone, permit) {
            Err(cause) if !cause.is_missing() => {
                failed = Some(Error::Undo {
                    table: table.to_string(),
                    cause,
                });
            }
            _ => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

/// All devices but loopback of the host, or of a pod that was entered (none if it was not).
pub fn devices_of(place: Option<NamespaceId>, hands: &Hands) -> io::Result<BTreeSet<String>> {
    match place {
        None => devices::without_loopback(),
        Some(id) => hands.inside(id).map_or_else(
            || Ok(BTreeSet::new()),
            |pod| pod.run(devices::without_loopback)?,
        ),
    }
}

/// The tables and sets that no packet meets yet.
fn inert(cut: &FirewallCut, undo: &Undo) -> Transaction {
    let mut transaction = Transaction::default();
    let mut id = 0;
    for table in &undo.tables {
        transaction.add_owned_table(table);
        for (set, kind) in [
            (PEERS_4, SetKind::Prefixes4),
            (PEERS_6, SetKind::Prefixes6),
            (GATE, SetKind::Gate),
        ] {
            id += 1;
            transaction.add_set(table, set, kind, id);
        }
        transaction.add_prefixes(table, PEERS_4, cut.peers.prefixes(), false);
        transaction.add_prefixes(table, PEERS_6, cut.peers.prefixes(), true);
    }
    transaction
}

/// Everything that makes the loaded tables bite, in one transaction.
fn fire(cut: &FirewallCut, undo: &Undo, devices: &[String], gate: Gate) -> Transaction {
    let mut transaction = Transaction::default();
    if let Some(table) = undo.table(Family::Inet) {
        let hook = Hook::Prerouting {
            priority: INGRESS_PRIORITY,
        };
        transaction.add_chain(table, INGRESS, &hook);
        transaction.add_rule(
            table,
            INGRESS,
            &[
                Expression::Meta(Meta::InputDeviceType),
                Expression::Compare(Cmp::Equal, &ARPHRD_LOOPBACK.to_ne_bytes()),
                Expression::Verdict(Verdict::Accept),
            ],
        );
        add_rules(
            &mut transaction,
            table,
            INGRESS,
            cut,
            &undo.management,
            Side::Source,
        );
        transaction.add_gate(table, GATE, gate);
    }
    if let Some(table) = undo.table(Family::Netdev) {
        for (number, devices) in devices.chunks(DEVICES_PER_CHAIN).enumerate() {
            let chain = format!("egress{number}");
            transaction.add_chain(table, &chain, &Hook::Egress { devices });
            add_rules(
                &mut transaction,
                table,
                &chain,
                cut,
                &undo.management,
                Side::Destination,
            );
        }
        transaction.add_gate(table, GATE, gate);
    }
    transaction
}

/// Which address of a packet is the peer's; and so, which TCP port is the agent's.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Source,
    Destination,
}

impl Side {
    fn address(self, v6: bool) -> Field {
        match (self, v6) {
            (Side::Source, false) => Field::Network(12, 4),
            (Side::Destination, false) => Field::Network(16, 4),
            (Side::Source, true) => Field::Network(8, 16),
            (Side::Destination, true) => Field::Network(24, 16),
        }
    }

    /// The agent's port: destination of what comes in, source of what goes out.
    fn agent_port(self) -> Field {
        match self {
            Side::Source => Field::Transport(2, 2),
            Side::Destination => Field::Transport(0, 2),
        }
    }
}

fn add_rules(
    transaction: &mut Transaction,
    table: &Table,
    chain: &str,
    cut: &FirewallCut,
    management: &Management,
    side: Side,
) {
    for address in &management.operator {
        let (ethertype, bytes) = match address.to_canonical() {
            IpAddr::V4(address) => (ETHERTYPE_IPV4, address.octets().to_vec()),
            IpAddr::V6(address) => (ETHERTYPE_IPV6, address.octets().to_vec()),
        };
        transaction.add_rule(
            table,
            chain,
            &[
                Expression::Meta(Meta::Protocol),
                Expression::Compare(Cmp::Equal, &ethertype),
                Expression::Payload(side.address(ethertype == ETHERTYPE_IPV6)),
                Expression::Compare(Cmp::Equal, &bytes),
                Expression::Meta(Meta::Layer4),
                Expression::Compare(Cmp::Equal, &TCP),
                Expression::Payload(side.agent_port()),
                Expression::Compare(Cmp::Equal, &management.port.to_be_bytes()),
                Expression::Verdict(Verdict::Accept),
            ],
        );
    }
    transaction.add_rule(
        table,
        chain,
        &[
            Expression::Meta(Meta::Protocol),
            Expression::Compare(Cmp::Equal, &ETHERTYPE_IPV6),
            Expression::Meta(Meta::Layer4),
            Expression::Compare(Cmp::Equal, &ICMPV6),
            Expression::Payload(Field::Transport(0, 1)),
            Expression::Compare(Cmp::AtLeast, &DISCOVERY.0),
            Expression::Compare(Cmp::AtMost, &DISCOVERY.1),
            Expression::Verdict(Verdict::Accept),
        ],
    );
    let inverted = matches!(cut.peers, Peers::AllBut(_));
    for (ethertype, set) in [(ETHERTYPE_IPV4, PEERS_4), (ETHERTYPE_IPV6, PEERS_6)] {
        let mut rule = vec![
            Expression::Meta(Meta::Protocol),
            Expression::Compare(Cmp::Equal, &ethertype),
            Expression::GateKey,
            Expression::Lookup {
                set: GATE,
                inverted: false,
            },
            Expression::Payload(side.address(ethertype == ETHERTYPE_IPV6)),
            Expression::Lookup { set, inverted },
        ];
        match side {
            Side::Source => rule.push(Expression::Verdict(Verdict::Drop)),
            Side::Destination => rule.extend(Expression::vanish()),
        }
        transaction.add_rule(table, chain, &rule);
    }
}

#[cfg(test)]
mod tests {
    use scenarios::change::Direction;

    use super::*;

    /// What goes to the kernel at fire.
    fn fired(cut: &FirewallCut) -> Vec<u8> {
        let undo = Undo::of_canary("t", Management::none(), Vec::new());
        let gate = Gate::from_millis(1_000);
        fire(cut, &undo, &["uplink".to_owned()], gate)
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn fire_needs_no_prefix_but_what_they_mean() {
        let prefixes = || vec!["198.51.100.0/24".parse().unwrap()];
        let fired = [Peers::Only(prefixes()), Peers::AllBut(prefixes())].map(|peers| {
            let mut cut = FirewallCut {
                peers,
                direction: Direction::Both,
                management: Kept::Keep,
            };
            let before = fired(&cut);
            cut.forget_loaded();
            assert!(cut.peers.prefixes().is_empty());
            assert_eq!(fired(&cut), before);
            before
        });
        assert_ne!(fired[0], fired[1], "inverted, or not");
    }
}
