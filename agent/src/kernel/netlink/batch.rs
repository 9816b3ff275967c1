//! Messages and their attributes as bytes, before they are sent.

use super::NLM_F_ACK;

const NLM_F_REQUEST: u16 = 0x1;
const NLA_F_NESTED: u16 = 0x8000;

/// Encodes attributes (struct nlattr: length, type, value, padded to 4 bytes).
#[derive(Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Encoder {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    /// A string, with the NUL that the kernel wants.
    pub fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Route attributes are in the order of this machine.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// nf_tables numbers are big-endian.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NLA_F_NESTED);
        inside(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.too_long = true;
            0
        });
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Messages that the kernel takes all together or not at all.
#[derive(Default)]
pub struct Batch {
    encoder: Encoder,
    /// Where each message starts, and what it is called in errors.
    messages: Vec<(usize, &'static str)>,
    pub(super) broken: Option<&'static str>,
}

impl Batch {
    /// Appends one message: `kind` and `flags` of its header, then struct nfgenmsg, then attributes.
    pub fn message(
        &mut self,
        label: &'static str,
        (kind, flags): (u16, u16),
        (family, resource): (u8, u16),
        inside: impl FnOnce(&mut Encoder),
    ) {
        let [high, low] = resource.to_be_bytes();
        let header = [family, 0, high, low]; // struct nfgenmsg
        self.message_of(label, (kind, flags), &header, inside);
    }

    /// Appends one message of any netlink family: its own header, then attributes.
    pub fn message_of(
        &mut self,
        label: &'static str,
        (kind, flags): (u16, u16),
        header: &[u8],
        inside: impl FnOnce(&mut Encoder),
    ) {
        let start = self.encoder.bytes.len();
        let out = &mut self.encoder.bytes;
        out.extend_from_slice(&0_u32.to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        out.extend_from_slice(&[0; 8]); // sequence number (at send) and port (the kernel's)
        out.extend_from_slice(header);
        inside(&mut self.encoder);
        let length = u32::try_from(self.encoder.bytes.len() - start).unwrap_or(u32::MAX);
        self.encoder.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.messages.push((start, label));
        if self.encoder.too_long {
            self.broken.get_or_insert(label);
        }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The encoded messages, with sequence numbers 0.
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoder.bytes
    }

    /// Asks for an ACK of message `index`.
    pub fn acknowledge(&mut self, index: usize) {
        if let Some((start, _)) = self.messages.get(index) {
            let at = start + 6;
            let bytes = &mut self.encoder.bytes;
            let flags = u16::from_ne_bytes([bytes[at], bytes[at + 1]]) | NLM_F_ACK;
            bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
    }

    /// What message `index` is called in errors.
    pub(super) fn label(&self, index: usize) -> &'static str {
        self.messages.get(index).map_or("batch", |(_, label)| label)
    }

    pub(super) fn number(&mut self, first: u32) {
        for (index, (start, _)) in self.messages.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            self.encoder.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}
