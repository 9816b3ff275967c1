//! HTTP and HTTPS against a real server: every expectation, met and not met.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::authority::{Authority, serve};
use crate::fleet;
use crate::{Cases, listener, on_a_thread};

fn shop() -> u16 {
    let order = || async {
        let body = Json(json!({ "order": { "id": "o-1", "n": 2, "open": true } }));
        (StatusCode::CREATED, [("x-shop", "east-1")], body)
    };
    let echo = |headers: axum::http::HeaderMap, body: String| async move {
        let agent = headers
            .get("x-probe")
            .map(|value| value.to_str().unwrap().to_owned());
        let host = headers["host"].to_str().unwrap().to_owned();
        Json(json!({ "probe": agent, "host": host, "body": body })).into_response()
    };
    let router = Router::new()
        .route("/", get(|| async { "welcome to the shop" }))
        .route("/orders", post(order))
        .route("/echo", any(echo))
        .route(
            "/busy",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "busy") }),
        );
    let (listener, port) = listener();
    on_a_thread(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    port
}

#[tokio::test]
async fn status_body_and_headers() {
    let mut cases = Cases::default();
    let port = shop();
    let url =
        |path: &str, more: &str| format!("http: {{ url: \"http://{{cell}}:{port}{path}\"{more} }}");
    cases.good(&url("/", ""));
    cases.good(&url(
        "/",
        ", expect: { body: \"to the shop\", headers: { Content-Type: text/plain } }",
    ));
    cases.bad(
        &url("/", ", expect: { body: bank }"),
        "the body does not contain \"bank\": welcome",
    );
    cases.bad(
        &url("/", ", expect: { headers: { content-type: json } }"),
        "header content-type is text/plain",
    );
    cases.bad(
        &url("/", ", expect: { headers: { etag: x } }"),
        "no header etag",
    );
    cases.bad(&url("/busy", ""), "status 503: busy");
    cases.good(&url("/busy", ", expect: { status: [200, \"500-503\"] }"));
    cases.good(&url(
        "/orders",
        ", method: POST, expect: { status: \"200-299\", headers: { x-shop: east } }",
    ));
    cases.bad(&url("/orders", ", method: DELETE"), "status 405");
    cases.hold().await;
}

#[tokio::test]
async fn json_paths_and_what_is_sent() {
    let mut cases = Cases::default();
    let port = shop();
    let orders = |checks: &str| {
        format!(
            "http: {{ url: \"http://{{cell}}:{port}/orders\", method: POST, expect: {{ status: 201, json: \
             [{checks}] }} }}"
        )
    };
    cases.good(&orders(
        "{ path: $.order.id, equals: o-1 }, { path: $.order.n, equals: 2 }",
    ));
    cases.good(&orders(
        "{ path: $.order.open, equals: true }, { path: $.error, exists: false }",
    ));
    cases.bad(
        &orders("{ path: $.order.n, equals: 3 }"),
        "$.order.n is 2, not 3",
    );
    cases.bad(
        &orders("{ path: $.order.total }"),
        "there is no $.order.total",
    );
    cases.bad(
        &orders("{ path: $.order.id, exists: false }"),
        "is there, and should not be",
    );

    let echo = "http: { url: \"http://{cell}:PORT/echo\", method: PUT, headers: { x-probe: \"p-{id}\", host: \
                shop.example }, body: \"of {cell.name}: {id}\", expect: { json: [{ path: $.probe, equals: \
                \"p-{id}\" }, { path: $.host, equals: shop.example }, { path: $.body, equals: \"of a: {id}\" \
                }] } }";
    cases.good(&echo.replace("PORT", &port.to_string()));
    cases.hold().await;
}

#[tokio::test]
async fn https_is_checked_for_authority_and_name() {
    let mut cases = Cases::default();
    let authority = Authority::new();
    let ca = authority.file();
    let port = serve(&authority.sign(&["shop.example"], 10));
    let https = |tls: &str, more: &str| {
        format!("http: {{ url: \"https://{{cell}}:{port}/\", tls: {{ {tls} }}{more} }}")
    };
    let ours = format!("ca: {}, name: shop.example", ca.display());
    cases.good(&https(
        &ours,
        &format!(", expect: {{ body: \"shop.example:{port}\" }}"),
    ));
    cases.bad(
        &https(&format!("ca: {}", ca.display()), ""),
        "certificate not valid for name",
    );
    cases.bad(&https("name: shop.example", ""), "UnknownIssuer");
    let plain = format!("http: {{ url: \"http://{{cell}}:{port}/\" }}");
    assert!(crate::ask(&crate::fleet_of(&plain)).await.bad > 0);
    cases.hold().await;
}

#[tokio::test]
async fn users_of_an_entrypoint_check_the_name_that_they_called() {
    let authority = Authority::new();
    let shop = serve(&authority.sign(&["shop.example"], 10));
    let bank = serve(&authority.sign(&["bank.example"], 10));
    for (port, words) in [(shop, None), (bank, Some("certificate not valid for name"))] {
        let (resolver, _) = fleet::serve_dns(|_| Some(vec!["127.0.0.1".parse().unwrap()]));
        let mut region = fleet::fleet();
        fleet::add_cell(&mut region, "a", "127.0.0.1");
        let mut entrypoint = fleet::entrypoint(resolver, port, &["a"]);
        entrypoint.http.url = format!("https://{{address}}:{port}/");
        entrypoint.http.trust.ca = Some(authority.file());
        (entrypoint.slo, entrypoint.rate) = (None, 5.0);
        region.entrypoints.insert("shop".to_owned(), entrypoint);
        let (seen, _) = fleet::probe(&region, 2).await;
        let (valid, bad) = (
            seen.sum("shop@a", |block| block.valid),
            seen.sum("shop@a", |block| block.bad),
        );
        let samples = seen
            .samples
            .iter()
            .filter(|sample| sample.stream == "shop@a");
        let told: Vec<&str> = samples.map(|sample| sample.what.as_str()).collect();
        assert!(valid > 0, "nothing was asked");
        match words {
            None => assert_eq!(bad, 0, "{told:?}"),
            Some(words) => {
                assert_eq!(bad, valid);
                assert!(told.iter().all(|what| what.contains(words)), "{told:?}");
            }
        }
    }
}
