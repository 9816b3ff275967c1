//! The drill that the whole project is about.

use proof::drill::WHOLE;
use proof::lab::Lab;
use proof::seen::run;
use scenarios::verdict::{Class, Window};

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn one_cloud_goes_dark_and_only_its_cell_falls() {
    let lab = Lab::up("passes", &[]);
    let drill = run(&lab, "black-hole-cloud", &WHOLE);
    drill.assert_exit(0);

    let target = drill.rows("gd-aliyun/checkout");
    assert!(
        target
            .iter()
            .any(|row| row.class == Class::Effective && row.l > 0.9),
        "{target:?}"
    );
    assert!(
        target.iter().any(|row| row.class == Class::Recovered),
        "{target:?}"
    );

    let survivors = [
        "gd-tencent/home",
        "gd-tencent/checkout",
        "gd-tencent/orders",
        "gd-aws/home",
        "gd-aws/checkout",
        "gd-aws/orders",
        "shop/dns",
        "shop@gd-tencent",
        "shop@gd-aws",
    ];
    for stream in survivors {
        for window in [Window::Fault, Window::After] {
            let rows = drill.rows(stream);
            let row = rows.iter().find(|row| row.window == window);
            let row = row.unwrap_or_else(|| panic!("{stream} has no row for {window:?}"));
            assert_eq!(row.class, Class::Isolated, "{row:?}");
            assert!(row.u < 0.02, "{row:?}");
        }
    }

    let ledgers = drill.ledgers();
    assert_eq!(ledgers.len(), 3, "one ledger per cell");
    for ledger in ledgers {
        assert!(ledger.acknowledged > 500, "{ledger:?}");
        assert_eq!(
            (ledger.lost, ledger.duplicated, ledger.unread),
            (0, 0, 0),
            "{ledger:?}"
        );
    }
    let residue = drill.residue();
    assert_eq!(residue.len(), 18, "every agent was scanned");
    assert!(
        residue.iter().all(|r| r.verified && r.left.is_empty()),
        "{residue:?}"
    );
}
