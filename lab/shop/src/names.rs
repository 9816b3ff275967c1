//! Authoritative answers for small zones, over UDP and TCP: what resolver and entrypoint share.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::ShopError;
use crate::listen;

const TCP_IDLE: Duration = Duration::from_secs(5);
const TCP_BUFFER: usize = 16;
/// What fits into a datagram everywhere (RFC 9715 section 3).
const MAX_PAYLOAD: u16 = 1232;

/// What a zone says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Addresses of the asked family; empty: the name exists, the family does not (NODATA).
    Addresses(Vec<IpAddr>),
    /// NXDOMAIN.
    NoName,
}

/// The contents of one or more zones.
pub trait Zones: Send + Sync + Unpin + 'static {
    /// The origin of the zone that `name` lies in; `None`: not ours, refused.
    fn origin(&self, name: &Name) -> Option<Name>;
    /// Addresses for an A or AAAA question; for any other type `record_type` is not counted as a
    /// use of the name and only its existence matters.
    fn find(&self, name: &Name, record_type: RecordType) -> Found;
}

/// Serves `zones` on UDP and TCP at every address until a socket fails.
pub async fn serve(addresses: &[SocketAddr], zones: impl Zones, ttl: u32) -> Result<(), ShopError> {
    let mut server = Server::new(Authority { zones, ttl });
    let mut bound = Vec::new();
    for &address in addresses {
        let listener = listen::tcp(address).await?;
        // With port 0 the datagrams must have the port that TCP got.
        let address = listener.local_addr().unwrap_or(address);
        server.register_socket(listen::udp(address).await?);
        server.register_listener(listener, TCP_IDLE, TCP_BUFFER);
        bound.push(address);
    }
    for address in bound {
        listen::announce(address);
    }
    server
        .block_until_done()
        .await
        .map_err(|error| ShopError::Dns(error.to_string()))
}

struct Authority<Z> {
    zones: Z,
    /// Seconds, also of negative answers.
    ttl: u32,
}

#[derive(Default)]
struct Reply {
    code: Option<ResponseCode>,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

impl<Z: Zones> Authority<Z> {
    fn reply(&self, request: &Request) -> Reply {
        let Ok(info) = request.request_info() else {
            return refusal(ResponseCode::FormErr);
        };
        if info.metadata.message_type != MessageType::Query {
            return refusal(ResponseCode::FormErr);
        }
        if info.metadata.op_code != OpCode::Query {
            return refusal(ResponseCode::NotImp);
        }
        let question = info.query.original();
        let name = question.name();
        match self.zones.origin(name) {
            Some(origin) if question.query_class() == DNSClass::IN => {
                self.answer(&origin, name, question.query_type())
            }
            _ => refusal(ResponseCode::Refused),
        }
    }

    fn answer(&self, origin: &Name, name: &Name, record_type: RecordType) -> Reply {
        let mut reply = Reply {
            authoritative: true,
            ..Reply::default()
        };
        let at_origin = name == origin;
        match record_type {
            RecordType::SOA if at_origin => reply.answers.push(self.soa(origin)),
            RecordType::NS if at_origin => reply.answers.push(self.ns(origin)),
            _ => match self.zones.find(name, record_type) {
                Found::NoName => reply.code = Some(ResponseCode::NXDomain),
                Found::Addresses(addresses) => {
                    let records = addresses.into_iter().map(|address| {
                        Record::from_rdata(name.clone(), self.ttl, RData::from(address))
                    });
                    reply.answers.extend(records);
                }
            },
        }
        // Who is told "no" is told for how long, too (RFC 2308).
        if reply.answers.is_empty() {
            reply.authorities.push(self.soa(origin));
        }
        reply
    }

    fn soa(&self, origin: &Name) -> Record {
        let contact = origin
            .prepend_label("hostmaster")
            .unwrap_or_else(|_| origin.clone());
        let soa = SOA::new(server_name(origin), contact, 1, 3600, 600, 86_400, self.ttl);
        Record::from_rdata(origin.clone(), self.ttl, RData::SOA(soa))
    }

    fn ns(&self, origin: &Name) -> Record {
        Record::from_rdata(origin.clone(), self.ttl, RData::NS(NS(server_name(origin))))
    }
}

fn server_name(origin: &Name) -> Name {
    origin
        .prepend_label("ns")
        .unwrap_or_else(|_| origin.clone())
}

fn refusal(code: ResponseCode) -> Reply {
    Reply {
        code: Some(code),
        ..Reply::default()
    }
}

#[async_trait::async_trait]
impl<Z: Zones> RequestHandler for Authority<Z> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let reply = self.reply(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = reply.authoritative;
        metadata.response_code = reply.code.unwrap_or(ResponseCode::NoError);
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &reply.answers, &reply.authorities, [], []);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!("cannot answer {}: {error}", request.src());
                hickory_proto::op::Header {
                    metadata,
                    counts: Default::default(),
                }
                .into()
            }
        }
    }
}
