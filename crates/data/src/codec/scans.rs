//! What the markers of a JPEG file announce, against what it holds.

/// Start of scan.
const SOS: u8 = 0xda;
/// End of image.
const EOI: u8 = 0xd9;
/// Not sent yet.
const UNSENT: u8 = u8::MAX;

/// The scans of a JPEG file's first picture.
#[derive(Debug, Default)]
pub(super) struct Scans {
    /// How many there are.
    pub count: usize,
    /// Whether the end marker is there.
    pub ended: bool,
    /// Of each component its name, and down to which bit each coefficient was sent.
    components: Vec<(u8, [u8; 64])>,
}

impl Scans {
    /// Follows the markers of `bytes`; what is between them is the decoder's to judge.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut scans = Self::default();
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some((marker, behind)) = next_marker(rest) {
            rest = behind;
            match marker {
                EOI => {
                    scans.ended = true;
                    break;
                }
                // Stuffed bytes, restarts, and what has no content.
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let Some((content, behind)) = segment(rest) else {
                break;
            };
            rest = behind;
            match marker {
                SOS => scans.scan(content),
                // Huffman tables, extensions and arithmetic tables have numbers among the frames'.
                0xc4 | 0xc8 | 0xcc => {}
                0xc0..=0xcf => scans.frame(content),
                _ => {}
            }
        }
        scans
    }

    /// Whether the file ends before every bit of every coefficient was announced: a progressive
    /// file that was cut between two scans.
    pub(super) fn lacks_some(&self) -> bool {
        let sent = |(_, bits): &(u8, [u8; 64])| bits.iter().all(|bit| *bit == 0);
        !self.ended && !self.components.iter().all(sent)
    }

    fn frame(&mut self, content: &[u8]) {
        let entries = content.get(6..).unwrap_or_default().as_chunks::<3>().0;
        self.components = entries
            .iter()
            .map(|entry| (entry[0], [UNSENT; 64]))
            .collect();
    }

    fn scan(&mut self, content: &[u8]) {
        self.count += 1;
        let Some((&n, content)) = content.split_first() else {
            return;
        };
        let Some((names, [first, last, bits])) = content.split_at_checked(2 * usize::from(n))
        else {
            return;
        };
        let low = bits & 0x0f;
        for name in names.iter().step_by(2) {
            let known = self
                .components
                .iter_mut()
                .filter(|(known, _)| known == name);
            for (_, sent) in known {
                let range = usize::from(*first)..=usize::from(*last).min(63);
                if let Some(coefficients) = sent.get_mut(range) {
                    coefficients.iter_mut().for_each(|bit| *bit = low.min(*bit));
                }
            }
        }
    }
}

/// The next marker and what is behind it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0xff)?;
    let behind = &bytes[at..];
    let code = behind.iter().position(|byte| *byte != 0xff)?;
    Some((behind[code], &behind[code + 1..]))
}

/// The content of a segment, whose length stands in front, and what is behind it.
fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)).checked_sub(2)?)
}
