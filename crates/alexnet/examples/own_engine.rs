//! A fourth engine in one file: it hands all work to the engine `cpu` and logs each training step.
//! A real engine lowers the topology to tensors of its own; the crate `alexnet-conformance` says
//! whether its answers are right.
//!
//! `cargo run --release --example own_engine`

use alexnet::{
    Engine,
    core::{
        Backend, Batch, Device, Images, Inspection, Logits, Model, Options, ReluRule, Result,
        State, Step, StepReport, Topology,
        alexnet::Variant,
        backend::Gradients,
        init::{Init, initialize},
    },
};

struct Logging(Box<dyn Backend>);

impl Backend for Logging {
    fn name(&self) -> &'static str {
        "logging"
    }

    fn devices(&self) -> Vec<Device> {
        self.0.devices()
    }

    fn compile(
        &self,
        topology: &Topology,
        state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        println!("compiling {} nodes for {}", topology.nodes.len(), options.device);
        Ok(Box::new(LoggingModel(self.0.compile(topology, state, options)?)))
    }
}

struct LoggingModel(Box<dyn Model>);

impl Model for LoggingModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        self.0.logits(images)
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let report = self.0.train_step(batch, step)?;
        println!(
            "step {}: loss {:.3}, gradient norm {:.3}",
            step.number, report.loss, report.gradient_norm
        );
        Ok(report)
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        self.0.gradients(batch, step)
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        self.0.update(gradients, step)
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        self.0.vjp(images, cotangent)
    }

    fn inspect(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection> {
        self.0.inspect(images, cotangent, rule)
    }

    fn state(&self) -> Result<State> {
        self.0.state()
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let engine = Logging(Engine::Cpu.backend().ok_or("this build lacks the engine `cpu`")?);
    let topology = Variant::Tutorial.topology(5);
    let state = initialize(&topology, Init::Tutorial, 0)?;
    let mut model = engine.compile(&topology, state, &Options::default())?;
    let batch = Batch::random(4, 224, 5);
    for number in 1..=3 {
        let step = Step { number, seed: 0, micro_batch: None, lr: 1e-3, clip_grad_norm: None };
        model.train_step(&batch, &step)?;
    }
    Ok(())
}
