//! Options for the optimizer, the learning rate and the steps.

use alexnet::{LrScheduler, Opt, TrainConfig};

use crate::parse;

/// The optimizer, the learning rate, early stopping and the averaged weights.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Optimization")]
pub struct OptimizationOptions {
    #[command(flatten)]
    pub optimizer: OptimizerOptions,
    #[command(flatten)]
    pub rates: RateOptions,
    #[command(flatten)]
    pub steps: StepOptions,
    /// End training early if the validation accuracy has not increased for N epochs
    #[arg(long, value_name = "N", value_parser = parse::count)]
    pub patience: Option<u64>,
    /// Evaluate and save an exponential moving average of the weights
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = TrainConfig::default().model_ema,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub model_ema: bool,
    /// Decay of the average: the share of the old average at each update
    #[arg(long, value_name = "SHARE", default_value_t = TrainConfig::default().model_ema_decay, value_parser = parse::fraction_f32)]
    pub model_ema_decay: f32,
    /// Steps between two updates of the average [default: 16, or a sixth of an epoch if that is
    /// less]
    #[arg(long, value_name = "N", value_parser = parse::count)]
    pub model_ema_steps: Option<u64>,
}

/// The optimizer without its learning rate.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Optimization")]
pub struct OptimizerOptions {
    /// Optimizer
    #[arg(long, value_name = "NAME", value_enum, default_value_t = TrainConfig::default().opt)]
    pub opt: Opt,
    /// Weight decay: added to the gradient, or with adamw subtracted from the weights [default: 0,
    /// with adamw 0.01]
    #[arg(long, value_name = "λ", value_parser = parse::not_negative_f32)]
    pub weight_decay: Option<f32>,
    /// Momentum of sgd and sgd-paper
    #[arg(long, value_name = "μ", default_value_t = TrainConfig::default().momentum, value_parser = parse::fraction_f32)]
    pub momentum: f32,
}

/// The learning rate of each step.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Optimization")]
pub struct RateOptions {
    /// Learning rate; with a schedule, its maximum
    #[arg(long, value_name = "RATE", default_value_t = TrainConfig::default().lr, value_parser = parse::positive)]
    pub lr: f32,
    /// Learning rate schedule
    #[arg(long, value_name = "NAME", value_enum, default_value_t = TrainConfig::default().lr_scheduler)]
    pub lr_scheduler: LrScheduler,
    /// Epochs in which the learning rate increases from 1/100 of --lr; with onecycle from 1/25, and
    /// 0 means 30 % of the run
    #[arg(long, value_name = "N", default_value_t = TrainConfig::default().warmup_epochs, value_parser = parse::count_or_none)]
    pub warmup_epochs: u64,
    /// Epochs between two reductions of the learning rate by --lr-scheduler step
    #[arg(long, value_name = "N", default_value_t = TrainConfig::default().lr_step_size, value_parser = parse::count)]
    pub lr_step_size: u64,
    /// Factor of each reduction by --lr-scheduler step or plateau
    #[arg(long, value_name = "γ", default_value_t = TrainConfig::default().lr_gamma, value_parser = parse::not_negative)]
    pub lr_gamma: f64,
    /// Epochs without a higher validation accuracy before --lr-scheduler plateau reduces the rate
    #[arg(long, value_name = "N", default_value_t = TrainConfig::default().lr_patience, value_parser = parse::count_or_none)]
    pub lr_patience: u64,
}

/// How the gradients of a step are computed.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Optimization")]
pub struct StepOptions {
    /// Scale the gradients of a step down to this norm if theirs is larger
    #[arg(long, value_name = "NORM", value_parser = parse::positive)]
    pub clip_grad_norm: Option<f32>,
    /// Gradient accumulation: average the gradients of N batches for one step
    #[arg(long, value_name = "N", default_value_t = TrainConfig::default().accumulate, value_parser = parse::at_least(1u32))]
    pub accumulate: u32,
}

impl OptimizerOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { opt, weight_decay, momentum } = *self;
        config.opt = opt;
        config.weight_decay = weight_decay.unwrap_or(opt.weight_decay());
        config.momentum = momentum;
    }
}

impl RateOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { lr, lr_scheduler, warmup_epochs, lr_step_size, lr_gamma, lr_patience } = *self;
        config.lr = lr;
        config.lr_scheduler = lr_scheduler;
        config.warmup_epochs = warmup_epochs;
        config.lr_step_size = lr_step_size;
        config.lr_gamma = lr_gamma;
        config.lr_patience = lr_patience;
    }
}

impl StepOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { clip_grad_norm, accumulate } = *self;
        config.clip_grad_norm = clip_grad_norm;
        config.accumulate = accumulate;
    }
}

impl OptimizationOptions {
    pub fn apply(&self, config: &mut TrainConfig) {
        let Self { optimizer, rates, steps, patience, model_ema, model_ema_decay, model_ema_steps } =
            self;
        optimizer.apply(config);
        rates.apply(config);
        steps.apply(config);
        config.patience = *patience;
        config.model_ema = *model_ema;
        config.model_ema_decay = *model_ema_decay;
        config.model_ema_steps = *model_ema_steps;
    }
}
