//! The whole line on real clusters: one lab for the drill that passes, one for each flaw.

mod beside;
mod flaws;
mod line;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [(&str, fn()); 6] = [
        ("one_cloud_goes_dark_on_both_planes", line::both_planes),
        ("pods_and_hosts_are_cut_in_both_families", line::cut_paths),
        ("kube_proxys_tables_are_not_touched", beside::kube_proxy),
        (
            "a_shared_config_fails_both_other_cells",
            flaws::shared_config,
        ),
        (
            "a_shared_resolver_fails_both_other_cells",
            flaws::shared_resolver,
        ),
        (
            "a_database_in_the_lost_cloud_fails_its_user",
            flaws::managed_database,
        ),
    ];
    let trials = tests.map(|(name, test)| {
        let passes = move || {
            test();
            Ok(())
        };
        Trial::test(name, passes)
            .with_kind("needs root and the programs of a cluster")
            .with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    line::end();
    conclusion.exit_code()
}
