//! Resolver and entrypoint answer as authoritative servers do, over UDP and TCP.

mod parts;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use parts::{Part, dns, dns_tcp};

fn entrypoint() -> Part {
    Part::start(&[
        "entrypoint",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "shop.example",
        "--share",
        "10.1.0.1,fd00::1=2",
        "--share",
        "10.2.0.1,fd00::2=1",
        "--ttl",
        "5",
    ])
}

fn resolver() -> Part {
    let record = |text| ["--record", text];
    let mut args = vec!["resolver", "--listen", "127.0.0.1:0"];
    args.extend(record("pricing.cell.internal=10.1.0.3"));
    args.extend(record("v6.cell.internal=fd00::3"));
    args.extend(record("deep.down.cell.internal=10.1.0.4"));
    Part::start(&args)
}

fn addresses(answer: &Message) -> Vec<String> {
    answer
        .answers
        .iter()
        .map(|record| record.data.ip_addr().unwrap().to_string())
        .collect()
}

fn assert_negative(answer: &Message, code: ResponseCode) {
    assert_eq!(answer.metadata.response_code, code);
    assert!(answer.metadata.authoritative);
    assert!(answer.answers.is_empty());
    assert!(
        matches!(answer.authorities[0].data, RData::SOA(_)),
        "{:?}",
        answer.authorities
    );
}

#[test]
fn entrypoint_answers_one_address_by_exact_share_in_each_family() {
    let part = entrypoint();
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..30 {
        // Two families in turn: one must not use up the turns of the other.
        for record_type in [RecordType::A, RecordType::AAAA] {
            let answer = dns(part.address, "shop.example", record_type);
            assert!(answer.metadata.authoritative);
            assert_eq!(answer.answers.len(), 1);
            assert_eq!(answer.answers[0].ttl, 5);
            *counts.entry(addresses(&answer).remove(0)).or_insert(0) += 1;
        }
    }
    let expected = [
        ("10.1.0.1", 20),
        ("10.2.0.1", 10),
        ("fd00::1", 20),
        ("fd00::2", 10),
    ];
    assert_eq!(
        counts,
        expected
            .map(|(address, count)| (address.to_owned(), count))
            .into()
    );
}

#[test]
fn entrypoint_says_no_properly() {
    let part = entrypoint();
    assert_negative(
        &dns(part.address, "shop.example", RecordType::TXT),
        ResponseCode::NoError,
    );
    assert_negative(
        &dns(part.address, "www.shop.example", RecordType::A),
        ResponseCode::NXDomain,
    );
    let foreign = dns(part.address, "example.org", RecordType::A);
    assert_eq!(foreign.metadata.response_code, ResponseCode::Refused);
    assert!(!foreign.metadata.authoritative);
}

#[test]
fn entrypoint_has_soa_and_ns_and_ignores_case() {
    let part = entrypoint();
    let soa = dns(part.address, "shop.example", RecordType::SOA);
    assert!(matches!(soa.answers[0].data, RData::SOA(_)));
    let ns = dns(part.address, "shop.example", RecordType::NS);
    assert!(matches!(ns.answers[0].data, RData::NS(_)));
    let upper = dns(part.address, "SHOP.Example", RecordType::A);
    assert_eq!(upper.answers.len(), 1);
}

#[test]
fn both_answer_over_tcp_on_the_same_port() {
    let part = entrypoint();
    assert_eq!(
        dns_tcp(part.address, "shop.example", RecordType::A)
            .answers
            .len(),
        1
    );
    let part = resolver();
    let answer = dns_tcp(part.address, "pricing.cell.internal", RecordType::A);
    assert_eq!(addresses(&answer), ["10.1.0.3"]);
}

#[test]
fn resolver_knows_its_names_and_says_no_properly() {
    let part = resolver();
    let ask = |name, record_type| dns(part.address, name, record_type);
    assert_eq!(
        addresses(&ask("pricing.cell.internal", RecordType::A)),
        ["10.1.0.3"]
    );
    assert_eq!(
        addresses(&ask("PRICING.cell.internal", RecordType::A)),
        ["10.1.0.3"]
    );
    assert_eq!(
        addresses(&ask("v6.cell.internal", RecordType::AAAA)),
        ["fd00::3"]
    );
    assert_negative(
        &ask("pricing.cell.internal", RecordType::AAAA),
        ResponseCode::NoError,
    );
    assert_negative(
        &ask("v6.cell.internal", RecordType::A),
        ResponseCode::NoError,
    );
    assert_negative(
        &ask("down.cell.internal", RecordType::A),
        ResponseCode::NoError,
    );
    assert_negative(
        &ask("nobody.cell.internal", RecordType::A),
        ResponseCode::NXDomain,
    );
    let foreign = ask("shop.example", RecordType::A);
    assert_eq!(foreign.metadata.response_code, ResponseCode::Refused);
}
