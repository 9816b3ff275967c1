//! Where in a fleet file a question stands, and the fleet that it must make sense in.

use crate::asks::place::{Host, Written};
use crate::asks::{Place, fill};
use crate::fleet::{Fleet, Plane};
use crate::input::InputError;
use crate::places::{Places, parent};

/// A path in a fleet file, with what a check there may look at.
pub(crate) struct At<'a> {
    pub fleet: &'a Fleet,
    pub plane: Plane,
    places: &'a Places,
    path: String,
}

impl<'a> At<'a> {
    pub fn new(fleet: &'a Fleet, places: &'a Places, plane: Plane, path: &str) -> Self {
        Self {
            fleet,
            plane,
            places,
            path: path.to_owned(),
        }
    }

    /// `.key` behind this path.
    pub fn below(&self, key: &str) -> Self {
        Self::new(
            self.fleet,
            self.places,
            self.plane,
            &format!("{}.{key}", self.path),
        )
    }

    /// `.key` in the place of this path's last word.
    pub fn beside(&self, key: &str) -> Self {
        let parent = parent(&self.path).unwrap_or_default();
        let path = format!("{parent}.{key}");
        Self::new(self.fleet, self.places, self.plane, &path)
    }

    /// `[index]` behind this path.
    pub fn item(&self, index: usize) -> Self {
        let path = format!("{}[{index}]", self.path);
        Self::new(self.fleet, self.places, self.plane, &path)
    }

    pub fn wrong(&self, message: impl Into<String>) -> InputError {
        InputError::at_value(self.places, &self.path, message)
    }

    pub fn wrong_key(&self, message: impl Into<String>) -> InputError {
        InputError::at_key(self.places, &self.path, message)
    }

    /// A place in every cell, with the port that it has unless another one is written.
    pub fn place(&self, written: Written, default_port: Option<u16>) -> Result<Place, InputError> {
        let port = |port: Option<u16>| {
            port.or(default_port).ok_or_else(|| {
                self.wrong("the port is missing")
                    .with_hint("write for instance \"{cell}:5432\"")
            })
        };
        let place = match written.host {
            Host::Cell => Place::Cell(port(written.port)?),
            Host::Uses(name) => Place::Uses(name),
            Host::Fixed(address) => Place::Fixed((address, port(written.port)?).into()),
        };
        self.in_every_cell(&place)?;
        Ok(place)
    }

    /// The same where a fixed host would say nothing about a cell.
    pub fn place_of_cell(&self, written: Written, port: Option<u16>) -> Result<Place, InputError> {
        let place = self.place(written, port)?;
        if let Place::Fixed(_) = place {
            let message = "a host that is the same for every cell says nothing about any of them";
            let hint = "write {cell}:PORT, or {uses.NAME} for what each cell declares";
            return Err(self.wrong(message).with_hint(hint));
        }
        Ok(place)
    }

    /// Every cell must have what the place means, or it would go unseen there.
    fn in_every_cell(&self, place: &Place) -> Result<(), InputError> {
        match place {
            Place::Cell(_) => self.has_addresses(),
            Place::Uses(name) => self.declares(name),
            Place::Fixed(_) => Ok(()),
        }
    }

    pub fn has_addresses(&self) -> Result<(), InputError> {
        let mut cells = self.fleet.cells.iter();
        let Some((name, _)) = cells.find(|(_, cell)| cell.addresses.is_empty()) else {
            return Ok(());
        };
        let message = format!("cell {name} has no addresses, so {{cell}} means nothing there");
        Err(self
            .wrong(message)
            .with_hint("write addresses: [...] for the cell: what its users connect to"))
    }

    pub fn declares(&self, use_name: &str) -> Result<(), InputError> {
        let mut cells = self.fleet.cells.iter();
        let Some((name, cell)) = cells.find(|(_, cell)| !cell.uses.contains_key(use_name)) else {
            return Ok(());
        };
        let message =
            format!("cell {name} declares no use `{use_name}`, and a probe asks every cell");
        Err(self
            .wrong(message)
            .with_valid(cell.uses.keys())
            .with_hint(format!(
                "write uses: {{ {use_name}: {{ address: ADDRESS, port: PORT }} }} for the cell"
            )))
    }

    /// No placeholder in a text but these (and those of the cell).
    pub fn placeholders(&self, text: &str, known: &[&str]) -> Result<(), InputError> {
        for name in fill::names(text) {
            if let Some(used) = name.strip_prefix(fill::USES) {
                self.declares(used)?;
            } else if name == fill::CELL {
                self.has_addresses()?;
            } else if name != fill::CELL_NAME && !known.contains(&name) {
                let valid = [fill::CELL, fill::CELL_NAME]
                    .into_iter()
                    .chain(known.iter().copied());
                let message = format!("unknown placeholder {{{name}}}");
                return Err(self
                    .wrong(message)
                    .with_valid(valid.map(|name| format!("{{{name}}}"))));
            }
        }
        Ok(())
    }
}
