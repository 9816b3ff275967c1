//! gRPC health against tonic's own health service: serving, not serving, unknown, over TLS, and gone.

use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity as TlsIdentity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;

use crate::authority::{Authority, Identity};
use crate::{Cases, dead_port, listener, on_a_thread};

fn server(identity: Option<&Identity>) -> u16 {
    let (listener, port) = listener();
    let tls = identity.map(|identity| {
        let key = identity.key.serialize_pem();
        ServerTlsConfig::new().identity(TlsIdentity::from_pem(identity.certificate.pem(), key))
    });
    on_a_thread(async move {
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter
            .set_service_status("shop.Orders", ServingStatus::Serving)
            .await;
        reporter
            .set_service_status("shop.Pricing", ServingStatus::NotServing)
            .await;
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        server
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    port
}

#[tokio::test]
async fn only_serving_is_good() {
    let mut cases = Cases::default();
    let port = server(None);
    let grpc = |more: &str| format!("grpc: {{ address: \"{{cell}}:{port}\"{more} }}");
    cases.good(&grpc(""));
    cases.good(&grpc(", service: shop.Orders"));
    cases.bad(&grpc(", service: shop.Pricing"), "grpc: NOT_SERVING");
    cases.bad(&grpc(", service: bank.Accounts"), "grpc: NotFound");
    cases.bad(
        &format!("grpc: {{ address: \"{{cell}}:{}\" }}", dead_port()),
        "refused",
    );
    // A server that speaks HTTP/1.1 is none.
    let web = crate::fleet::serve("127.0.0.1:0", crate::fleet::always_ok());
    let told = crate::ask(&crate::fleet_of(&format!(
        "grpc: {{ address: \"{{cell}}:{}\" }}",
        web.address.port()
    )))
    .await;
    assert!(told.valid > 0 && told.bad == told.valid, "{:?}", told.words);
    cases.hold().await;
}

#[tokio::test]
async fn over_tls_the_certificate_is_checked() {
    let mut cases = Cases::default();
    let authority = Authority::new();
    let port = server(Some(&authority.sign(&["shop.example"], 10)));
    let ca = authority.file();
    let grpc = |tls: &str| format!("grpc: {{ address: \"{{cell}}:{port}\", tls: {{ {tls} }} }}");
    cases.good(&grpc(&format!("ca: {}, name: shop.example", ca.display())));
    cases.bad(
        &grpc(&format!("ca: {}, name: bank.example", ca.display())),
        "not valid for name",
    );
    cases.bad(&grpc(""), "certificate");
    cases.hold().await;
}
