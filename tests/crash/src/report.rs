//! What came of the points, as it comes and as a table.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::inside::Meeting;
use crate::point::{Point, Way};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    points: usize,
    killed: usize,
    residue: usize,
    took: Duration,
}

#[derive(Default)]
struct Told {
    cells: BTreeMap<(String, Way), Cell>,
    failures: Vec<String>,
    residue: usize,
}

/// Shared by those who meet points.
pub struct Report {
    begun: Instant,
    program: String,
    told: Mutex<Told>,
}

/// How it all came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Clean,
    Residue,
    /// Something could not be told, which is no result.
    Failed,
}

impl Report {
    /// `program` is what repeats a point when its arguments are put behind it.
    pub fn new(program: String) -> Self {
        Self {
            begun: Instant::now(),
            program,
            told: Mutex::default(),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn met(&self, point: &Point, meeting: &Meeting, took: Duration) {
        let mut told = self.told();
        let cell = told
            .cells
            .entry((point.scene.clone(), point.way()))
            .or_default();
        cell.points += 1;
        cell.killed += usize::from(meeting.call.is_some());
        cell.took += took;
        if meeting.residue.is_empty() {
            return;
        }
        cell.residue += 1;
        told.residue += 1;
        let call = meeting.call.as_deref().unwrap_or("none: it ran to its end");
        println!(
            "RESIDUE in {}, {}: system call {} ({call})",
            point.scene,
            point.way(),
            point.call
        );
        println!("  repeat: {} {point}", self.program);
        tell(meeting);
    }

    /// An undisturbed run left something.
    pub fn undisturbed(&self, scene: &str, meeting: &Meeting) {
        println!("RESIDUE in {scene} after a run that nobody disturbed:");
        tell(meeting);
        self.told().residue += 1;
    }

    pub fn failed(&self, scene: &str, why: &str) {
        println!("FAILED: {scene}: {why}");
        self.told().failures.push(scene.to_owned());
    }

    pub fn note(&self, line: &str) {
        println!("[{:>4} s] {line}", self.begun.elapsed().as_secs());
    }

    pub fn residue(&self) -> usize {
        self.told().residue
    }

    /// The table, and what it comes to.
    pub fn end(&self) -> Outcome {
        let told = self.told();
        println!(
            "{:<12}{:<50}{:>7}{:>8}{:>9}{:>10}",
            "scene", "who is killed, who cleans up", "points", "killed", "residue", "s each"
        );
        let mut sum = Cell::default();
        let mut ways: BTreeMap<Way, Cell> = BTreeMap::new();
        for ((scene, way), cell) in &told.cells {
            let each = cell.took.as_secs_f64() / cell.points.max(1) as f64;
            println!(
                "{scene:<12}{:<50}{:>7}{:>8}{:>9}{each:>10.2}",
                way.to_string(),
                cell.points,
                cell.killed,
                cell.residue
            );
            for sum in [&mut sum, ways.entry(*way).or_default()] {
                sum.points += cell.points;
                sum.killed += cell.killed;
            }
        }
        println!(
            "{} points in {} s, {} of them killed before their end; residue: {}",
            sum.points,
            self.begun.elapsed().as_secs(),
            sum.killed,
            told.residue
        );
        for scene in &told.failures {
            println!("FAILED: {scene} has no result");
        }
        // A run makes a few calls more or fewer than the one that was counted; more than that, and it was
        // not killed where it should have been.
        let mut killed = sum.points > 0 && sum.killed * 10 >= sum.points * 9;
        if !killed {
            println!("FAILED: too few were killed to prove anything");
        }
        // Nor may the many hide one way of dying that was never met.
        for (way, _) in ways
            .iter()
            .filter(|(_, cell)| cell.killed * 2 < cell.points)
        {
            println!("FAILED: {way}: too few were killed to prove anything");
            killed = false;
        }
        match (told.residue, told.failures.is_empty() && killed) {
            (1.., _) => Outcome::Residue,
            (0, true) => Outcome::Clean,
            (0, false) => Outcome::Failed,
        }
    }
}

fn tell(meeting: &Meeting) {
    for line in meeting.residue.iter().chain(&meeting.said) {
        println!("  {}", line.trim_end().replace('\n', "\n  "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{Cleaner, When};

    fn point() -> Point {
        Point {
            scene: "x".into(),
            call: 1,
            when: When::After,
            cleaner: Cleaner::Restart,
            take_over: Some(3),
        }
    }

    #[test]
    fn residue_outranks_failure_and_nothing_is_no_result() {
        let report = Report::new("crash".into());
        assert_eq!(report.end(), Outcome::Failed, "no point is no proof");
        let killed = Meeting {
            call: Some("read".into()),
            ..Meeting::default()
        };
        (0..9).for_each(|_| report.met(&point(), &killed, Duration::ZERO));
        assert_eq!(report.end(), Outcome::Clean);
        report.met(&point(), &Meeting::default(), Duration::ZERO);
        assert_eq!(report.end(), Outcome::Clean, "one in ten ran to its end");
        report.met(&point(), &Meeting::default(), Duration::ZERO);
        assert_eq!(report.end(), Outcome::Failed, "nobody is killed by chance");
        report.failed("y", "why");
        assert_eq!(report.end(), Outcome::Failed);
        let left = Meeting {
            residue: vec!["a table".into()],
            ..Meeting::default()
        };
        report.met(&point(), &left, Duration::ZERO);
        assert_eq!((report.end(), report.residue()), (Outcome::Residue, 1));
    }

    #[test]
    fn a_way_of_dying_that_is_never_met_is_no_result() {
        let report = Report::new("crash".into());
        let killed = Meeting {
            call: Some("read".into()),
            ..Meeting::default()
        };
        (0..40).for_each(|_| report.met(&point(), &killed, Duration::ZERO));
        let other = Point {
            take_over: None,
            ..point()
        };
        report.met(&other, &killed, Duration::ZERO);
        report.met(&other, &Meeting::default(), Duration::ZERO);
        assert_eq!(report.end(), Outcome::Clean, "half of them");
        report.met(&other, &Meeting::default(), Duration::ZERO);
        assert_eq!(report.end(), Outcome::Failed);
    }

    #[test]
    fn a_point_is_told_as_its_command() {
        let told = "--scene x --call 1 --when after --cleaner restart --take-over 3";
        assert_eq!(point().to_string(), told);
    }
}
