//! The machine is reset in the middle of drills; the next boot takes back what was on the disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crash::inventory::{Inventory, Section};
use crash::world::files::{MOVED, REPLACED, TRUNCATED};
use crash::world::{files, links};
use scenarios::change::{
    Change, FileAct, FileChange, Instead, Netem, QdiscChange, RouteChange, Shape, Tbf,
};
use serde::{Deserialize, Serialize};

use super::drill::{Drill, reverted};
use super::{DISK, Words};
use crate::report::{Line, Report};

/// Of the drills that are met at any moment.
const SHORT_MS: u64 = 300;
/// What such a drill says, and how long what follows takes on an emulated machine, ms.
const PARTS: &[(Option<&str>, u64)] = &[
    (None, 1_500),
    (Some("armed"), 150),
    (Some("firing"), 150),
    (Some("in force"), 700),
];

/// What is written to the disk before a cut.
#[derive(Serialize, Deserialize)]
struct Cut {
    number: u32,
    before: Inventory,
}

/// Each boot mends after the last cut and asks for the next.
pub fn play(report: &mut Report, words: &Words) -> Result<(), String> {
    let disk = Path::new(DISK);
    let (tree, note) = (disk.join("files"), disk.join("cut.json"));
    let _peer = links::make()?;
    let next = match fs::read(&note) {
        Ok(text) => {
            let cut: Cut = serde_json::from_slice(&text).map_err(|cause| cause.to_string())?;
            mend(report, &cut, &tree)?;
            cut.number + 1
        }
        Err(_) => {
            fs::create_dir(&tree).map_err(|cause| cause.to_string())?;
            files::make(&tree).map_err(|cause| cause.to_string())?;
            rustix::fs::sync();
            0
        }
    };
    if next >= words.cuts {
        return Ok(());
    }
    let before = Inventory::at_rest(|| inventory(&tree))?;
    let cut = Cut {
        number: next,
        before,
    };
    durably(&note, &serde_json::to_vec(&cut).unwrap_or_default())
        .map_err(|cause| format!("{}: {cause}", note.display()))?;
    begin(report, words, &cut, &tree)
}

/// The first cut meets all changes in force, the others meet the drill anywhere.
fn begin(report: &mut Report, words: &Words, cut: &Cut, tree: &Path) -> Result<(), String> {
    let state = Path::new(DISK).join("state");
    if cut.number > 0 {
        return begin_anywhere(
            report,
            words,
            cut.number,
            Drill::start(&state, &changes(tree), SHORT_MS)?,
        );
    }
    let _drill = Drill::start(&state, &changes(tree), 600_000)?.in_force()?;
    let now = inventory(tree)?;
    let altered = cut.before.differences(&now);
    let has = |section| altered.iter().any(|(other, _)| *other == section);
    let netem = altered.iter().any(|(_, text)| text.contains("qdisc netem"));
    report.holds(
        "files, routes, a qdisc and netem are altered when the machine is reset",
        has(Section::Files) && has(Section::Routes) && has(Section::Qdiscs) && netem,
        sections(&altered),
    );
    report.say(&Line::Reset { after_ms: 0 });
    forever()
}

fn begin_anywhere(
    report: &mut Report,
    words: &Words,
    number: u32,
    drill: Drill,
) -> Result<(), String> {
    // A little of the seed for each.
    let mixed = (words.seed ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (word, most_ms) = PARTS[number as usize % PARTS.len()];
    let _drill = match word {
        Some(word) => drill.says(word)?,
        None => drill,
    };
    let after_ms = (mixed >> 33) % most_ms;
    report.say(&Line::Reset { after_ms });
    forever()
}

/// Until the power goes.
fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn mend(report: &mut Report, cut: &Cut, tree: &Path) -> Result<(), String> {
    let state = Path::new(DISK).join("state");
    let number = cut.number;
    let found = cut
        .before
        .differences(&Inventory::at_rest(|| inventory(tree))?);
    if number == 0 {
        let only_files = found.len() == 1 && found[0].0 == Section::Files;
        report.holds(
            "after the boot the files are still altered, and the network is as it is made at boot",
            only_files,
            sections(&found),
        );
    }
    let over = reverted(&state)?;
    let left = cut.before.differences(&inventory(tree)?);
    let seen = format!("found {}, left {}", sections(&found), sections(&left));
    let failed = match left.is_empty() && over.code == Some(0) {
        true => String::new(),
        false => format!("; {left:?}; revert said {:?}: {}", over.code, over.text),
    };
    report.holds(
        &format!("cut {number}: the boot run leaves all as before"),
        failed.is_empty(),
        format!("{seen}{failed}"),
    );
    let again = reverted(&state)?;
    if again.code != Some(0) || again.text.contains("reverted:") {
        report.holds("a second boot run finds nothing to do", false, again.text);
    }
    Ok(())
}

fn inventory(tree: &Path) -> Result<Inventory, String> {
    Inventory::of_machine(links::DEVICES, tree)
}

fn sections(differences: &[(Section, String)]) -> String {
    let names: Vec<String> = differences
        .iter()
        .map(|(section, _)| format!("{section:?}").to_lowercase())
        .collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

fn changes(tree: &Path) -> Vec<Change> {
    let file = |name: &str, act| {
        let path = tree.join(name).display().to_string();
        Change::File(FileChange { path, act })
    };
    let route = |destination: &str, instead| {
        Change::Route(RouteChange {
            destination: destination.parse().unwrap_or_default(),
            table: 254,
            instead,
        })
    };
    let qdisc = |device: &str, shape| {
        let device = device.to_owned();
        Change::Qdisc(QdiscChange { device, shape })
    };
    let content = "another text\n".repeat(40);
    vec![
        file(REPLACED, FileAct::Replace { content }),
        file(MOVED, FileAct::MoveAway),
        file(TRUNCATED, FileAct::Truncate { bytes: 7 }),
        route("10.50.0.0/16", None),
        route("10.51.0.0/16", Some(Instead::Blackhole)),
        qdisc(
            links::UPLINK,
            Shape::Netem(Netem {
                delay_us: 100_000,
                loss_ppm: 10_000,
                ..Netem::default()
            }),
        ),
        qdisc(
            links::SIDE,
            Shape::Tbf(Tbf {
                rate_bps: 1_000_000,
                burst_bytes: 32_000,
                latency_us: 50_000,
            }),
        ),
    ]
}

/// With the folder's entry for it.
fn durably(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
