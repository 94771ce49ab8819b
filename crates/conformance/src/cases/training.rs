//! Training steps: losses and norms are compared, and also all weights and moments for networks
//! without kinks, which could amplify rounding errors.

use alexnet_core::{
    Batch, Model, Op, Optimizer, State, Step, Topology, alexnet::Variant, optimizer::Adam,
};

use crate::{
    case::{Case, Engine, Outcome},
    compare, fixtures,
    naming::slug,
    reference::{Network, Tensor},
};

/// Returns the cases, each of ten steps.
pub fn cases() -> Vec<Case> {
    [equations(), networks(), clipped()].into_iter().flatten().collect()
}

/// Returns the optimizers of the tutorial and the paper, and AdamW, with their learning rates.
pub fn usual_optimizers() -> [(&'static str, Optimizer, f32); 3] {
    let adam = Adam::default();
    [
        ("Adam", Optimizer::Adam { adam, weight_decay: 0.0 }, 2e-4),
        ("AdamW", Optimizer::AdamW { adam, weight_decay: 0.01 }, 2e-4),
        ("SGD", Optimizer::Sgd { momentum: 0.9, weight_decay: 5e-4 }, 0.01),
    ]
}

/// Returns cases of a linear layer, whose weights and moments are compared one by one. The
/// constants are chosen so that each term of the equations matters, and the learning rate changes.
fn equations() -> Vec<Case> {
    let adam = Adam::default();
    let coarse = Adam { beta1: 0.8, beta2: 0.9, eps: 0.01 };
    let mut settings = usual_optimizers().to_vec();
    settings.extend([
        ("Adam with decay", Optimizer::Adam { adam, weight_decay: 0.5 }, 0.01),
        ("Adam with a large eps", Optimizer::Adam { adam: coarse, weight_decay: 0.0 }, 0.01),
        ("AdamW with much decay", Optimizer::AdamW { adam: coarse, weight_decay: 5.0 }, 0.01),
        ("SGD without momentum", Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 }, 0.1),
        ("SGD with much decay", Optimizer::Sgd { momentum: 0.5, weight_decay: 0.5 }, 0.1),
        ("SGD of the paper", Optimizer::SgdPaper { momentum: 0.9, weight_decay: 0.5 }, 0.1),
    ]);
    let case = |(name, optimizer, lr)| {
        let key = format!("equations: {name}");
        Case::new(format!("optimizer::{}", slug(name)), move |engine| {
            let topology = fixtures::topology(
                [3, 4, 3],
                &[Op::Flatten, Op::Linear { inputs: 36, outputs: 5 }],
            );
            let run = Run { last_lr: lr / 4.0, ..Run::new(&key, topology, 4, optimizer, lr, None) };
            let (model, network) = run.ten_steps(engine)?;
            run.check_state(&model.state()?, &network)
        })
    };
    settings.into_iter().map(case).collect()
}

fn networks() -> Vec<Case> {
    let mut cases = Vec::new();
    for variant in [Variant::Tutorial, Variant::Original] {
        for (optimizer_name, optimizer, lr) in usual_optimizers() {
            let name = format!("training::ten_steps_reduced_{variant}_{}", slug(optimizer_name));
            let key = format!("ten steps: reduced {variant}, {optimizer_name}");
            let topology = fixtures::shrink(&variant.topology(5), 8, [99, 99]);
            cases.push(Case::new(name, move |engine| {
                Run::new(&key, topology.clone(), 4, optimizer, lr, None).ten_steps(engine).map(drop)
            }));
        }
    }
    cases
}

/// Returns cases of clipping below, near and above the actual norms. The reported norm is that
/// before clipping.
fn clipped() -> Vec<Case> {
    let case = |limit: f32| {
        let key = format!("clipping: to {limit}");
        Case::new(format!("gradient_clipping::to_{limit}"), move |engine| {
            let topology = fixtures::topology(
                [3, 4, 3],
                &[Op::Flatten, Op::Dropout { p: 0.5 }, Op::Linear { inputs: 36, outputs: 5 }],
            );
            let optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 0.01 };
            let run = Run::new(&key, topology, 4, optimizer, 0.05, Some(limit));
            let (model, network) = run.ten_steps(engine)?;
            run.check_state(&model.state()?, &network)
        })
    };
    [0.01, 0.1, 1.0, 100.0].map(case).into()
}

/// The initial state, the batches and the settings of a run.
struct Run {
    topology: Topology,
    state: State,
    batches: Vec<Batch>,
    optimizer: Optimizer,
    lr: f32,
    /// The learning rate of the second half of the steps.
    last_lr: f32,
    clip_grad_norm: Option<f32>,
}

impl Run {
    fn new(
        key: &str,
        topology: Topology,
        images: usize,
        optimizer: Optimizer,
        lr: f32,
        clip_grad_norm: Option<f32>,
    ) -> Self {
        let mut rng = fixtures::rng(key);
        let state = fixtures::balanced_state(&mut rng, &topology);
        let batches = (0..3).map(|_| fixtures::batch(&mut rng, images, &topology)).collect();
        Self { topology, state, batches, optimizer, lr, last_lr: lr, clip_grad_norm }
    }

    /// Trains the engine and the reference in parallel, with three batches in turn.
    fn ten_steps(&self, engine: &Engine) -> Outcome<(Box<dyn Model>, Network)> {
        let mut model = engine.compile(&self.topology, &self.state, self.optimizer)?;
        let mut network = engine.reference(&self.topology, &self.state, self.optimizer)?;
        for (number, batch) in (1..=10).zip(self.batches.iter().cycle()) {
            let step = Step {
                micro_batch: None,
                number,
                seed: 7,
                lr: if number <= 5 { self.lr } else { self.last_lr },
                clip_grad_norm: self.clip_grad_norm,
            };
            engine.same_step(
                number,
                &model.train_step(batch, &step)?,
                &network.train_step(batch, &step)?,
            )?;
        }
        Ok((model, network))
    }

    /// Compares the state. The tolerance for the change of a parameter and for a moment is 1e-4 of
    /// the largest absolute value in its tensor. Weights also have three roundings in each of the
    /// ten steps (of `1 - ηλ`, of the decay and of the step), each at most 2⁻²⁵ of the weight,
    /// together about 1e-6.
    fn check_state(&self, found: &State, network: &Network) -> Outcome {
        let largest = |values: &[f64]| values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        for (name, truth) in network.parameters() {
            let start = Tensor::from_array(&self.state.parameters[name]);
            let change: Vec<f64> =
                truth.values.iter().zip(&start.values).map(|(end, start)| end - start).collect();
            let tolerance = 1e-4 * largest(&change) + 1e-6 * largest(&truth.values);
            let found = found.parameters.get(name).ok_or(format!("no {name} in the state"))?;
            compare::within(name, &found.values, &truth.values, |_| tolerance)?;
        }
        if !found.moments.keys().eq(network.moments().keys()) {
            return Err(format!(
                "moments {:?}, not {:?}",
                found.moments.keys(),
                network.moments().keys()
            )
            .into());
        }
        for (name, truth) in network.moments() {
            if found.moments[name].shape != truth.shape {
                return Err(format!("{name} has shape {:?}", found.moments[name].shape).into());
            }
            let tolerance = 1e-4 * largest(&truth.values);
            compare::within(name, &found.moments[name].values, &truth.values, |_| tolerance)?;
        }
        Ok(())
    }
}
