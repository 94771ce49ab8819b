//! Adam, AdamW and SGD as equations. Each engine implements these, so that a run can go on with another engine.
//!
//! For a parameter w with gradient g at step t (from 1), learning rate η and weight decay λ, all element by element and in
//! the order written (PyTorch's, `torch.optim` 2.13):
//!
//! * **Adam** (`torch.optim.Adam`): `g ← g + λw` · `m ← β₁m + (1-β₁)g` · `v ← β₂v + (1-β₂)g²` ·
//!   `w ← w - [η/(1-β₁ᵗ)] · m / (√v / √(1-β₂ᵗ) + ε)`
//! * **AdamW** (`torch.optim.AdamW`): `w ← w(1-ηλ)`, then as Adam with λ = 0
//! * **SGD** (`torch.optim.SGD`): `g ← g + λw` · `b ← g` at t = 1, else `b ← μb + g` · `w ← w - ηb`
//!
//! m, v and b are the moments `exp_avg`, `exp_avg_sq` and `momentum_buffer` of [`crate::State::moments`]; missing ones are
//! zero (for b that gives `b ← g` by itself).

/// Which equations, with their constants; the learning rate comes with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adaptive moments with L2 regularisation.
    Adam {
        /// β₁, β₂ and ε.
        adam: Adam,
        /// λ, added to the gradient.
        weight_decay: f32,
    },
    /// Adaptive moments with decoupled weight decay.
    AdamW {
        /// β₁, β₂ and ε.
        adam: Adam,
        /// λ, multiplied by the learning rate.
        weight_decay: f32,
    },
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// μ.
        momentum: f32,
        /// λ, added to the gradient.
        weight_decay: f32,
    },
}

/// The constants of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adam { adam: Adam::default(), weight_decay: 0.0 }
    }
}

/// The factors of one Adam step that depend on t, computed in f64 and rounded once, so that engines agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamFactors {
    /// `η / (1-β₁ᵗ)`.
    pub step_size: f32,
    /// `1 / √(1-β₂ᵗ)`.
    pub inverse_correction: f32,
}

impl Adam {
    /// The factors at step `t` (from 1).
    pub fn factors(&self, lr: f32, t: u64) -> AdamFactors {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(t as f64);
        AdamFactors {
            step_size: (f64::from(lr) / correction(self.beta1)) as f32,
            inverse_correction: (1.0 / correction(self.beta2).sqrt()) as f32,
        }
    }
}

impl Optimizer {
    /// The moments kept for each parameter, by PyTorch's names.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Self::Adam { .. } | Self::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Self::Sgd { .. } => &["momentum_buffer"],
        }
    }
}
