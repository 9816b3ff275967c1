//! `cellwall plan --live` against a real API server: what it says of a cell's cluster before a drill.

#[path = "../../probes/tests/cluster/mod.rs"]
mod cluster;

use std::process::Command;

use cluster::Cluster;

/// What is printed for a fleet whose cell `a` has one node with an agent, at `node`.
fn planned(cluster: &Cluster, context: &str, node: &str) -> String {
    let file = cluster.kubeconfig().with_file_name("fleet.yaml");
    let text = format!(
        "apiVersion: cellwall.dev/v1
kind: Fleet
metadata: {{ name: t }}
spec:
  operator: {{ addresses: [203.0.113.10] }}
  tls: {{ ca: ca.pem, certificate: c.pem, key: c.key }}
  clouds: {{ aliyun: {{ prefixes: [198.51.100.0/26] }}, b: {{ prefixes: [198.51.100.64/26] }} }}
  cells:
    a:
      cloud: aliyun
      region: x
      addresses: [198.51.100.2]
      prefixes: [10.1.0.0/16]
      nodes: [{{ name: n1, address: {node} }}]
      kubernetes: {{ kubeconfig: kubeconfig, context: {context} }}
    b:
      cloud: b
      region: x
      addresses: [198.51.100.66]
      prefixes: [10.2.0.0/16]
      nodes: [{{ name: n1, address: 10.2.0.5 }}]
  probes:
    checkout: {{ plane: data, http: {{ url: \"http://{{cell}}/\" }}, slo: 500ms }}
"
    );
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cellwall"))
        .args(["plan", "black-hole-cloud", "--live", "--fleet"])
        .arg(&file)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs root and the control-plane binary"]
fn a_cluster_is_asked_before_anything_is_touched() {
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        cluster.add_node("n1", "10.1.0.5");
        cluster.add_node("gpu-1", "10.1.0.9");
        let expect = |context: &str, node: &str, words: &[&str]| {
            let said = planned(&cluster, context, node);
            for words in words {
                assert!(
                    said.contains(words),
                    "{context} {node}: {words} not in\n{said}"
                );
            }
            said
        };
        let one_bare = [
            "2 nodes, 1 with an agent",
            "a (target): not cut: node gpu-1 has no agent",
        ];
        let said = expect("here", "10.1.0.5", &one_bare);
        assert!(!said.contains("would be refused: a:"), "{said}");
        let foreign = [
            "0 with an agent",
            "would be refused: a: no node of its cluster",
        ];
        expect("here", "10.1.0.6", &foreign);
        let refused = "would be refused: a:";
        expect(
            "wrong-token",
            "10.1.0.5",
            &[refused, "Unauthorized", "token"],
        );
        expect(
            "nobody",
            "10.1.0.5",
            &[refused, "forbidden: list services in namespace default"],
        );
        expect("gone", "10.1.0.5", &[refused, "did not tell its version"]);
        expect(
            "nowhere",
            "10.1.0.5",
            &[refused, "no context nowhere (it has: here,"],
        );
    });
}
