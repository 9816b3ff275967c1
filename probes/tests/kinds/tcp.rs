//! TCP: somebody listens, or nobody does.

use crate::{Cases, dead_port, fleet_of, listener};

#[tokio::test]
async fn a_listener_is_good_and_a_dead_port_bad() {
    let mut cases = Cases::default();
    let (_listener, port) = listener();
    cases.good(&format!("tcp: {{ address: \"{{cell}}:{port}\" }}"));
    let probe = format!("tcp: {{ address: \"{{cell}}:{}\" }}", dead_port());
    cases.bad(&probe, "refused");
    cases.hold().await;
}

#[tokio::test]
async fn what_a_cell_declares_is_asked() {
    let (_listener, port) = listener();
    let mut fleet = fleet_of("tcp: { address: \"{uses.db}\" }");
    let db = fleet
        .cells
        .get_mut("a")
        .unwrap()
        .uses
        .get_mut("db")
        .unwrap();
    (db.address, db.port) = ("127.0.0.1".parse().unwrap(), port);
    let told = crate::ask(&fleet).await;
    assert!(told.valid > 0 && told.bad == 0, "{:?}", told.words);
}
