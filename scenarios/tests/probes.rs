//! Probes of every kind: what docs/probes.md shows is read, and what is wrong is refused at its place.

use proptest::prelude::*;
use scenarios::asks::{
    Ask, Capture, DnsAnswer, JsonWanted, KubernetesQuestion, Operator, Place, Within,
};
use scenarios::fleet::{Fleet, Plane, Probe};
use scenarios::{InputError, read_fleet};

const FLEET: &str = r#"apiVersion: cellwall.dev/v1
kind: Fleet
metadata: { name: small }
spec:
  operator: { addresses: [203.0.113.10] }
  clouds: { cloud: { prefixes: [198.51.100.0/24] } }
  cells:
    a:
      cloud: cloud
      region: south
      addresses: [198.51.100.2]
      prefixes: [10.1.0.0/16]
      nodes: [{ name: n1, address: 198.51.100.5 }]
      uses: { db: { address: 198.51.100.9, port: 5432 } }
      kubernetes: { kubeconfig: k.conf, context: a }
    b:
      cloud: cloud
      region: south
      addresses: ["2001:db8::2"]
      prefixes: [10.2.0.0/16, "2001:db8::/64"]
      nodes: [{ name: n1, address: 198.51.100.6 }]
      uses: { db: { address: "2001:db8::9", port: 5433 }, cache: { address: 198.51.100.8, port: 6379 } }
      kubernetes: { kubeconfig: k.conf, context: b }
"#;

fn read(probe: &str) -> Result<Probe, InputError> {
    let text = format!("{FLEET}  probes:\n    p: {{ {probe} }}\n");
    read_fleet(&text, "f.yaml").map(|mut fleet| fleet.probes.remove("p").expect("p"))
}

/// Every example of the page but the Role, each as a fleet file.
fn examples() -> Vec<String> {
    let page = include_str!("../../docs/probes.md");
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let examples = blocks.filter(|block| block.starts_with("probes:"));
    let indented = |block: &str| -> String {
        let lines = block.lines().map(|line| format!("  {line}\n"));
        lines.collect()
    };
    examples
        .map(|block| format!("{FLEET}{}", indented(block)))
        .collect()
}

fn documented() -> Vec<Fleet> {
    let read =
        |text: &String| read_fleet(text, "probes.md").unwrap_or_else(|error| panic!("{error}"));
    examples().iter().map(read).collect()
}

#[test]
fn the_page_shows_every_kind_and_all_of_it_is_read() {
    let fleets = documented();
    let asks: Vec<&Ask> = fleets
        .iter()
        .flat_map(|fleet| fleet.probes.values())
        .map(|probe| &probe.ask)
        .collect();
    for kind in Ask::KINDS {
        let word = format!("{:?}", asks).to_lowercase();
        assert!(
            word.contains(&format!("{kind}(")),
            "docs/probes.md shows no {kind}"
        );
    }
    assert!(asks.len() >= 18, "{}", asks.len());
}

#[test]
fn kinds_become_what_they_say() {
    let Ask::Tcp(tcp) = read("plane: dependency, tcp: { address: \"{uses.db}\" }")
        .unwrap()
        .ask
    else {
        panic!()
    };
    assert_eq!(tcp.place, Place::Uses("db".to_owned()));
    let Ask::Tls(tls) = read("plane: data, tls: { address: \"{cell}\", validFor: 14d }")
        .unwrap()
        .ask
    else {
        panic!()
    };
    assert_eq!(
        (tls.place, tls.valid_for.as_secs()),
        (Place::Cell(443), 14 * 24 * 3600)
    );
    let dns = read(
        "plane: entrypoint, dns: { resolver: 203.0.113.53, name: a.b, expect: { within: [\"{cell}\", 10.0.0.1] } }",
    );
    let dns = dns.unwrap();
    assert_eq!(dns.plane, Plane::Entrypoint);
    let Ask::Dns(dns) = dns.ask else { panic!() };
    assert_eq!(
        dns.resolver,
        Place::Fixed("203.0.113.53:53".parse().unwrap())
    );
    let prefix = Within::Prefix("10.0.0.1/32".parse().unwrap());
    assert_eq!(dns.expect, DnsAnswer::Within(vec![Within::Cell, prefix]));
    let Ask::Grpc(grpc) = read("plane: data, grpc: { address: \"{cell}:1\", tls: {} }")
        .unwrap()
        .ask
    else {
        panic!()
    };
    assert!(grpc.trust.is_some() && grpc.service.is_empty());
    let write =
        read("plane: control, kubernetes: { write: { namespace: n, configMap: c } }").unwrap();
    assert_eq!(write.rate, 16.0);
    let Ask::Kubernetes(KubernetesQuestion::Write { config_map, .. }) = write.ask else {
        panic!()
    };
    assert_eq!(config_map, "c");
    let query =
        "plane: data, prometheus: { url: \"http://{cell}:9090\", query: up, expect: \">= 1\" }";
    let Ask::Prometheus(query) = read(query).unwrap().ask else {
        panic!()
    };
    assert_eq!(
        (query.expect.operator, query.expect.number),
        (Operator::AtLeast, 1.0)
    );
}

#[test]
fn requests_become_what_they_say() {
    let http = "plane: data, http: { url: \"https://{cell}/\", expect: { status: [200, \"300-399\"], json: \
                [{ path: \"$.a\", equals: 1.5 }, { path: \"$.b\" }, { path: \"$.c\", equals: yes }] } }";
    let Ask::Http(http) = read(http).unwrap().ask else {
        panic!()
    };
    assert_eq!(http.expect.statuses.to_string(), "200, 300-399");
    let wanted: Vec<&JsonWanted> = http.expect.json.iter().map(|check| &check.wanted).collect();
    assert_eq!(wanted[0], &JsonWanted::Equals(1.5.into()));
    assert_eq!(wanted[1], &JsonWanted::Exists(true));
    assert_eq!(
        wanted[2],
        &JsonWanted::Equals("yes".into()),
        "YAML 1.2 has no other word for true"
    );
    let fleets = documented();
    let buy = fleets
        .iter()
        .find_map(|fleet| fleet.probes.get("buy"))
        .unwrap();
    let Ask::Journey(journey) = &buy.ask else {
        panic!()
    };
    assert_eq!(journey.steps.len(), 3);
    assert_eq!(
        journey.steps[0].captures["session"],
        Capture::Cookie("sid".to_owned())
    );
}

#[test]
fn authorities_stand_beside_the_fleet_file() {
    let text = format!(
        "{FLEET}  probes:\n    p: {{ plane: data, tls: {{ address: \"{{cell}}\", ca: tls/ca.pem }} }}\n"
    );
    let fleet = read_fleet(&text, "f")
        .unwrap()
        .with_files_from("/etc/fleet".as_ref());
    let Ask::Tls(tls) = &fleet.probes["p"].ask else {
        panic!()
    };
    assert_eq!(
        tls.trust.ca.as_deref(),
        Some("/etc/fleet/tls/ca.pem".as_ref())
    );
    let kubeconfig = fleet.cells["a"].kubernetes.as_ref().unwrap();
    assert_eq!(
        kubeconfig.kubeconfig,
        std::path::Path::new("/etc/fleet/k.conf")
    );
}

#[test]
fn authorities_of_what_is_done_to_writes_stand_there_too() {
    let url = "\"https://{cell}/{id}\"";
    let text = format!(
        "{FLEET}  probes:\n    p: {{ plane: data, http: {{ method: PUT, url: {url} }}, readBack: {url}, \
         delete: {{ url: {url}, tls: {{ ca: tls/ca.pem }} }} }}\n"
    );
    let fleet = read_fleet(&text, "f")
        .unwrap()
        .with_files_from("/etc/fleet".as_ref());
    let delete = fleet.probes["p"].rewrites.delete.as_ref().unwrap();
    assert_eq!(
        delete.trust.ca.as_deref(),
        Some("/etc/fleet/tls/ca.pem".as_ref())
    );
}

/// Each line: what is written, the text at which the error points, and words of the error.
#[test]
#[allow(clippy::too_many_lines)] // a table
fn what_is_wrong_is_refused_at_its_place() {
    let url = "url: \"http://{cell}/\"";
    let mut wrong = Vec::new();
    let prometheus = "prometheus: { url: \"http://{cell}:9090\"";
    for (probe, at, words) in [
        // http
        ("http: { url: \"ftp://{cell}/\" }".to_owned(), "\"ftp://{cell}/\"", "neither with http://"),
        ("http: { url: \"http://{uses.cache}/\" }".to_owned(), "\"http://{uses.cache}/\"", "cell a declares no use `cache`"),
        ("http: { url: \"http://{cell}:0/\" }".to_owned(), "\"http://{cell}:0/\"", "`:0` behind {cell}"),
        ("http: { url: \"http://{cell}/{token}\" }".to_owned(), "\"http://{cell}/{token}\"", "unknown placeholder {token}"),
        (format!("http: {{ {url}, method: FETCH }}"), "FETCH", "unknown word `FETCH`"),
        (format!("http: {{ {url}, body: x }}"), "body", "a GET has no body"),
        (format!("http: {{ {url}, headers: {{ \"a b\": x }} }}"), "\"a b\"", "not the name of a header"),
        (format!("http: {{ {url}, headers: {{ a: \"x\\ny\" }} }}"), "\"x\\ny\"", "one line of visible"),
        (format!("http: {{ {url}, headers: {{ a: \"{{b}}\" }} }}"), "\"{b}\"", "unknown placeholder {b}"),
        (format!("http: {{ {url}, headers: {{ A: x, a: y }} }}"), "a", "written twice"),
        (format!("http: {{ {url}, tls: {{ name: x }} }}"), "tls", "an http:// URL has none"),
        ("http: { url: \"https://{cell}/\", tls: { name: \"a b\" } }".to_owned(), "\"a b\"", "neither a DNS name"),
        ("http: { url: \"https://{cell}/\", tls: { ca: \"\" } }".to_owned(), "\"\"", "it is empty"),
        ("http: { url: \"https://{cell}/\", tls: { file: x } }".to_owned(), "file", "unknown field `file`"),
        (format!("http: {{ {url}, expect: {{ status: 99 }} }}"), "99", "99 is not an HTTP status"),
        (format!("http: {{ {url}, expect: {{ status: 2xx }} }}"), "2xx", "`2xx` is not a status"),
        (format!("http: {{ {url}, expect: {{ status: \"300-200\" }} }}"), "\"300-200\"", "300-200 is empty"),
        (format!("http: {{ {url}, expect: {{ status: [] }} }}"), "[", "no status would ever be right"),
        (format!("http: {{ {url}, expect: {{ status: [200, -1] }} }}"), "[", "0 is not an HTTP status"),
        (format!("http: {{ {url}, expect: {{ body: \"\" }} }}"), "\"\"", "every body contains"),
        (format!("http: {{ {url}, expect: {{ headers: {{ \"\": x }} }} }}"), "\"\"", "not the name of a header"),
        (format!("http: {{ {url}, expect: {{ json: [{{ path: items }}] }} }}"), "items", "not a JSONPath"),
        (format!("http: {{ {url}, expect: {{ json: [{{ path: $.a, equals: [1] }}] }} }}"), "equals", "a text, a number, true or false is wanted"),
        (format!("http: {{ {url}, expect: {{ json: [{{ path: $.a, equals: 1, exists: true }}] }} }}"), "exists", "not both"),
        (format!("http: {{ {url}, expect: {{ json: [{{ path: $.a, equals: \"{{b}}\" }}] }} }}"), "\"{b}\"", "unknown placeholder"),
        (format!("http: {{ {url} }}, tcp: {{ address: \"{{cell}}:1\" }}"), "tcp", "http or tcp, not both"),
        // tcp
        ("tcp: { address: \"{cell}\" }".to_owned(), "\"{cell}\"", "the port is missing"),
        ("tcp: { address: \"shop.example:80\" }".to_owned(), "\"shop.example:80\"", "is not a place"),
        ("tcp: { address: 198.51.100.2:80 }".to_owned(), "198.51.100.2:80", "the same for every cell"),
        ("tcp: { address: \"{uses.cache}\" }".to_owned(), "\"{uses.cache}\"", "cell a declares no use"),
        ("tcp: { address: \"{cell}:1\" }, readBack: \"http://{cell}/{id}\"".to_owned(), "readBack", "for http probes"),
        // tls
        ("tls: { address: \"{cell}\", validFor: 14 }".to_owned(), "14", "has no unit"),
        ("tls: { address: 198.51.100.2 }".to_owned(), "198.51.100.2", "the same for every cell"),
        ("tls: { address: \"{cell}\", name: \"-\" }".to_owned(), "\"-\"", "neither a DNS name"),
        ("tls: { address: \"{cell}\", ca: \"\" }".to_owned(), "\"\"", "it is empty"),
        // dns
        ("dns: { resolver: \"{cell}\", name: \"a b\" }".to_owned(), "\"a b\"", "not a DNS name"),
        ("dns: { resolver: dns.example, name: a }".to_owned(), "dns.example", "is not a place"),
        ("dns: { resolver: \"{cell}\", name: a, type: MX }".to_owned(), "MX", "unknown word `MX`"),
        ("dns: { resolver: \"{cell}\", name: a, expect: some }".to_owned(), "some", "unknown word `some`"),
        ("dns: { resolver: \"{cell}\", name: a, expect: { within: [] } }".to_owned(), "[", "no address would ever"),
        ("dns: { resolver: \"{cell}\", name: a, expect: { within: [x] } }".to_owned(), "x", "is not a prefix"),
        // grpc
        ("grpc: { address: \"{cell}\" }".to_owned(), "\"{cell}\"", "the port is missing"),
        ("grpc: { address: \"{cell}:1\", service: [x] }".to_owned(), "[", "a text is wanted here"),
        ("grpc: { address: \"{cell}:1\", tls: { name: \"\" } }".to_owned(), "\"\"", "neither a DNS name"),
        // prometheus
        (format!("{prometheus}, query: up, expect: \"!= 1\" }}"), "\"!= 1\"", "is not a comparison"),
        (format!("{prometheus}, query: \" \", expect: \"> 1\" }}"), "\" \"", "the query is empty"),
        (format!("{prometheus}, query: up, expect: \"> 1\", tls: {{ name: x }} }}"), "tls", "an http:// URL has none"),
        (format!("{prometheus}, query: up, expect: \"> 1\", headers: {{ \"\": x }} }}"), "\"\"", "name of a header"),
        ("prometheus: { url: \"http://203.0.113.9:9090\", query: up, expect: \"> 0\" }".to_owned(), "\"http://203.0.113.9:9090\"", "one server for all cells"),
        ("prometheus: { url: \"http://prometheus:9090\", query: up, expect: \"> 0\" }".to_owned(), "\"http://prometheus:9090\"", "resolve no names"),
        ("prometheus: { url: \"prometheus\", query: up, expect: \"> 0\" }".to_owned(), "\"prometheus\"", "neither with http://"),
        // journey
        ("journey: { steps: [] }".to_owned(), "steps", "1 to 20 steps"),
        (format!("journey: {{ steps: [{{ name: A, http: {{ {url} }} }}] }}"), "A", "is not a name"),
        (format!("journey: {{ steps: [{{ name: a, http: {{ {url} }} }}, {{ name: a, http: {{ {url} }} }}] }}"), "a", "two steps are called `a`"),
        (format!("journey: {{ steps: [{{ name: a, http: {{ {url} }}, capture: {{ id: {{ json: $.a }} }} }}] }}"), "id", "already stands"),
        (format!("journey: {{ steps: [{{ name: a, http: {{ {url} }}, capture: {{ t: {{ json: a }} }} }}] }}"), "a", "not a JSONPath"),
        (format!("journey: {{ steps: [{{ name: a, http: {{ {url} }}, capture: {{ t: {{ header: \"\" }} }} }}] }}"), "{", "it is empty"),
        (format!("journey: {{ steps: [{{ name: a, http: {{ {url} }}, capture: {{ t: {{ body: x }} }} }}] }}"), "body", "unknown word `body`"),
        ("journey: { steps: [{ name: a, http: { url: \"http://{cell}/{t}\" }, capture: { t: { cookie: c } } }] }".to_owned(), "\"http://{cell}/{t}\"", "unknown placeholder {t}"),
    ] {
        wrong.extend(refusal(&format!("plane: data, {probe}"), at, words));
    }
    for (probe, at, words) in [
        (
            "kubernetes: { write: { namespace: A, configMap: c } }",
            "A",
            "is not a name",
        ),
        (
            "kubernetes: { write: { namespace: a, configMap: c.d } }",
            "c.d",
            "is not a name",
        ),
        (
            "kubernetes: { write: { namespace: a } }",
            "write",
            "has no `configMap`",
        ),
        (
            "kubernetes: { lease: { namespace: a, name: b, within: 10 } }",
            "10",
            "has no unit",
        ),
        (
            "kubernetes: { lease: { namespace: a, name: b, within: 10ms } }",
            "10ms",
            "less than 1s",
        ),
        (
            "kubernetes: { lease: { namespace: a, name: \"\", within: 10s } }",
            "\"\"",
            "is not a name",
        ),
        ("kubernetes: { scale: {} }", "scale", "unknown word `scale`"),
    ] {
        wrong.extend(refusal(&format!("plane: control, {probe}"), at, words));
    }
    wrong.extend(refusal(
        "plane: data, kubernetes: { write: { namespace: a, configMap: c } }",
        "data",
        "control plane of a cell",
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is not as it should be about an error, if anything is.
fn refusal(probe: &str, at: &str, words: &str) -> Option<String> {
    let Err(error) = read(probe) else {
        return Some(format!("accepted: {probe}"));
    };
    if !error.to_string().contains(words) {
        return Some(format!("not `{words}`: {error}"));
    }
    let Some(position) = error.position else {
        return Some(format!("no position: {error}"));
    };
    let found: String = error
        .source_line
        .chars()
        .skip(position.column - 1)
        .collect();
    (!found.starts_with(at)).then(|| format!("points not at `{at}`: {error}"))
}

const WORDS: [&str; 12] = [
    "", "{", "}", "[", "]", "\"", "$", "{id}", "{uses.", "-1", "\u{e9}", ": ",
];

proptest! {
    #[test]
    fn a_mutated_fleet_of_every_kind_is_read_or_refused(
        block in any::<usize>(),
        edits in prop::collection::vec((any::<usize>(), 0usize..8, 0..WORDS.len()), 1..4),
    ) {
        let examples = examples();
        let mut text = examples[block % examples.len()].clone();
        for (at, length, word) in edits {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            let from = places[at % places.len()];
            let to = places.get(at % places.len() + length).copied().unwrap_or(text.len());
            text.replace_range(from..to, WORDS[word]);
        }
        if let Err(error) = read_fleet(&text, "f") {
            prop_assert!(error.to_string().ends_with("nothing was altered"));
        }
    }
}
