//! DNS against a real server over UDP: addresses, none of a family, no such name, refusals, silence.

use std::net::IpAddr;

use hickory_proto::op::{Metadata, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::{Cases, fleet_of, on_a_thread};

/// `shop.example` has two IPv4 addresses; all other names below `example` do not exist, and what is not
/// below it is refused.
struct Zone;

#[async_trait::async_trait]
impl RequestHandler for Zone {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let question = request.request_info().unwrap().query.original().clone();
        let name = question.name().to_string();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut answers = Vec::new();
        if name == "shop.example." {
            let addresses: [IpAddr; 2] = ["198.51.100.2", "127.0.0.1"].map(|a| a.parse().unwrap());
            let records = addresses.map(|address| {
                Record::from_rdata(question.name().clone(), 5, RData::from(address))
            });
            if question.query_type() == RecordType::A {
                answers.extend(records);
            }
        } else if name.ends_with(".example.") {
            metadata.response_code = ResponseCode::NXDomain;
        } else {
            metadata.response_code = ResponseCode::Refused;
        }
        let builder = MessageResponseBuilder::from_message_request(request);
        let message = builder.build(metadata, &answers, [], [], []);
        response.send_response(message).await.unwrap()
    }
}

fn server() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    on_a_thread(async move {
        let mut server = Server::new(Zone);
        server.register_socket(tokio::net::UdpSocket::from_std(socket).unwrap());
        let _ = server.block_until_done().await;
    });
    port
}

#[tokio::test]
async fn each_expectation_is_met_by_one_kind_of_answer() {
    let mut cases = Cases::default();
    let port = server();
    let dns = |name: &str, more: &str| {
        format!("dns: {{ resolver: \"{{cell}}:{port}\", name: {name}{more} }}")
    };
    cases.good(&dns("shop.example", ""));
    cases.good(&dns(
        "shop.example",
        ", expect: { within: [198.51.100.0/24, \"{cell}\"] }",
    ));
    cases.bad(
        &dns("shop.example", ", expect: { within: [198.51.100.0/24] }"),
        "127.0.0.1 is none of",
    );
    cases.good(&dns("shop.example", ", type: AAAA, expect: nodata"));
    cases.bad(
        &dns("shop.example", ", expect: nodata"),
        "198.51.100.2, 127.0.0.1 (wanted: no address)",
    );
    cases.bad(
        &dns("shop.example", ", type: AAAA"),
        "an answer without an address",
    );
    cases.good(&dns("gone.example", ", expect: nxdomain"));
    cases.bad(
        &dns("shop.example", ", expect: nxdomain"),
        "there is such a name",
    );
    cases.bad(
        &dns("gone.example", ", expect: nodata"),
        "Non-Existent Domain",
    );
    cases.bad(&dns("bank.test", ""), "Query Refused");
    cases.hold().await;
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_dead_port_refuses() {
    let mut cases = Cases::default();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut fleet = fleet_of(&format!(
        "dns: {{ resolver: \"{{cell}}:{port}\", name: a.example }}"
    ));
    crate::give_up_after(&mut fleet, 200, 600);
    let told = crate::ask(&fleet).await;
    assert_eq!(told.bad, told.valid);
    let words = told.words.join("; ");
    assert!(words.contains("no answer from 127.0.0.1:"), "{words}");
    drop(silent);
    cases.bad(
        &format!("dns: {{ resolver: \"{{cell}}:{port}\", name: a.example }}"),
        "refused",
    );
    cases.hold().await;
}
