//! The ways in which the family thins task vectors out.

/// How task vectors are thinned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sparsifier {
    /// Not at all.
    Dense,
    /// The largest magnitudes of the tensor are kept (TIES, arXiv:2306.01708, step 1).
    Magnitude,
    /// Each value is kept with probability `density` (DARE, arXiv:2311.03099, equation 3).
    Bernoulli,
    /// Each value is kept with a probability that grows with its rank in its row (DELLA,
    /// arXiv:2406.11617, section 3.1).
    Ranked,
    /// The smallest and the largest magnitudes are dropped (Breadcrumbs, arXiv:2312.06795).
    Outliers,
}
