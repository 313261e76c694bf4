//! Counter-based draws: a draw depends on the seed, a name, the stream and its place, and on nothing
//! else, so that batches, order and threads change nothing (`spec/merging.md` 1.5).

/// splitmix64's step from one draw to the next.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// splitmix64's finaliser.
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// One stream of uniform numbers, addressed by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws(u64);

impl Draws {
    /// The stream `stream` of what is called `name`: a tensor of a merge, a sample of an item.
    pub fn new(seed: u64, name: &str, stream: u64) -> Self {
        let of_tensor = mix(seed) ^ fnv1a64(name);
        Self(mix(
            of_tensor.wrapping_add(stream.wrapping_mul(0xD1B5_4A32_D192_ED03))
        ))
    }

    /// The state that the draws are counted from.
    pub fn key(self) -> u64 {
        self.0
    }

    /// The draw of element `at`, as 53 bits: `u = draw / 2^53`, uniform in [0, 1).
    #[inline(always)]
    pub fn bits(self, at: usize) -> u64 {
        let counter = (at as u64).wrapping_add(1);
        mix(self.0.wrapping_add(counter.wrapping_mul(GOLDEN))) >> 11
    }

    /// The draws of the elements from `at` on, as [`Draws::bits`]; one product less for each.
    #[inline(always)]
    pub fn fill(self, at: usize, out: &mut [u64]) {
        let mut counter = self
            .0
            .wrapping_add((at as u64).wrapping_add(1).wrapping_mul(GOLDEN));
        for place in out {
            *place = mix(counter) >> 11;
            counter = counter.wrapping_add(GOLDEN);
        }
    }

    /// The draw of element `at`, in [0, 1).
    #[inline(always)]
    pub fn uniform(self, at: usize) -> f64 {
        self.bits(at) as f64 * 2f64.powi(-53)
    }
}
