//! Delay, jitter, loss, duplicates, corruption, reordering and rate: asked for, read back, measured, gone.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crash::inventory::Inventory;
use crash::program;
use crash::world::links;
use scenarios::change::{Change, Netem, QdiscChange, Shape, Tbf};
use serde_json::Value;

use super::drill::Drill;
use super::packets::{Arrivals, Flow};
use crate::report::Report;

const NEAR: &str = "10.9.0.2";
const ASIDE: &str = "10.9.0.3";
/// Longer than any measurement; idle time costs nothing here.
const LASTS_MS: u64 = 60_000;
/// A share over n packets is believed within so many standard deviations: one false alarm in 2 million.
const SIGMAS: f64 = 5.0;
/// What the kernel and the emulated machine add to a delay, ms.
const SLACK_MS: f64 = 2.0;
const RATE_SLACK: f64 = 0.05;

struct Bench<'a> {
    report: &'a mut Report,
    peer: File,
    before: Inventory,
}

pub fn play(report: &mut Report) -> Result<(), String> {
    let peer = links::make()?;
    for address in [NEAR, ASIDE] {
        let words = ["neigh", "replace", address, "lladdr", "02:00:00:00:02:09"];
        let words = [&words[..], &["dev", links::UPLINK, "nud", "permanent"]].concat();
        program::run("ip", &words, "")?;
    }
    let before = Inventory::at_rest(inventory)?;
    let mut bench = Bench {
        report,
        peer,
        before,
    };
    bench.nothing()?;
    bench.delays()?;
    bench.shares()?;
    bench.reorder()?;
    bench.rates()?;
    bench.towards()
}

fn inventory() -> Result<Inventory, String> {
    Inventory::of_machine(links::DEVICES, Path::new("/etc"))
}

fn small(count: u64, gap_ms: u64) -> Flow {
    Flow {
        to: NEAR,
        count,
        gap: Duration::from_millis(gap_ms),
        size: 64,
    }
}

fn large(count: u64, gap_ms: u64) -> Flow {
    Flow {
        size: 1_000,
        ..small(count, gap_ms)
    }
}

impl Bench<'_> {
    /// Puts it in force, compares what `tc` reads back, measures, lets it end, and compares all.
    fn measured(
        &mut self,
        what: &str,
        shape: Shape,
        read_back: &[(&str, f64)],
        flows: &[Flow],
    ) -> Result<Vec<Arrivals>, String> {
        let change = Change::Qdisc(QdiscChange {
            device: links::UPLINK.to_owned(),
            shape,
        });
        let drill = Drill::start(Path::new("/run/state"), &[change], LASTS_MS)?.in_force()?;
        let text = program::run("tc", &["-j", "qdisc", "show", "dev", links::UPLINK], "")?;
        let told: Value = serde_json::from_str(&text).map_err(|cause| cause.to_string())?;
        for (path, asked) in read_back {
            let all = told.as_array().into_iter().flatten();
            let value = all
                .filter_map(|qdisc| qdisc.get("options")?.pointer(path)?.as_f64())
                .next();
            let near = |value: f64| (value - asked).abs() <= asked.abs() * 1e-3;
            if !value.is_some_and(near) {
                self.report
                    .holds(&format!("{what}: {path} is {asked}"), false, text.clone());
            }
        }
        let arrivals: Result<Vec<Arrivals>, String> =
            flows.iter().map(|flow| flow.run(&self.peer)).collect();
        let ended = drill.ends()?;
        let left = self.before.differences(&inventory()?);
        if ended.code != Some(0) || !left.is_empty() {
            let seen = format!("{left:?}; {}", ended.text);
            self.report
                .holds(&format!("{what}: gone afterwards"), false, seen);
        }
        arrivals
    }

    fn netem(
        &mut self,
        what: &str,
        netem: Netem,
        read_back: &[(&str, f64)],
        flow: Flow,
    ) -> Result<Arrivals, String> {
        let mut all = self.measured(what, Shape::Netem(netem), read_back, &[flow])?;
        all.pop().ok_or_else(|| "no flow".to_owned())
    }

    fn nothing(&mut self) -> Result<(), String> {
        let seen = small(200, 5).run(&self.peer)?;
        let delays = seen.delays();
        let quick = delays.len() == 200 && median(&delays) < SLACK_MS;
        self.report
            .holds("without netem all comes at once", quick, told(&delays));
        Ok(())
    }

    fn delays(&mut self) -> Result<(), String> {
        let what = "delay 100 ms";
        let netem = Netem {
            delay_us: 100_000,
            ..Netem::default()
        };
        let seen = self.netem(what, netem, &[("/delay/delay", 0.1)], small(200, 5))?;
        let delays = seen.delays();
        let holds = delays.len() == 200 && delays[0] >= 100.0 && median(&delays) < 100.0 + SLACK_MS;
        self.report.holds(what, holds, told(&delays));

        let what = "delay 50 ms, jitter 10 ms";
        let netem = Netem {
            delay_us: 50_000,
            jitter_us: 10_000,
            ..Netem::default()
        };
        let read_back = [("/delay/delay", 0.05), ("/delay/jitter", 0.01)];
        let seen = self.netem(what, netem, &read_back, small(400, 30))?;
        let delays = seen.delays();
        let (mean, deviation) = moments(&delays);
        // Uniform between 40 and 60 ms, so the standard deviation is 20 / sqrt(12).
        let uniform = 20.0 / 12_f64.sqrt();
        let holds = delays.len() == 400
            && delays[0] >= 40.0
            && delays[399] < 60.0 + SLACK_MS
            && (mean - 50.0).abs() < SIGMAS * uniform / 20.0 + SLACK_MS / 2.0
            && (deviation - uniform).abs() < 1.0;
        let seen = format!(
            "{}, mean {mean:.2}, deviation {deviation:.2}",
            told(&delays)
        );
        self.report.holds(what, holds, seen);
        Ok(())
    }

    fn shares(&mut self) -> Result<(), String> {
        let count = 2_000;
        let netem = Netem {
            loss_ppm: 200_000,
            ..Netem::default()
        };
        let seen = self.netem(
            "loss 20 %",
            netem,
            &[("/loss-random/loss", 0.2)],
            small(count, 1),
        )?;
        self.share("loss 20 %", seen.lost_share(), 0.2, count);

        let netem = Netem {
            duplicate_ppm: 300_000,
            ..Netem::default()
        };
        let read_back = [("/duplicate/duplicate", 0.3)];
        let seen = self.netem("duplicate 30 %", netem, &read_back, small(count, 1))?;
        let twice = seen.all.len() as f64 / seen.distinct() as f64 - 1.0;
        self.share("duplicate 30 %", twice, 0.3, count);

        let netem = Netem {
            corrupt_ppm: 300_000,
            ..Netem::default()
        };
        let flow = large(count, 1);
        let seen = self.netem("corrupt 30 %", netem, &[("/corrupt/corrupt", 0.3)], flow)?;
        // Nearly every damaged bit is one that UDP's checksum covers; the others are in the frame's head.
        let found = seen.damaged as f64 / count as f64;
        let headers = 0.3 * 42.0 / 1_042.0;
        self.share(
            "corrupt 30 %, found by the checksum",
            found + headers / 2.0,
            0.3,
            count,
        );
        Ok(())
    }

    fn share(&mut self, what: &str, seen: f64, asked: f64, count: u64) {
        let sigma = (asked * (1.0 - asked) / count as f64).sqrt();
        let holds = (seen - asked).abs() < SIGMAS * sigma;
        let seen = format!("{:.2} % of {count}", seen * 100.0);
        self.report.holds(what, holds, seen);
    }

    fn reorder(&mut self) -> Result<(), String> {
        let netem = Netem {
            delay_us: 20_000,
            reorder_ppm: 250_000,
            ..Netem::default()
        };
        let what = "delay 20 ms, reorder 25 %";
        let read_back = [("/delay/delay", 0.02), ("/reorder/reorder", 0.25)];
        let count = 2_000;
        let seen = self.netem(what, netem, &read_back, small(count, 5))?;
        let quick = seen.delays().iter().filter(|delay| **delay < 10.0).count();
        self.share(what, quick as f64 / count as f64, 0.25, count);
        let overtaken = seen.overtaken();
        let seen = format!("{overtaken} of {count}");
        self.report
            .holds("packets are overtaken", overtaken > 0, seen);
        Ok(())
    }

    fn rates(&mut self) -> Result<(), String> {
        let netem = Netem {
            rate_bps: 8_000_000,
            ..Netem::default()
        };
        let read_back = [("/rate/rate", 1_000_000.0)]; // bytes per second
        let seen = self.netem("rate 8 Mbit/s", netem, &read_back, large(300, 0))?;
        self.rate("rate 8 Mbit/s", seen.rate(0), 8e6);

        let tbf = Shape::Tbf(Tbf {
            rate_bps: 5_000_000,
            burst_bytes: 32_000,
            latency_us: 50_000,
        });
        let what = "tbf 5 Mbit/s";
        let seen = self.measured(what, tbf, &[("/rate", 625_000.0)], &[large(1_000, 1)])?;
        // What fits into the bucket goes at once.
        self.rate(what, seen[0].rate(60), 5e6);
        Ok(())
    }

    fn rate(&mut self, what: &str, seen: f64, asked: f64) {
        let holds = (seen - asked).abs() < asked * RATE_SLACK;
        self.report
            .holds(what, holds, format!("{:.2} Mbit/s", seen / 1e6));
    }

    fn towards(&mut self) -> Result<(), String> {
        let peers = vec!["10.9.0.3/32".parse().unwrap_or_default()];
        let shape = Shape::Towards {
            peers,
            rate_bps: 100_000_000,
            netem: Some(Netem {
                delay_us: 80_000,
                ..Netem::default()
            }),
        };
        let what = "80 ms towards one peer only";
        let aside = Flow {
            to: ASIDE,
            ..small(200, 5)
        };
        let seen = self.measured(
            what,
            shape,
            &[("/delay/delay", 0.08)],
            &[aside, small(200, 5)],
        )?;
        let (delayed, others) = (seen[0].delays(), seen[1].delays());
        let holds = delayed.len() == 200
            && delayed[0] >= 80.0
            && median(&delayed) < 80.0 + SLACK_MS
            && others.len() == 200
            && median(&others) < SLACK_MS;
        let seen = format!("{}; another: {}", told(&delayed), told(&others));
        self.report.holds(what, holds, seen);
        Ok(())
    }
}

fn median(ascending: &[f64]) -> f64 {
    ascending
        .get(ascending.len() / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

fn told(ascending: &[f64]) -> String {
    let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
    format!(
        "{} came, {:.2} to {:.2} ms, median {:.2}",
        ascending.len(),
        end(ascending.first()),
        end(ascending.last()),
        median(ascending)
    )
}
