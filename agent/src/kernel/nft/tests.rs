//! Golden bytes of what goes over the netlink socket.

use super::*;

fn table() -> Table {
    Table {
        family: Family::Inet,
        name: "t".into(),
    }
}

/// Hex words of the last message, without its 20 bytes of headers.
fn attributes_of(build: impl FnOnce(&mut Transaction)) -> String {
    let mut transaction = Transaction::default();
    let before = transaction.as_bytes().len();
    build(&mut transaction);
    let bytes = &transaction.as_bytes()[before + 20..];
    bytes
        .chunks(4)
        .map(|word| word.iter().map(|b| format!("{b:02x}")).collect::<String>() + " ")
        .collect()
}

#[test]
fn a_batch_begins_for_nftables_and_numbers_are_big_endian() {
    let mut transaction = Transaction::default();
    assert_eq!(
        transaction.as_bytes(),
        [
            20, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
            0, // nlmsghdr: NFNL_MSG_BATCH_BEGIN
            0, 0, 0, 10, // nfgenmsg: NFNL_SUBSYS_NFTABLES
        ]
    );
    transaction.add_owned_table(&table());
    assert_eq!(
        transaction.as_bytes()[20..],
        [
            36, 0, 0, 0, 0, 10, 0x01, 0x06, 0, 0, 0, 0, 0, 0, 0,
            0, // NEWTABLE, REQUEST|CREATE|EXCL
            1, 0, 0, 0, // NFPROTO_INET
            6, 0, 1, 0, b't', 0, 0, 0, // name, NUL, padding
            8, 0, 2, 0, 0, 0, 0, 2, // NFT_TABLE_F_OWNER
        ]
    );
}

#[test]
fn golden_sets_and_elements() {
    let set = attributes_of(|t| t.add_set(&table(), "s", SetKind::Prefixes6, 3));
    assert_eq!(
        set,
        "06000100 74000000 06000200 73000000 08000300 00000004 08000400 00000008 08000500 \
         00000010 08000a00 00000003 "
    );
    let prefixes = [
        "10.0.0.0/8".parse().unwrap(),
        "255.255.255.255/32".parse().unwrap(),
    ];
    let elements = attributes_of(|t| t.add_prefixes(&table(), "s", &prefixes, false));
    assert_eq!(
        elements,
        "06000100 74000000 06000200 73000000 44000380 10000180 0c000180 08000100 0a000000 \
         18000180 0c000180 08000100 0b000000 08000300 00000001 \
         10000180 0c000180 08000100 ffffffff "
            .replace("44000380", "3c000380"),
        "the last address has no end"
    );
    let gate = attributes_of(|t| t.add_gate(&table(), "g", Gate::from_millis(5_000)));
    assert_eq!(
        gate,
        "06000100 74000000 06000200 67000000 20000380 1c000180 0c000180 08000100 00000001 \
         0c000400 00000000 00001388 "
    );
}

#[test]
fn golden_silent_loss() {
    let rule = attributes_of(|t| t.add_rule(&table(), "c", &Expression::vanish()));
    // immediate reg 1 = 0x7fffffff in host order; fwd sreg_dev = reg 1
    assert!(rule.contains("ffffff7f"), "{rule}");
    assert!(rule.contains("66776400"), "fwd: {rule}");
}

#[test]
fn a_gate_is_never_open_for_ever() {
    for millis in [0, 1, 9] {
        let gate = attributes_of(|t| t.add_gate(&table(), "g", Gate::from_millis(millis)));
        assert!(gate.ends_with("00000000 0000000a "), "{millis} ms: {gate}");
    }
}

#[test]
fn no_nest_is_longer_than_its_length_can_say() {
    let prefixes: Vec<ipnet::IpNet> = (0..5_000_u128)
        .map(|n| ipnet::Ipv6Net::new((n << 65).into(), 64).unwrap().into())
        .collect();
    let mut transaction = Transaction::default();
    transaction.add_prefixes(&table(), "s", &prefixes, true);
    assert_eq!(transaction.len(), 7, "5,000 ranges, 800 a message");
    let mut long = Transaction::default();
    let device = "x".repeat(70_000);
    long.add_chain(&table(), "c", &Hook::Egress { devices: &[device] });
    let mut socket = Socket::open().unwrap_or_else(|e| panic!("needs no root: {e}"));
    let (batch, last) = long.finish();
    assert!(matches!(
        socket.commit(batch, last),
        Err(Error::TooLong("new chain"))
    ));
}
