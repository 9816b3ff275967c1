//! The three questions to a real API server with a real etcd: healthy, stopped, killed, and back.

mod cluster;
mod fleet;
mod seen;

use std::time::Duration;

use cluster::Cluster;
use scenarios::fleet::{Ask, Fleet, KubernetesQuestion};
use seen::{QUESTIONS, Seen, fleet_of};

/// The fleet with other questions, by the names of their probes.
fn asking(cluster: &Cluster, context: &str, asked: &[(&str, KubernetesQuestion)]) -> Fleet {
    let mut fleet = fleet_of(cluster, context, 10.0, &[0]);
    let probe = fleet.probes.remove("api-list").unwrap();
    for (name, question) in asked {
        let mut probe = probe.clone();
        // Judged for what was answered, not for how busy this machine is; but a timeout is one only
        // beyond what the prober itself may have lost.
        probe.slo = Some(Duration::from_secs(2));
        probe.timeout = Duration::from_secs(5);
        probe.ask = Ask::Kubernetes(question.clone());
        fleet.probes.insert((*name).to_owned(), probe);
    }
    fleet
}

/// How many of a probe's questions in the last second were bad, of how many.
fn bad(seen: &Seen, probe: &str) -> (u32, u32) {
    let block = &seen.last[&format!("a/{probe}")];
    (block.bad, block.valid)
}

async fn all_good(seen: &mut Seen, probe: &str) {
    seen.second().await;
    let (bad, valid) = bad(seen, probe);
    assert!(valid > 0 && bad == 0, "{probe}: {:?}", seen.words(probe));
}

/// Goes on until a second is bad and told in these words.
async fn until_bad(seen: &mut Seen, probe: &str, words: &str) {
    let mut counted = Vec::new();
    for _ in 0..40 {
        seen.second().await;
        let (bad, valid) = bad(seen, probe);
        counted.push((bad, valid));
        let told = seen.words(probe);
        if valid > 0 && bad == valid && told.iter().all(|what| what.contains(words)) {
            println!("{probe}: {told:?}");
            return;
        }
    }
    let told = seen.words(probe);
    panic!("{probe}: not `{words}`: {told:?}, bad of valid: {counted:?}");
}

fn write(namespace: &str, config_map: &str) -> KubernetesQuestion {
    KubernetesQuestion::Write {
        namespace: namespace.to_owned(),
        config_map: config_map.to_owned(),
    }
}

/// What may be written, for one name alone.
const ROLE: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"w"},
  "rules":[{"apiGroups":[""],"resources":["configmaps"],"resourceNames":["probe"],"verbs":["create","patch"]}]}"#;
const BINDING: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"w"},
  "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"w"},
  "subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"writer"}]}"#;

#[test]
#[ignore = "needs root and the control-plane binary"]
fn a_dry_run_needs_one_right_stores_nothing_and_sees_a_stopped_etcd() {
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
        assert_eq!(cluster.ask("POST", &format!("{roles}/roles"), ROLE), "201");
        let bound = cluster.ask("POST", &format!("{roles}/rolebindings"), BINDING);
        assert_eq!(bound, "201");
        let asked = [
            ("mine", write("default", "probe")),
            ("other", write("default", "another")),
            ("nowhere", write("gone", "probe")),
        ];
        let mut seen = Seen::start(&asking(&cluster, "writer", &asked));
        all_good(&mut seen, "mine").await;
        until_bad(&mut seen, "other", "status 403").await;
        until_bad(&mut seen, "nowhere", "status 403").await;
        let stored = "/api/v1/namespaces/default/configmaps/probe";
        assert_eq!(cluster.ask("GET", stored, ""), "404", "nothing is stored");

        // It may also be there; then an apply changes nothing in it.
        let there = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"probe"}}"#;
        let all = "/api/v1/namespaces/default/configmaps";
        assert_eq!(cluster.ask("POST", all, there), "201");
        seen.second().await;
        all_good(&mut seen, "mine").await;

        cluster.stop_etcd();
        until_bad(&mut seen, "mine", "waiting for the response").await;
        cluster.continue_etcd();
        seen.prober.stop().await;
        let mut seen = Seen::start(&asking(&cluster, "here", &asked[2..]));
        until_bad(&mut seen, "nowhere", "status 404").await;
        seen.prober.stop().await;
    });
}

#[test]
#[ignore = "needs root and the control-plane binary"]
fn a_lease_is_bad_when_nobody_renews_it() {
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        let lease = |name: &str| KubernetesQuestion::Lease {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            within: Duration::from_secs(10),
        };
        let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
        let renewed = |name: &str, spec: &str| {
            format!(
                "{{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{{\"name\":\
                 \"{name}\"}},\"spec\":{{\"holderIdentity\":\"test\"{spec}}}}}"
            )
        };
        let now = || {
            let date = std::process::Command::new("date")
                .args(["-u", "+,\"renewTime\":\"%Y-%m-%dT%H:%M:%S.%6NZ\""])
                .output()
                .expect("date");
            String::from_utf8(date.stdout).unwrap().trim().to_owned()
        };
        let made = cluster.ask("POST", leases, &renewed("never", ""));
        assert_eq!(made, "201");
        let made = cluster.ask("POST", leases, &renewed("mine", &now()));
        assert_eq!(made, "201");
        let asked = [
            ("mine", lease("mine")),
            ("never", lease("never")),
            ("gone", lease("gone")),
        ];
        let mut seen = Seen::start(&asking(&cluster, "here", &asked));
        // As long as somebody renews it, longer than a renewal would last.
        for _ in 0..12 {
            let path = format!("{leases}/mine");
            assert_eq!(cluster.ask("PATCH", &path, &renewed("mine", &now())), "200");
            all_good(&mut seen, "mine").await;
        }
        until_bad(&mut seen, "never", "a Lease that was never renewed").await;
        until_bad(&mut seen, "gone", "status 404").await;
        until_bad(&mut seen, "mine", "s ago, which is more than 10 s").await;
        let path = format!("{leases}/mine");
        let ahead = ",\"renewTime\":\"2199-01-01T00:00:00.000000Z\"";
        assert_eq!(cluster.ask("PATCH", &path, &renewed("mine", ahead)), "200");
        until_bad(&mut seen, "mine", "ahead of the API server's time").await;
        seen.prober.stop().await;
    });
}

#[test]
#[ignore = "needs root and the control-plane binary"]
fn each_question_sees_what_happens_to_its_control_plane() {
    cluster::in_a_network_of_its_own(async {
        let mut cluster = Cluster::start().await;
        let mut seen = Seen::start(&fleet_of(&cluster, "here", 10.0, &[0, 1, 2]));
        let good = |bad: [f64; 3]| bad == [0.0; 3];
        seen.until("healthy", 5, good).await;
        for _ in 0..3 {
            seen.second().await;
            assert!(good(seen.bad()), "{:?} {:?}", seen.bad(), seen.samples);
        }

        // Cut off from etcd, the API server cannot say what is true now.
        cluster.stop_etcd();
        seen.until("etcd stopped", 8, |bad| bad == [1.0; 3]).await;
        for (probe, _) in QUESTIONS {
            println!("etcd stopped, {probe}: {:?}", seen.words(probe));
        }
        cluster.continue_etcd();
        seen.until("etcd goes on", 15, good).await;

        cluster.kill_apiserver();
        seen.until("apiserver killed", 5, |bad| bad == [1.0; 3])
            .await;
        assert!(
            seen.words("api-list")
                .iter()
                .any(|what| what.contains("refused")),
            "{:?}",
            seen.samples
        );
        cluster.start_apiserver();
        seen.until("apiserver back", 60, good).await;
        seen.prober.stop().await;
    });
}

#[test]
#[ignore = "needs root and the control-plane binary"]
fn a_wrong_token_and_a_foreign_certificate_are_told_in_words() {
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        for (context, words) in [
            ("wrong-token", "401"),
            ("wrong-ca", "certificate"),
            ("nobody", "403"),
        ] {
            let mut seen = Seen::start(&fleet_of(&cluster, context, 10.0, &[0, 1, 2]));
            seen.second().await;
            // Whoever it is, even nobody, may ask whether the API server is ready.
            let asked = if context == "nobody" {
                &[0, 2][..]
            } else {
                &[0, 1, 2]
            };
            for (index, (probe, _)) in QUESTIONS
                .iter()
                .enumerate()
                .filter(|(i, _)| asked.contains(i))
            {
                assert_eq!(seen.bad()[index], 1.0, "{context} {probe}");
                let told = seen.words(probe);
                assert!(
                    told.iter().all(|what| what.contains(words)),
                    "{context} {probe}: {told:?}"
                );
            }
            seen.prober.stop().await;
        }
    });
}
