//! Faults: pure functions from parameters to changes. One file each, one line here each.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::change::Change;
use crate::effects::Symptom;
use crate::fleet::Fleet;
use crate::scenario::Side;
use crate::target::Target;

/// Cell -> what every node of that cell changes, in the order of the cells.
pub type CellChanges = Vec<(String, Vec<Change>)>;

/// What a fault may look at: the fleet, whom the scenario targets, and which cells act.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    pub fleet: &'a Fleet,
    pub target: &'a Target,
    pub side: Side,
    /// The cells whose nodes act: the target's, or all the others.
    pub acting: &'a [String],
}

/// A pure fault: parameters in, changes out. Whether a plan may hold them is judged elsewhere.
pub trait Plannable {
    /// What every acting cell changes; the same for the same input, always.
    fn changes(&self, scene: &Scene) -> Result<CellChanges, FaultError>;

    /// What it is, in the scenario's words: `everyone, both directions`.
    fn title(&self) -> String;

    /// How a cell fails that this fault takes away; `None` where that is not known beforehand.
    fn symptom(&self) -> Option<Symptom> {
        None
    }
}

/// Why a fault's parameters mean nothing in this fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError {
    /// YAML path below the fault, for instance `peers.cloud`.
    pub field: &'static str,
    pub message: String,
    /// The closed list of words that would have been valid; may be empty.
    pub valid: Vec<String>,
    /// What to write instead; may be empty.
    pub hint: &'static str,
}

impl FaultError {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> FaultError {
        FaultError {
            field,
            message: message.into(),
            valid: Vec::new(),
            hint: "",
        }
    }
}

macro_rules! faults {
    ($($module:ident::$variant:ident = $name:literal,)*) => {
        $(pub mod $module;)*

        /// One fault with its parameters, as the YAML has it: `{ net.blackhole: { ... } }`.
        #[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
        pub enum Fault {
            $(#[serde(rename = $name)] $variant($module::$variant),)*
        }

        impl Fault {
            /// Every fault that there is, by its YAML name.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Its YAML name.
            pub fn name(&self) -> &'static str {
                match self { $(Fault::$variant(_) => $name,)* }
            }

            fn plannable(&self) -> &dyn Plannable {
                match self { $(Fault::$variant(fault) => fault,)* }
            }
        }
    };
}

faults! {
    net_blackhole::NetBlackhole = "net.blackhole",
}

impl Fault {
    /// What every acting cell changes.
    pub fn changes(&self, scene: &Scene) -> Result<CellChanges, FaultError> {
        self.plannable().changes(scene)
    }

    /// How a cell fails that it takes away, if that is known.
    pub fn symptom(&self) -> Option<Symptom> {
        self.plannable().symptom()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.plannable().title())
    }
}
