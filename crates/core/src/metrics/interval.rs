//! The confidence interval of an accuracy.

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Returns the 95 % confidence interval of a proportion with `hits` of `n` successes, by the score
/// method: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
/// Journal of the American Statistical Association 22 (1927). Unlike the mean plus or minus two
/// standard errors, it stays within 0 and 1 and has a positive width even if `hits` is 0 or `n`.
/// For `n` = 0 it is `[0, 1]`.
pub fn wilson95(hits: u64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (hits, n) = (hits as f64, n as f64);
    let share = hits / n;
    let center = share + Z * Z / (2.0 * n);
    let radius = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((center - radius) / scale).max(0.0), ((center + radius) / scale).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from statsmodels.stats.proportion import proportion_confint  # 0.15.0
    /// for hits, n in [(0, 1), (1, 1), (1, 2), (0, 20), (20, 20), (236, 364), (9999, 10000)]:
    ///     print(proportion_confint(hits, n, method="wilson"))
    /// ```
    #[test]
    fn the_interval_equals_statsmodels() {
        for (hits, n, expected) in [
            (0, 1, [0.0, 0.7934506856227627]),
            (1, 1, [0.2065493143772374, 1.0]),
            (1, 2, [0.09453120573423068, 0.9054687942657693]),
            (0, 20, [0.0, 0.1611251580528194]),
            (20, 20, [0.8388748419471804, 0.9999999999999999]),
            (236, 364, [0.5979825582687762, 0.6956221929364029]),
            (9999, 10000, [0.9994337311025987, 0.9999823473263989]),
        ] {
            let found = wilson95(hits, n);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-14, "{hits} of {n}: {found}, {expected}");
            }
            assert!(found[0] >= 0.0 && found[1] <= 1.0);
        }
        assert_eq!(wilson95(0, 0), [0.0, 1.0]);
    }
}
