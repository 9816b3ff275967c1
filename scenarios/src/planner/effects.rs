//! What a drill is held to beside isolation: a scenario's wishes, made definite by its fleet.

use super::PlanError;
use crate::effects::{Durability, Effects, LoadClaim, LoadSource, Symptom, SymptomClaim};
use crate::fleet::{Ask, Fleet, HttpMethod};
use crate::input::InputError;
use crate::plan::Plan;
use crate::read::SYMPTOM_AT_LEAST;
use crate::scenario::{LoadWish, Scenario, Side};
use crate::values::MAX_RATE;

/// Data, symptom, load and harm of a drill; `plan` is the scenario's own plan of this fleet.
///
/// # Errors
/// If the load's probe is unknown or writes, or nobody takes over.
pub fn effects(fleet: &Fleet, scenario: &Scenario, plan: &Plan) -> Result<Effects, PlanError> {
    let writes = fleet.probes.values().any(|probe| probe.read_back.is_some());
    let target = scenario.hypothesis.data;
    let load = scenario.load.as_ref();
    Ok(Effects {
        durability: writes.then_some(Durability { target }),
        symptom: symptom(scenario),
        load: load
            .map(|wish| self::load(fleet, scenario, plan, wish))
            .transpose()?,
        harm: scenario.harm,
    })
}

/// What the scenario says; else what the steps on the target do, if that is known of all of them.
fn symptom(scenario: &Scenario) -> Option<SymptomClaim> {
    if let Some(claim) = &scenario.hypothesis.symptom {
        return Some(claim.clone());
    }
    let steps = scenario
        .method
        .iter()
        .filter(|step| step.side == Side::Target);
    let mut only: Vec<Symptom> = steps
        .map(|step| step.fault.symptom())
        .collect::<Option<_>>()?;
    only.sort();
    only.dedup();
    (!only.is_empty()).then_some(SymptomClaim {
        only,
        at_least: SYMPTOM_AT_LEAST,
    })
}

fn load(
    fleet: &Fleet,
    scenario: &Scenario,
    plan: &Plan,
    wish: &LoadWish,
) -> Result<LoadClaim, PlanError> {
    let wrong = |field: &str, message: String| wrong(scenario, field, message);
    match &wish.by {
        LoadSource::Probe(probe) => reads(fleet, scenario, probe)?,
        LoadSource::Traffic(traffic) => is_counted(fleet, scenario, traffic)?,
    }
    let targets = &plan.target.cells;
    let region = |cell: &String| fleet.cells.get(cell).map(|cell| &cell.region);
    let regions: Vec<_> = targets.iter().filter_map(region).collect();
    let here = |cell: &&String| region(cell).is_some_and(|region| regions.contains(&region));
    let all: Vec<&String> = fleet.cells.keys().filter(here).collect();
    let cells: Vec<String> = all
        .iter()
        .filter(|cell| !targets.contains(cell))
        .map(|cell| (*cell).clone())
        .collect();
    if cells.is_empty() {
        let message = "no other cell is in the target's region, so nobody takes over";
        let error = InputError::at_key(&scenario.places, "spec.load", message);
        return Err(PlanError::Input(error.with_hint("leave `load` out")));
    }
    let share = wish
        .share
        .unwrap_or_else(|| share_of(fleet, targets, all.len()));
    let needed = wish.peak / (1.0 - share);
    if needed > MAX_RATE {
        let message = format!("{needed:.0}/s is needed of each cell, and {MAX_RATE}/s is the most");
        return Err(PlanError::Input(wrong("peak", message)));
    }
    Ok(LoadClaim {
        by: wish.by.clone(),
        cells,
        peak: wish.peak,
        share,
        needed,
    })
}

fn wrong(scenario: &Scenario, field: &str, message: String) -> InputError {
    let path = format!("spec.load.{field}");
    InputError::at_value(&scenario.places, &path, message)
}

/// What a generator sends again and again must change nothing.
fn reads(fleet: &Fleet, scenario: &Scenario, probe: &String) -> Result<(), PlanError> {
    let reads = |probe: &&String| {
        fleet.probes.get(*probe).is_some_and(
            |probe| matches!(&probe.ask, Ask::Http(http) if http.method == HttpMethod::Get),
        )
    };
    if reads(&probe) {
        return Ok(());
    }
    let message = match fleet.probes.contains_key(probe) {
        true => format!("probe {probe} does more than read, and load only reads"),
        false => format!("unknown probe `{probe}` in fleet {}", fleet.name),
    };
    let error = wrong(scenario, "probe", message);
    let readers = fleet.probes.keys().filter(reads);
    Err(PlanError::Input(error.with_valid(readers)))
}

fn is_counted(fleet: &Fleet, scenario: &Scenario, traffic: &String) -> Result<(), PlanError> {
    if fleet.traffic.contains_key(traffic) {
        return Ok(());
    }
    let message = format!("unknown traffic `{traffic}` in fleet {}", fleet.name);
    let error = wrong(scenario, "traffic", message);
    Err(PlanError::Input(error.with_valid(fleet.traffic.keys())))
}

/// The greatest share that an entrypoint gives the target; without one, an equal part.
fn share_of(fleet: &Fleet, targets: &[String], cells: usize) -> f64 {
    let declared = fleet.entrypoints.values().map(|entrypoint| {
        let shares = entrypoint.shares.iter();
        shares
            .filter(|(cell, _)| targets.contains(cell))
            .map(|(_, share)| share)
            .sum::<f64>()
    });
    let most = declared.fold(0.0, f64::max);
    // All of a region's users in the target: the survivors serve none of them, and take over all.
    let equal = targets.len() as f64 / cells.max(1) as f64;
    match most > 0.0 && most < 1.0 {
        true => most,
        false => equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::{DataLimits, HarmBudget};
    use crate::planner::build;
    use crate::read::{read_fleet, read_scenario};

    fn effects_of(edit: impl Fn(&str) -> String, fleet_edit: impl Fn(&str) -> String) -> Effects {
        let fleet = fleet_edit(include_str!("../../tests/fleet.yaml"));
        let fleet = read_fleet(&fleet, "fleet.yaml").unwrap();
        let drill = edit(crate::library::get("black-hole-cloud").unwrap());
        let drill = read_scenario(&drill, "drill.yaml").unwrap();
        let plan = build(&fleet, &drill).unwrap();
        effects(&fleet, &drill, &plan).unwrap()
    }

    #[test]
    fn a_cloud_that_is_cut_from_everyone_is_expected_to_be_silent() {
        let seen = effects_of(str::to_owned, str::to_owned);
        let silence = SymptomClaim {
            only: vec![Symptom::Timeouts],
            at_least: 0.9,
        };
        assert_eq!(seen.symptom, Some(silence));
        assert_eq!((seen.load, seen.harm), (None, None));
        let target = Some(DataLimits::default());
        assert_eq!(seen.durability, Some(Durability { target }));
        let one_cloud = |text: &str| text.replacen("peers: everyone", "peers: { cloud: aws }", 1);
        assert_eq!(effects_of(one_cloud, str::to_owned).symptom, None);
        let other = |text: &str| {
            text.replace(
                "byAtLeast: 10%",
                "byAtLeast: 10%, symptom: { only: [slow, resets, slow], atLeast: 50% }",
            )
        };
        let claim = effects_of(other, str::to_owned).symptom.unwrap();
        assert_eq!(claim.only, [Symptom::Resets, Symptom::Slow]);
        assert_eq!(claim.at_least, 0.5);
    }

    #[test]
    fn survivors_of_the_region_take_over_by_the_targets_share() {
        let load = |more: &str| {
            let text = format!("  load: {{ probe: checkout, peak: 200/s{more} }}\n  hypothesis:");
            move |drill: &str| drill.replace("  hypothesis:", &text)
        };
        let claim = effects_of(load(""), str::to_owned).load.unwrap();
        assert_eq!(
            claim.cells,
            ["gd-aws", "gd-tencent"],
            "gx-tencent is elsewhere"
        );
        assert!((claim.share - 0.3333).abs() < 1e-9);
        assert!((claim.needed - 200.0 / 0.6667).abs() < 1e-6);
        let claim = effects_of(load(", share: 60%"), str::to_owned)
            .load
            .unwrap();
        assert!((claim.needed - 500.0).abs() < 1e-9);
        let no_entrypoint = |fleet: &str| {
            let from = fleet.find("  entrypoints:").unwrap();
            let to = fleet.find("  references:").unwrap();
            format!("{}{}", &fleet[..from], &fleet[to..])
        };
        let claim = effects_of(load(""), no_entrypoint).load.unwrap();
        assert!((claim.share - 1.0 / 3.0).abs() < 1e-9, "one of three cells");
    }

    #[test]
    fn what_is_said_of_harm_and_data_is_passed_on() {
        let edit = |text: &str| {
            text.replace(
                "  hypothesis:",
                "  harm: { failedRequests: 500, errorBudget: 20% }\n  hypothesis:",
            )
            .replace("lost: 0", "lost: 3, resurrected: 2, stale: 1")
        };
        let seen = effects_of(edit, str::to_owned);
        let harm = HarmBudget {
            failed_requests: Some(500),
            error_budget: Some(0.2),
        };
        assert_eq!(seen.harm, Some(harm));
        let target = DataLimits {
            lost: 3,
            resurrected: 2,
            stale: 1,
        };
        let target = Some(target);
        assert_eq!(seen.durability, Some(Durability { target }));
    }
}
