//! The equations of Adam, AdamW, SGD and the SGD of the paper. All engines implement them, so that
//! a run can be resumed with another engine.
//!
//! For a parameter w with gradient g at step t (from 1), learning rate η and weight decay λ,
//! element by element and in this order of operations (that of PyTorch's `torch.optim` 2.13):
//!
//! * **Adam** (`torch.optim.Adam`): `g ← g + λw` · `m ← β₁m + (1-β₁)g` · `v ← β₂v + (1-β₂)g²` ·
//!   `w ← w - [η/(1-β₁ᵗ)] · m / (√v / √(1-β₂ᵗ) + ε)`
//! * **AdamW** (`torch.optim.AdamW`): `w ← w(1-ηλ)`, then as Adam with λ = 0
//! * **SGD** (`torch.optim.SGD`): `g ← g + λw` · `b ← g` at t = 1, else `b ← μb + g` · `w ← w - ηb`
//! * **SGD of the paper** (section 5; also Caffe's): `g ← g + λw` · `b ← μb + ηg` · `w ← w - b`. While
//!   η is constant, the weights are those of SGD. When η changes, b keeps the steps of the previous
//!   η, while SGD applies the new η to all earlier gradients. The paper's v is `-b`
//!
//! m, v and b are the moments `exp_avg`, `exp_avg_sq` and `momentum_buffer` of
//! [`crate::State::moments`]; missing moments are zero (for b of SGD this gives `b ← g`).

/// The optimizer and its constants. The learning rate is part of each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adaptive moments with L2 regularization.
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
    /// Stochastic gradient descent with momentum, by the update rule of the paper.
    SgdPaper {
        /// μ.
        momentum: f32,
        /// λ, added to the gradient.
        weight_decay: f32,
    },
}

/// The constants of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁, the decay of the first moment.
    pub beta1: f32,
    /// β₂, the decay of the second moment.
    pub beta2: f32,
    /// ε, which is added to the root of the second moment.
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

/// The factors of one Adam step that depend on t. They are computed in f64 and rounded once, so
/// that all engines use the same numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamFactors {
    /// `η / (1-β₁ᵗ)`.
    pub step_size: f32,
    /// `1 / √(1-β₂ᵗ)`.
    pub inverse_correction: f32,
}

impl Adam {
    /// Returns the factors of step `t` (from 1).
    pub fn factors(&self, lr: f32, t: u64) -> AdamFactors {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(t as f64);
        AdamFactors {
            step_size: (f64::from(lr) / correction(self.beta1)) as f32,
            inverse_correction: (1.0 / correction(self.beta2).sqrt()) as f32,
        }
    }
}

impl Optimizer {
    /// Returns PyTorch's names of the moments that are stored for each parameter.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Self::Adam { .. } | Self::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Self::Sgd { .. } | Self::SgdPaper { .. } => &["momentum_buffer"],
        }
    }
}
