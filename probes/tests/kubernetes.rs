//! The three questions to a real API server with a real etcd: healthy, stopped, killed, and back.

mod cluster;
mod fleet;
mod seen;

use cluster::Cluster;
use seen::{QUESTIONS, Seen, fleet_of};

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
