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
