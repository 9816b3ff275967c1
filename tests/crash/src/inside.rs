//! The program inside the world's namespaces: it makes the world and answers what it is asked.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::choose::Counts;
use crate::play::Play;
use crate::point::Point;
use crate::scene;
use crate::world::{Place, World};

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    pub scene: String,
    /// The folder that a tmpfs is mounted on
    #[arg(long)]
    pub place: PathBuf,
    /// Name of the control groups
    #[arg(long)]
    pub groups: String,
    #[arg(long)]
    pub agent: PathBuf,
}

/// A line on standard input, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Undisturbed runs: how many system calls there are, and whether the fault bites.
    Count,
    Meet(Point),
}

/// A line on standard output, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ready,
    Counted(Counts),
    Met(Meeting),
    /// What was asked cannot be told; the world is of no more use.
    Failed(String),
}

/// What came of one point, or of an undisturbed run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meeting {
    /// Name of the system call; none: it ran to its end.
    pub call: Option<String>,
    /// What is not as it was, in lines; empty: all is.
    pub residue: Vec<String>,
    /// What the programs wrote, if there is residue.
    pub said: Vec<String>,
}

/// Ends when its standard input does.
pub fn run(options: &Options) -> Result<(), String> {
    let place = Place(options.place.clone());
    let world = World::make(place, &options.groups, scene::has_volumes(&options.scene))
        .and_then(|world| Play::begin(&options.scene, world, &options.agent));
    let mut play = match world {
        Ok(play) => play,
        Err(why) => return tell(&Answer::Failed(format!("no world: {why}"))),
    };
    tell(&Answer::Ready)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|cause| cause.to_string())?;
        let ask: Ask = serde_json::from_str(&line).map_err(|cause| cause.to_string())?;
        let answer = match ask {
            Ask::Count => play.count(),
            Ask::Meet(point) => play.meet(&point).map(Answer::Met),
        };
        tell(&answer.unwrap_or_else(Answer::Failed))?;
    }
    Ok(())
}

fn tell(answer: &Answer) -> Result<(), String> {
    let line = serde_json::to_string(answer).map_err(|cause| cause.to_string())?;
    writeln!(std::io::stdout(), "{line}").map_err(|cause| cause.to_string())
}
