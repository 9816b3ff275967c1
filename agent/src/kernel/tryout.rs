//! What the kernel can, found out by doing it in a network namespace made for that and thrown away.

use std::io;

use super::bpf;
use super::namespaces::scratch;
use super::netlink::Socket;
use super::nft::{Expression, Family, Gate, Hook, Nft, SetKind, Table, Transaction};
use super::qdisc;

/// One ability: none if it works, else why not.
pub type Ability = Option<String>;

/// What ways into a datapath need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Tables that die with the socket of their owner.
    pub owner: Ability,
    /// Set elements that expire by themselves.
    pub timeouts: Ability,
    /// Such an element deleted and added in one batch.
    pub renewal: Ability,
    /// Loss without a word at a device's egress.
    pub egress_fwd: Ability,
    /// A BPF program at a device's egress that dies with its descriptor.
    pub tcx: Ability,
}

impl Abilities {
    /// In words, for a kernel or a host where not even a namespace could be made.
    fn none(why: &str) -> Self {
        let no = || Some(why.to_owned());
        Self {
            owner: no(),
            timeouts: no(),
            renewal: no(),
            egress_fwd: no(),
            tcx: no(),
        }
    }
}

/// Tries everything; takes some milliseconds. Nothing of it touches this host's own network.
pub fn abilities() -> Abilities {
    let tried = scratch(|| -> io::Result<Abilities> {
        let mut nft = Nft::open().map_err(io::Error::other)?;
        Ok(Abilities {
            owner: owner(&mut nft),
            timeouts: timeouts(&mut nft, false),
            renewal: timeouts(&mut nft, true),
            egress_fwd: egress_fwd(&mut nft),
            tcx: tcx().err().map(|error| error.to_string()),
        })
    });
    match tried.and_then(|tried| tried) {
        Ok(abilities) => abilities,
        Err(error) => Abilities::none(&format!("could not be tried: {error}")),
    }
}

/// Whether a device takes such a root and has it as asked: the loopback of a new namespace, whose
/// number is always 1. Old kernels take what they do not know in silence.
pub fn qdisc(options: &qdisc::Options) -> Ability {
    let tried = scratch(|| -> Result<(), String> {
        let mut socket = Socket::open_route().map_err(|error| error.to_string())?;
        qdisc::try_out(&mut socket, 1, options).map_err(|error| error.to_string())?;
        let seen = qdisc::roots(&mut socket).map_err(|error| error.to_string())?;
        let root = seen.iter().find(|root| root.device == 1);
        match root.map(|root| options.unlike(&root.raw_options())) {
            Some(None) => Ok(()),
            Some(Some(unlike)) => Err(unlike),
            None => Err("the kernel took it, and it is not there".to_owned()),
        }
    });
    match tried {
        Ok(tried) => tried.err(),
        Err(error) => Some(format!("it could not be tried: {error}")),
    }
}

fn table(name: &str, family: Family) -> Table {
    Table {
        family,
        name: name.to_owned(),
    }
}

fn try_out(nft: &mut Nft, transaction: Transaction) -> Ability {
    nft.try_out(transaction)
        .err()
        .map(|error| error.to_string())
}

fn owner(nft: &mut Nft) -> Ability {
    let table = table("owner", Family::Inet);
    let mut transaction = Transaction::default();
    transaction.add_owned_table(&table);
    if let Some(why) = try_out(nft, transaction) {
        return Some(why);
    }
    // Old kernels take flags that they do not know in silence.
    match nft.tables() {
        Ok(seen)
            if seen
                .iter()
                .any(|seen| seen.is(&table) && seen.owner.is_some()) =>
        {
            None
        }
        Ok(_) => Some("the kernel took the owner flag and forgot it".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn timeouts(nft: &mut Nft, renew: bool) -> Ability {
    let table = table(if renew { "renewal" } else { "timeouts" }, Family::Inet);
    let gate = Gate::from_millis(60_000);
    let mut transaction = Transaction::default();
    transaction.add_owned_table(&table);
    transaction.add_set(&table, "gate", SetKind::Gate, 1);
    transaction.add_gate(&table, "gate", gate);
    let made = try_out(nft, transaction);
    if made.is_some() || !renew {
        return made;
    }
    let mut transaction = Transaction::default();
    transaction.delete_gate(&table, "gate");
    transaction.add_gate(&table, "gate", gate);
    try_out(nft, transaction)
}

fn egress_fwd(nft: &mut Nft) -> Ability {
    let table = table("egress", Family::Netdev);
    let mut transaction = Transaction::default();
    transaction.add_owned_table(&table);
    let devices = ["lo".to_owned()];
    transaction.add_chain(&table, "egress", &Hook::Egress { devices: &devices });
    transaction.add_rule(&table, "egress", &Expression::vanish());
    try_out(nft, transaction)
}

fn tcx() -> io::Result<()> {
    const LOOPBACK: u32 = 1; // the first device of every namespace
    let program = bpf::load(&bpf::LEAVE_ALONE)?;
    bpf::attach(&program, LOOPBACK, bpf::TCX_EGRESS).map(drop)
}
