//! A fleet on loopback: fleets to probe, servers of every temper on threads of their own.
#![allow(dead_code)] // each test binary uses some of it

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use probes::{ProbeOut, Prober};
use scenarios::effects::{ClientKind, ClientMix};
use scenarios::fleet::{
    Ask, Cell, DnsName, Entrypoint, Fleet, HttpMethod, HttpRequest, Plane, Probe, Rewrites,
};
use scenarios::history::{BadSample, Block, LateEnds};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A request as a server's behaviour sees it.
pub struct Asked {
    pub method: String,
    pub path: String,
    /// The drill whose load this is.
    pub load: Option<String>,
    pub body: String,
}

/// Answers with a status and a body, maybe late; status 0 closes the connection without a word.
pub type Behaviour = Arc<dyn Fn(Asked) -> (Duration, u16, String) + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicU64>,
    pub requests: Arc<AtomicU64>,
}

impl Server {
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An HTTP server on a thread and runtime of its own: it goes on when the prober's runtime stalls.
pub fn serve(listen: &str, behaviour: Behaviour) -> Server {
    let listener = TcpListener::bind(listen).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU64::new(0));
    let requests = Arc::new(AtomicU64::new(0));
    let server = Server {
        address,
        connections: Arc::clone(&connections),
        requests: Arc::clone(&requests),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (behaviour, requests) = (Arc::clone(&behaviour), Arc::clone(&requests));
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        requests.fetch_add(1, Ordering::SeqCst);
                        answer(Arc::clone(&behaviour), request)
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    });
    server
}

async fn answer(
    behaviour: Behaviour,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().path().to_owned();
    let method = request.method().to_string();
    let load = request.headers().get("x-cellwall-load");
    let load = load.map(|drill| drill.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let (delay, status, body) = behaviour(Asked {
        method,
        path,
        load,
        body,
    });
    tokio::time::sleep(delay).await;
    if status == 0 {
        return Err(std::io::Error::other("closed on purpose"));
    }
    Ok(Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(body)))
        .unwrap())
}

pub fn always_ok() -> Behaviour {
    Arc::new(|_| (Duration::ZERO, 200, "ok".to_owned()))
}

/// The same with answers that may not be kept.
pub fn serve_dns(
    answers: impl Fn(u64) -> Option<Vec<IpAddr>> + Send + 'static,
) -> (SocketAddr, Arc<AtomicU64>) {
    serve_dns_kept(0, answers)
}

/// A DNS server whose answers (each a list of addresses, or silence) come from a function of the
/// number of the question.
pub fn serve_dns_kept(
    ttl: u32,
    answers: impl Fn(u64) -> Option<Vec<IpAddr>> + Send + 'static,
) -> (SocketAddr, Arc<AtomicU64>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let Some(addresses) = answers(counter.fetch_add(1, Ordering::SeqCst)) else {
                continue;
            };
            // Noise first, with a wrong id: nobody may take it for the answer.
            let mut noise = Message::response(question.metadata.id ^ 1, question.metadata.op_code);
            noise.metadata.response_code = ResponseCode::NXDomain;
            noise.add_query(question.queries[0].clone());
            socket.send_to(&noise.to_vec().unwrap(), from).unwrap();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.add_query(question.queries[0].clone());
            let name = question.queries[0].name().clone();
            for address in addresses {
                answer.add_answer(Record::from_rdata(name.clone(), ttl, RData::from(address)));
            }
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    (address, asked)
}

pub fn fleet() -> Fleet {
    Fleet {
        name: "test".to_owned(),
        operator: Vec::new(),
        tls: None,
        clouds: BTreeMap::new(),
        cells: BTreeMap::new(),
        probes: BTreeMap::new(),
        entrypoints: BTreeMap::new(),
        traffic: BTreeMap::new(),
        gauges: BTreeMap::new(),
        references: Vec::new(),
        vantages: Vec::new(),
    }
}

pub fn add_cell(fleet: &mut Fleet, name: &str, address: &str) {
    let cell = Cell {
        cloud: "cloud".to_owned(),
        region: "south".to_owned(),
        addresses: vec![address.parse().unwrap()],
        prefixes: Vec::new(),
        nodes: Vec::new(),
        uses: BTreeMap::new(),
        kubernetes: None,
    };
    fleet.cells.insert(name.to_owned(), cell);
}

pub fn request(method: HttpMethod, url: String) -> HttpRequest {
    HttpRequest {
        method,
        ..HttpRequest::get(url)
    }
}

/// The request of a fleet's HTTP probe, to alter.
pub fn http_of<'a>(fleet: &'a mut Fleet, probe: &str) -> &'a mut HttpRequest {
    match &mut fleet.probes.get_mut(probe).unwrap().ask {
        Ask::Http(http) => http,
        _ => panic!("{probe} is no HTTP probe"),
    }
}

/// `GET http://{cell}:PORT/` at 20/s, timeout 1 s, slo 500 ms.
pub fn get_probe(port: u16) -> Probe {
    Probe {
        plane: Plane::Data,
        ask: Ask::Http(request(HttpMethod::Get, format!("http://{{cell}}:{port}/"))),
        read_back: None,
        rewrites: Rewrites::default(),
        slower_within: None,
        rate: 20.0,
        timeout: Duration::from_secs(1),
        slo: Some(Duration::from_millis(500)),
    }
}

/// One cell `a` on 127.0.0.1 with the probe `home`.
pub fn one_cell(server: &Server) -> Fleet {
    let mut fleet = fleet();
    add_cell(&mut fleet, "a", "127.0.0.1");
    fleet
        .probes
        .insert("home".to_owned(), get_probe(server.address.port()));
    fleet
}

pub fn entrypoint(resolver: SocketAddr, port: u16, cells: &[&str]) -> Entrypoint {
    let share = 1.0 / cells.len() as f64;
    Entrypoint {
        region: "south".to_owned(),
        dns: DnsName {
            name: "shop.example".to_owned(),
            resolver,
        },
        shares: cells
            .iter()
            .map(|cell| ((*cell).to_owned(), share))
            .collect(),
        http: request(HttpMethod::Get, format!("http://{{address}}:{port}/")),
        clients: ClientMix::only(ClientKind::HonoursTtl),
        rate: 20.0,
        timeout: Duration::from_secs(1),
        slo: Some(Duration::from_millis(700)),
    }
}

/// Blocks by stream, and bad samples.
#[derive(Default)]
pub struct Seen {
    pub blocks: BTreeMap<String, Vec<Block>>,
    pub samples: Vec<BadSample>,
    pub late: Vec<LateEnds>,
}

impl Seen {
    pub fn take(&mut self, out: ProbeOut) {
        let ProbeOut::Second {
            start_ms,
            blocks,
            samples,
            late,
            ..
        } = out;
        for block in blocks {
            assert_eq!(block.start_ms, start_ms);
            assert!(block.valid <= block.scheduled, "{block:?}");
            let bad = block.timeouts + block.resets + block.errors + block.slow;
            assert_eq!(block.bad, bad, "{block:?}");
            assert!(block.bad <= block.valid, "{block:?}");
            let stream = self.blocks.entry(block.stream.clone()).or_default();
            if let Some(last) = stream.last() {
                assert_eq!(last.start_ms + probes::BLOCK_MS, block.start_ms, "a gap");
            }
            stream.push(block);
        }
        self.samples.extend(samples);
        self.late.extend(late);
    }

    /// Adds one field up over the blocks of a stream.
    pub fn sum(&self, stream: &str, field: impl Fn(&Block) -> u32) -> u32 {
        self.blocks[stream].iter().map(field).sum()
    }

    pub fn answers(&self, stream: &str) -> BTreeMap<String, u32> {
        let mut answers = BTreeMap::new();
        for block in &self.blocks[stream] {
            for (cell, count) in &block.answers {
                *answers.entry(cell.clone()).or_insert(0) += count;
            }
        }
        answers
    }
}

/// Probes a fleet for whole seconds; returns what was seen and the stopped prober.
pub async fn probe(fleet: &Fleet, seconds: usize) -> (Seen, Prober) {
    probe_with(fleet, seconds, |_, _| ()).await
}

/// The same; `each` is called after every second with its number.
pub async fn probe_with(
    fleet: &Fleet,
    seconds: usize,
    mut each: impl FnMut(usize, &Prober),
) -> (Seen, Prober) {
    let streams = probes::streams(fleet, &[]);
    let (sender, mut out) = mpsc::channel(4);
    let origin = Instant::now() + Duration::from_millis(20);
    let mut prober = Prober::start(fleet, &streams, "test/run", origin, sender).unwrap();
    let mut seen = Seen::default();
    for second in 0..seconds {
        seen.take(out.recv().await.unwrap());
        each(second, &prober);
    }
    prober.stop().await;
    while let Some(more) = out.recv().await {
        seen.take(more);
    }
    (seen, prober)
}
