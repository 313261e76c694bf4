//! Sums in f64 over sixteen lanes, whatever the width of the vector registers: the same bits on
//! every machine.

const LANES: usize = 16;

/// `Σ f(x, y)`.
#[inline(always)]
fn lanes(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f64) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            sums[lane] += f(x[lane], y[lane]);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += sum;
    }
    for (x, y) in x_rest.iter().zip(y_rest) {
        total += f(*x, *y);
    }
    total
}

/// `Σ x x`, `Σ x y` and `Σ y y`, each with the bits of [`dot`], in one reading.
#[inline(always)]
pub(crate) fn dots(x: &[f32], y: &[f32]) -> [f64; 3] {
    let mut sums = [[0.0f64; LANES]; 3];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            let (x, y) = (f64::from(x[lane]), f64::from(y[lane]));
            sums[0][lane] += x * x;
            sums[1][lane] += x * y;
            sums[2][lane] += y * y;
        }
    }
    let mut totals = sums.map(|lanes| lanes.iter().fold(0.0, |total, sum| total + sum));
    for (x, y) in x_rest.iter().zip(y_rest) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        totals[0] += x * x;
        totals[1] += x * y;
        totals[2] += y * y;
    }
    totals
}

/// `Σ x y`.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f64 {
    lanes(x, y, |x, y| f64::from(x) * f64::from(y))
}

/// `Σ f(x)`.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    lanes(x, x, |x, _| f64::from(f(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_products_at_once_have_the_bits_of_each_alone() {
        for len in [0, 5, 16, 100, 4096] {
            let value = |i: usize, by: f32| ((i * 7919 % 1009) as f32 - 500.0) * by;
            let x: Vec<f32> = (0..len).map(|i| value(i, 0.013)).collect();
            let y: Vec<f32> = (0..len).map(|i| value(i + 3, 1.7e-3)).collect();
            assert_eq!(dots(&x, &y), [dot(&x, &x), dot(&x, &y), dot(&y, &y)]);
        }
    }
}
