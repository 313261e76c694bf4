//! One change from many rows: the regularised normal equations of MALMEN (Tan et al. 2024, section 3)
//! and BiasEdit.
//!
//! For keys K `[n, d_in]` and value differences V `[n, d_out]` the change is
//! ΔW = (KᵀK + e^λ I)⁻¹ KᵀV. Because (KᵀK + μI)⁻¹Kᵀ = Kᵀ(KKᵀ + μI)⁻¹, it is KᵀA with
//! A = (KKᵀ + e^λ I)⁻¹ V: a system of n equations instead of d_in, and two thin factors instead of
//! a matrix. The system is solved on the host in f64.

use burn::tensor::Tensor;
use debias_model::host;

use super::beside;

/// A for each of several sets of rows: keys `[g, n, d_in]` and values `[g, n, d_out]`, λ `[1, 1]` →
/// `[g, n, d_out]`. Rows of zeros behind a shorter set stay zeros.
///
/// In the graph of a gradient the derivatives are the closed form: with C = (KKᵀ + e^λ I)⁻¹,
/// dL/dV = C dL/dA and dL/dλ = -e^λ ⟨C dL/dA, A⟩, which for ΔW = KᵀA are dL/dV = K M and
/// dL/dλ = -e^λ ⟨M, ΔW⟩ with M = (KᵀK + e^λ I)⁻¹ dL/dΔW.
pub(crate) fn coefficients(keys: &Tensor<3>, values: Tensor<3>, lambda: &Tensor<2>) -> Tensor<3> {
    let [sets, n, d_in] = keys.dims();
    let d_out = values.dims()[2];
    let device = keys.device();
    let plain = values.clone().detach();
    let mu = doubles(lambda.clone().detach())
        .first()
        .map_or(1.0, |lambda| lambda.exp());
    let (all_keys, all_values) = (doubles(keys.clone()), doubles(plain.clone()));
    let (mut inverses, mut solved) = (Vec::new(), Vec::new());
    for (keys, values) in all_keys.chunks(n * d_in).zip(all_values.chunks(n * d_out)) {
        let inverse = inverted(gram(keys, n, mu), n);
        solved.extend(product(&inverse, values, n));
        inverses.extend(inverse);
    }
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
    let solved: Tensor<3> = host::tensor(narrow(&solved), [sets, n, d_out], &device);
    if !values.is_autodiff() {
        return solved;
    }
    // Both differences are exactly 0, and have the derivatives of `values` and λ.
    let scaled: Vec<f64> = inverses.iter().map(|c| c * mu).collect();
    let matrix = |values: &[f64]| -> Tensor<3> {
        let tensor: Tensor<3> = host::tensor(narrow(values), [sets, n, n], &device);
        tensor.autodiff()
    };
    let solved = beside(&solved, &values);
    let by_values = matrix(&inverses).matmul(values.clone() - values.detach());
    let rise = (lambda.clone() - lambda.clone().detach()).unsqueeze::<3>();
    let by_lambda = matrix(&scaled).matmul(solved.clone()) * rise;
    solved + by_values - by_lambda
}

fn doubles<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let tensor = if tensor.is_autodiff() {
        tensor.inner()
    } else {
        tensor
    };
    host::values(tensor).into_iter().map(f64::from).collect()
}

/// KKᵀ + μI `[n, n]` of the rows of `keys` `[n, d]`.
fn gram(keys: &[f64], n: usize, mu: f64) -> Vec<f64> {
    let d = keys.len() / n.max(1);
    let row = |i: usize| &keys[i * d..][..d];
    let mut gram = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let dot = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f64>();
            gram[i * n + j] = dot;
            gram[j * n + i] = dot;
        }
        gram[i * n + i] += mu;
    }
    gram
}

/// The inverse of a symmetric positive definite matrix `[n, n]`, by its Cholesky factor
/// (Golub and Van Loan, algorithm 4.2.1): A = LLᵀ, A⁻¹ = YᵀY with Y = L⁻¹.
fn inverted(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    for i in 0..n {
        for j in 0..=i {
            let (ours, theirs) = (&a[i * n..][..j], &a[j * n..][..j]);
            let dot = ours.iter().zip(theirs).map(|(x, y)| x * y).sum::<f64>();
            let rest = a[i * n + j] - dot;
            a[i * n + j] = if i == j {
                // Rounding must not make a root of what is as good as nothing.
                rest.max(f64::MIN_POSITIVE).sqrt()
            } else {
                rest / a[j * n + j]
            };
        }
    }
    let mut y = vec![0.0; n * n];
    for i in 0..n {
        let (above, row) = y.split_at_mut(i * n);
        let row = &mut row[..n];
        row[i] = 1.0;
        for (k, other) in above.chunks(n).enumerate() {
            add(row, -a[i * n + k], &other[..=k]);
        }
        row.iter_mut().for_each(|value| *value /= a[i * n + i]);
    }
    let mut inverse = vec![0.0; n * n];
    for row in y.chunks(n) {
        for (i, factor) in row.iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
            add(&mut inverse[i * n..][..n], *factor, row);
        }
    }
    inverse
}

/// `matrix` `[n, n]` times `values` `[n, d]`.
fn product(matrix: &[f64], values: &[f64], n: usize) -> Vec<f64> {
    let d = values.len() / n.max(1);
    let mut product = vec![0.0; n * d];
    for (i, row) in product.chunks_mut(d.max(1)).enumerate() {
        for (factor, other) in matrix[i * n..][..n].iter().zip(values.chunks(d.max(1))) {
            add(row, *factor, other);
        }
    }
    product
}

/// `row += factor * other`, as far as `other` goes.
fn add(row: &mut [f64], factor: f64, other: &[f64]) {
    for (value, other) in row.iter_mut().zip(other) {
        *value += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use debias_core::seed;

    use super::*;

    fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        host::tensor(values, shape, &Device::flex())
    }

    fn draws<const D: usize>(what: &str, shape: [usize; D]) -> Tensor<D> {
        let mut stream = seed::stream(5, &["ridge", what]);
        let n = shape.iter().product();
        let values = (0..n).map(|_| seed::normal(&mut stream) as f32).collect();
        tensor(values, shape)
    }

    fn lambda(value: f32) -> Tensor<2> {
        tensor(vec![value], [1, 1])
    }

    /// ΔW `[d_in, d_out]` of one set.
    fn change(keys: &Tensor<3>, values: &Tensor<3>, lambda: &Tensor<2>) -> Vec<f32> {
        let solved = coefficients(keys, values.clone(), lambda);
        host::values(keys.clone().swap_dims(1, 2).matmul(solved))
    }

    fn close(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= tolerance,
                "{found} against {expected}"
            );
        }
    }

    #[test]
    fn the_worked_case() {
        // KᵀK + I = [[3, 1], [1, 2]], KᵀV = [[1, 3], [0, 1]].
        let keys = tensor(vec![1.0, 0.0, 1.0, 1.0], [1, 2, 2]);
        let values = tensor(vec![1.0, 2.0, 0.0, 1.0], [1, 2, 2]);
        close(
            &change(&keys, &values, &lambda(0.0)),
            &[0.4, 1.0, -0.2, 0.0],
            1e-6,
        );
    }

    #[test]
    fn nothing_wanted_is_no_change_and_a_large_lambda_allows_none() {
        let (keys, values) = (draws("k", [1, 5, 7]), draws("v", [1, 5, 3]));
        let none = change(&keys, &values.zeros_like(), &lambda(0.0));
        assert!(none.iter().all(|value| *value == 0.0));
        let held = change(&keys, &values, &lambda(40.0));
        assert!(held.iter().all(|value| value.abs() < 1e-15), "{held:?}");
    }

    #[test]
    fn the_order_of_rows_changes_nothing() {
        let (keys, values) = (draws("k", [1, 6, 4]), draws("v", [1, 6, 3]));
        let turned = |rows: &Tensor<3>| rows.clone().flip([1]);
        let there = change(&keys, &values, &lambda(0.3));
        let back = change(&turned(&keys), &turned(&values), &lambda(0.3));
        close(&there, &back, 1e-6);
    }

    #[test]
    fn sets_side_by_side_are_those_alone_and_padding_counts_nothing() {
        let (keys, values) = (draws("k", [2, 4, 3]), draws("v", [2, 4, 2]));
        let both = coefficients(&keys, values.clone(), &lambda(0.0));
        for at in 0..2 {
            let own = |of: &Tensor<3>| of.clone().narrow(0, at, 1);
            let alone = coefficients(&own(&keys), own(&values), &lambda(0.0));
            assert_eq!(host::values(own(&both)), host::values(alone.clone()));
            let padded = |of: &Tensor<3>| {
                let [_, _, d] = of.dims();
                Tensor::cat(vec![own(of), Tensor::zeros([1, 2, d], &Device::flex())], 1)
            };
            let padded = host::values(coefficients(&padded(&keys), padded(&values), &lambda(0.0)));
            close(&padded[..8], &host::values(alone), 1e-7);
            assert_eq!(padded[8..], [0.0; 4]);
        }
    }

    /// An f64 tensor in the graph of a gradient.
    fn wide(tensor: &Tensor<2>) -> Tensor<2> {
        tensor.clone().cast(DType::F64).autodiff().require_grad()
    }

    fn read(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    /// A⁻¹B by Gauss-Jordan elimination without pivoting, every step in the graph.
    fn eliminated(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        let [n, m] = b.dims();
        let mut rows = Tensor::cat(vec![a, b], 1);
        for at in 0..n {
            let pivot = rows.clone().narrow(0, at, 1);
            let pivot = pivot.clone() / pivot.narrow(1, at, 1);
            let column = rows.clone().narrow(1, at, 1);
            let cleared = rows - column.matmul(pivot.clone());
            let parts = [(0, at), (at + 1, n - at - 1)];
            let [above, below] =
                parts.map(|(from, count)| cleared.clone().slice([from..from + count, 0..n + m]));
            let parts = [above, pivot, below]
                .into_iter()
                .filter(|part| part.dims()[0] > 0);
            rows = Tensor::cat(parts.collect(), 0);
        }
        rows.slice([0..n, n..n + m])
    }

    fn apart(found: &[f64], expected: &[f64]) -> f64 {
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let off = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        off / norm(&mut expected.iter().copied())
    }

    #[test]
    fn the_closed_form_is_the_gradient_through_the_solve() {
        let (k, v) = (draws("k", [5, 4]), draws("v", [5, 3]));
        // The loss is ⟨dL/dΔW, ΔW⟩ + ½‖ΔW‖².
        let slope = draws("slope", [4, 3]);
        let loss = |delta: Tensor<2>, slope: Tensor<2>| {
            (delta.clone() * slope).sum() + delta.square().sum().mul_scalar(0.5)
        };
        // Through the solve, in f64.
        let (values, level) = (wide(&v), wide(&lambda(0.4)));
        let keys = k.clone().cast(DType::F64).autodiff();
        let eye: Tensor<2> = Tensor::eye(4, &Device::flex());
        let eye = eye.cast(DType::F64).autodiff();
        let normal = keys.clone().transpose().matmul(keys.clone()) + eye * level.clone().exp();
        let delta = eliminated(
            normal.clone(),
            keys.clone().transpose().matmul(values.clone()),
        );
        let wide_slope = slope.clone().cast(DType::F64).autodiff();
        let mut gradients = loss(delta.clone(), wide_slope.clone()).backward();
        let by_values = read(values.grad_remove(&mut gradients).expect("a gradient"));
        let by_level = read(level.grad_remove(&mut gradients).expect("a gradient"));
        // The closed form of the paper, in f64: M = (KᵀK + e^λ I)⁻¹ dL/dΔW.
        let m = eliminated(normal, wide_slope + delta.clone()).inner();
        let closed = read(keys.inner().matmul(m.clone()));
        assert!(apart(&closed, &by_values) < 1e-12);
        let level = f64::from(0.4_f32);
        let closed = -level.exp() * read((m * delta.inner()).sum().reshape([1, 1]))[0];
        assert!(
            (closed / by_level[0] - 1.0).abs() < 1e-12,
            "{closed} {by_level:?}"
        );
        // What training uses.
        let values = v.unsqueeze::<3>().autodiff().require_grad();
        let level = lambda(0.4).autodiff().require_grad();
        let keys = k.unsqueeze::<3>();
        let solved = coefficients(&keys, values.clone(), &level);
        let plain = coefficients(&keys, values.clone().inner(), &lambda(0.4));
        assert_eq!(host::values(solved.clone().inner()), host::values(plain));
        let delta = keys
            .swap_dims(1, 2)
            .autodiff()
            .matmul(solved)
            .squeeze_dim(0);
        let mut gradients = loss(delta, slope.autodiff()).backward();
        let found = values.grad_remove(&mut gradients).expect("a gradient");
        assert!(apart(&doubles(found), &by_values) < 1e-5);
        let found = level.grad_remove(&mut gradients).expect("a gradient");
        assert!(apart(&doubles(found), &by_level) < 1e-5);
    }
}
