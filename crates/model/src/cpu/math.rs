//! Elementary functions as straight-line arithmetic, which compilers turn into vector code.
//!
//! Each is within a few units in the last place of the exact value (tested); the polynomial of
//! the exponential is the Cephes one, those of the error function are N. Juffa's.

/// `e^x`; 0 below -87.3, `e^88` above 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that n ln 2 is subtracted without rounding.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let small = x < -87.3;
    let x = x.clamp(-87.3, 88.0);
    let rounded = x.mul_add(LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 0.166_666_66)
        .mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let power = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let scale = f32::from_bits(power.wrapping_add(127) << 23);
    if small { 0.0 } else { p * scale }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let far = (-1.728_534_7e-5_f32).mul_add(t, 3.831_979_7e-4);
    let middle = (-3.883_964_4e-3_f32).mul_add(t, 2.425_462_2e-2);
    let far = far
        .mul_add(s, middle)
        .mul_add(t, -0.106_778_78)
        .mul_add(t, -0.634_846_87)
        .mul_add(t, -0.128_717_51)
        .mul_add(t, -t);
    let far = (1.0 - exp(far)).copysign(x);
    let near = (-5.967_617e-4_f32)
        .mul_add(s, 4.991_194e-3)
        .mul_add(s, -2.676_813_5e-2)
        .mul_add(s, 0.112_819_93)
        .mul_add(s, -0.376_125_34)
        .mul_add(s, 0.128_379_17)
        .mul_add(x, x);
    if t > 0.927_734_4 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error over a fine grid, in multiples of the rounding of values near one.
    fn worst(f: fn(f32) -> f32, exact: fn(f64) -> f64, relative: bool) -> f64 {
        (-400_000..400_000)
            .map(|i| {
                let x = i as f32 / 20_000.0;
                let exact = exact(f64::from(x));
                let off = (f64::from(f(x)) - exact).abs();
                match relative {
                    true => off / exact.abs().max(f64::from(f32::MIN_POSITIVE)),
                    false => off,
                }
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_exact_to_a_few_units_in_the_last_place() {
        let unit = f64::from(f32::EPSILON);
        assert!(worst(exp, f64::exp, true) < 2.0 * unit);
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), true) < 3.0 * unit);
        assert!(worst(erf, libm::erf, false) < 2.0 * unit);
    }

    #[test]
    fn the_ends_are_finite() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert!(exp(1e30).is_finite());
        assert_eq!(erf(40.0), 1.0);
        assert_eq!(erf(-40.0), -1.0);
    }
}
