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
    let tensor = match tensor.is_autodiff() {
        true => tensor.inner(),
        false => tensor,
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
            a[i * n + j] = match i == j {
                // Rounding must not make a root of what is as good as nothing.
                true => rest.max(f64::MIN_POSITIVE).sqrt(),
                false => rest / a[j * n + j],
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
