//! TLS: trusted, untrusted, for another name, expired, soon to expire, and no TLS at all.

use crate::authority::{Authority, serve};
use crate::{Cases, listener};

#[tokio::test]
async fn a_certificate_is_good_for_its_name_by_its_authority_and_for_long_enough() {
    let mut cases = Cases::default();
    let authority = Authority::new();
    let ca = authority.file();
    let ca = ca.display();
    let port = serve(&authority.sign(&["shop.example", "127.0.0.1"], 10));
    let tls = |more: &str| format!("tls: {{ address: \"{{cell}}:{port}\"{more} }}");

    cases.good(&tls(&format!(", ca: {ca}")));
    cases.good(&tls(&format!(
        ", ca: {ca}, name: shop.example, validFor: 9d"
    )));
    let soon = tls(&format!(", ca: {ca}, validFor: 14d"));
    cases.bad(
        &soon,
        "the certificate expires in 9 days, less than 14 days",
    );
    let named = tls(&format!(", ca: {ca}, name: bank.example"));
    cases.bad(&named, "certificate not valid for name");
    // This machine's authorities did not sign it.
    cases.bad(&tls(", name: shop.example"), "UnknownIssuer");
    let other = Authority::new();
    cases.bad(
        &tls(&format!(", ca: {}", other.file().display())),
        "certificate",
    );

    let port = serve(&authority.sign(&["127.0.0.1"], -2));
    let expired = format!("tls: {{ address: \"{{cell}}:{port}\", ca: {ca} }}");
    cases.bad(&expired, "expired");
    cases.hold().await;
}

#[tokio::test]
async fn silence_behind_a_connection_is_no_handshake() {
    let authority = Authority::new();
    let (_listener, port) = listener();
    let ca = authority.file();
    let probe = format!(
        "tls: {{ address: \"{{cell}}:{port}\", ca: {} }}",
        ca.display()
    );
    let mut fleet = crate::fleet_of(&probe);
    // Given up before its second closes, and still under way then.
    for timeout in [500, 3000] {
        crate::give_up_after(&mut fleet, 200, timeout);
        let told = crate::ask(&fleet).await;
        assert_eq!(told.bad, told.valid);
        let words = told.words.join("; ");
        assert!(words.contains("shaking hands (TLS)"), "{words}");
    }
}

#[tokio::test]
async fn a_file_without_a_certificate_is_refused_before_anything_is_sent() {
    let fleet = crate::fleet_of("tls: { address: \"{cell}:1\", ca: /dev/null }");
    let streams = probes::streams(&fleet, &[]);
    let (sender, _out) = tokio::sync::mpsc::channel(1);
    let refused = probes::Prober::start(&fleet, &streams, "t", tokio::time::Instant::now(), sender);
    let why = refused.err().unwrap().to_string();
    assert!(
        why.contains("a/p") && why.contains("/dev/null holds no certificate"),
        "{why}"
    );
}
