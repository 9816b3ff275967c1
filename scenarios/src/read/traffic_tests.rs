//! Real traffic and gauges, as they are written and as they are read.

use std::time::Duration;

use crate::fleet::Fleet;
use crate::read::read_fleet;
use crate::traffic::Source;

fn fleet(lines: &str) -> Fleet {
    let text = include_str!("../../tests/fleet.yaml")
        .replace("  references:", &format!("{lines}  references:"));
    read_fleet(&text, "fleet.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn traffic_reads_with_its_strata_and_defaults() {
    let fleet = fleet(
        r#"  traffic:
    requests:
      plane: data
      metrics: "http://{cell}:8080/metrics"
      total: requests_total
      bad: 'requests_total{code=~"5.."}'
      volume: 'lb_requests_total'
      strata: { label: route, judged: { order: /orders, cart: "/cart" }, probed: { checkout: /checkout } }
      every: 5s
      rate: 20/s
      coverage: 90%
    far: { plane: data, prometheus: { url: "http://[2001:db8:9::1]:9090/", cellLabel: cell }, total: r, bad: b, every: 60s, rate: 1/s, within: 5% }
"#,
    );
    let requests = &fleet.traffic["requests"];
    let streams = requests.streams("requests");
    let streams: Vec<(&str, Option<&str>)> = streams
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    assert_eq!(
        streams,
        [
            ("requests.cart", Some("/cart")),
            ("requests.order", Some("/orders"))
        ]
    );
    assert_eq!(requests.timeout, Duration::from_secs(1));
    assert_eq!((requests.coverage, requests.within), (Some(0.9), None));
    let far = &fleet.traffic["far"];
    assert_eq!(far.streams("far"), [("far".to_owned(), None)]);
    let Source::Prometheus { url, .. } = &far.source else {
        panic!("{far:?}");
    };
    assert_eq!(url, "http://[2001:db8:9::1]:9090");
}

#[test]
fn gauges_read_and_a_probe_may_ask_for_more_than_its_slo() {
    let read = fleet(
        "  gauges:\n    queue: { plane: data, metrics: \"http://{cell}/m\", gauge: depth, every: 500ms }\n",
    );
    let queue = &read.gauges["queue"];
    assert_eq!(queue.block(), Duration::from_secs(5));
    assert_eq!((queue.limit, queue.within), (None, 0.2));
    assert_eq!(
        read.probes["checkout"].slower_within, None,
        "off unless asked for"
    );
}
