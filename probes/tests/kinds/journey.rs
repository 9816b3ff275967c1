//! A journey through a real shop: log in, order, read back; each step that can fail names itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::{Cases, fleet_of, listener, on_a_thread};

/// What is wrong with the shop.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    NoToken,
    Forgets,
    SlowOrders,
}

#[derive(Clone)]
struct Shop {
    flaw: Flaw,
    /// By number: what was ordered.
    orders: Arc<Mutex<HashMap<usize, String>>>,
    logins: Arc<Mutex<usize>>,
}

async fn login(State(shop): State<Shop>) -> Response {
    let mut logins = shop.logins.lock().unwrap();
    *logins += 1;
    let token = format!("t/{logins} +");
    let body = if shop.flaw == Flaw::NoToken {
        json!({})
    } else {
        json!({ "token": token })
    };
    let cookie = format!("sid={}; HttpOnly; Path=/", *logins);
    ([("set-cookie", cookie)], Json(body)).into_response()
}

/// Header and cookie must be of the same login.
fn known(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let token = text("authorization")
        .strip_prefix("Bearer t/")
        .and_then(|rest| rest.strip_suffix(" +"));
    token.is_some() && token == text("cookie").strip_prefix("sid=")
}

async fn order(State(shop): State<Shop>, headers: HeaderMap, Json(order): Json<Value>) -> Response {
    if !known(&headers) {
        return (StatusCode::UNAUTHORIZED, "who are you?").into_response();
    }
    if shop.flaw == Flaw::SlowOrders {
        tokio::time::sleep(Duration::from_secs(9)).await;
    }
    let mut orders = shop.orders.lock().unwrap();
    let number = orders.len();
    orders.insert(number, order["id"].as_str().unwrap().to_owned());
    let there = format!("{number}");
    (StatusCode::CREATED, [("x-order", there)], "").into_response()
}

async fn read(State(shop): State<Shop>, headers: HeaderMap, Path(number): Path<usize>) -> Response {
    if !known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let orders = shop.orders.lock().unwrap();
    match orders.get(&number) {
        Some(id) if shop.flaw != Flaw::Forgets => Json(json!({ "id": id })).into_response(),
        _ => Json(json!({ "id": "another" })).into_response(),
    }
}

fn shop(flaw: Flaw) -> u16 {
    let shop = Shop {
        flaw,
        orders: Arc::default(),
        logins: Arc::default(),
    };
    let router = Router::new()
        .route("/login", post(login))
        .route("/orders", post(order))
        .route("/orders/{number}", get(read))
        .with_state(shop);
    let (listener, port) = listener();
    on_a_thread(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    port
}

const BUY: &str = r#"journey: { steps: [
  { name: log-in, http: { method: POST, url: "http://{cell}:PORT/login" },
    capture: { token: { json: $.token }, session: { cookie: sid } } },
  { name: order,
    http: { method: POST, url: "http://{cell}:PORT/orders", body: '{"id":"{id}"}', expect: { status: 201 },
      headers: { authorization: "Bearer {token}", cookie: "sid={session}" } },
    capture: { number: { header: X-Order } } },
  { name: read-back,
    http: { url: "http://{cell}:PORT/orders/{number}", expect: { json: [{ path: $.id, equals: "{id}" }] },
      headers: { authorization: "Bearer {token}", cookie: "sid={session}" } } } ] }"#;

fn buy(flaw: Flaw) -> String {
    BUY.replace("PORT", &shop(flaw).to_string())
}

#[tokio::test]
async fn a_sound_shop_serves_newcomers_and_those_who_stay() {
    let mut cases = Cases::default();
    cases.good(&buy(Flaw::None));
    cases.hold().await;
}

#[tokio::test]
async fn the_first_step_that_fails_names_itself() {
    let mut cases = Cases::default();
    cases.bad(
        &buy(Flaw::NoToken),
        "step log-in: status 200, no {token}: there is no $.token: {}",
    );
    cases.bad(
        &buy(Flaw::Forgets),
        "step read-back: status 200, $.id is \"another\", not \"test-run-",
    );
    let without = buy(Flaw::None).replacen("Bearer {token}", "Bearer guessed", 1);
    cases.bad(&without, "step order: status 401: who are you?");
    let gone = BUY.replacen("PORT", &crate::dead_port().to_string(), 1);
    cases.bad(
        &gone.replace("PORT", &shop(Flaw::None).to_string()),
        "step log-in: connect",
    );
    cases.hold().await;
}

#[tokio::test]
async fn one_timeout_is_for_the_whole_and_tells_the_step() {
    let mut fleet = fleet_of(&buy(Flaw::SlowOrders));
    // Given up before its second closes, and still under way then.
    for timeout in [900, 3000] {
        crate::give_up_after(&mut fleet, 300, timeout);
        let told = crate::ask(&fleet).await;
        assert_eq!(told.bad, told.valid);
        let words = told.words.join("; ");
        assert!(words.contains("step order: 127.0.0.1:"), "{words}");
    }
}
