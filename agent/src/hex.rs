//! Bytes as hexadecimal text, as digests and the kernel's own messages stand in journals.

use std::fmt::Write;

/// Two lowercase digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // into a String: cannot fail
        text
    })
}

/// The way back of [`encode`]; none if the text is not hexadecimal.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    digits.len().is_multiple_of(2).then_some(())?;
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back_and_nonsense_is_none() {
        let bytes = [0, 10, 255];
        assert_eq!(encode(&bytes), "000aff");
        assert_eq!(decode(&encode(&bytes)), Some(vec![0, 10, 255]));
        for bad in ["0", "0g", "+1", "\u{e9}"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
