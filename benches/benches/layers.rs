//! Each layer of the tutorial's network with batch size 32 on every engine: the forward pass, and a
//! complete step (forward, backward and update by SGD). The difference is the backward pass with
//! the update.

use std::time::Duration;

use alexnet_benches::{engines, layers};
use alexnet_core::{
    Batch, Optimizer, Options, Step,
    alexnet::Variant,
    init::{Init, initialize},
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const BATCH: usize = 32;

fn each_layer(criterion: &mut Criterion) {
    let options = Options {
        optimizer: Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 },
        ..Options::default()
    };
    for (name, topology) in layers(&Variant::Tutorial.topology(5)).expect("the variant is valid") {
        let state = initialize(&topology, Init::Pytorch, 0).expect("the layer is valid");
        let classes = topology.classes().expect("the layer ends in features");
        // The inputs of all layers are square.
        let batch = Batch::random(BATCH, topology.input[1], classes);
        let mut group = criterion.benchmark_group(format!("layer/{name}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for engine in engines() {
            let mut model = engine
                .compile(&topology, state.clone(), &options)
                .expect("the engine supports the layer");
            group.bench_function(BenchmarkId::new("forward", engine.name()), |bencher| {
                bencher.iter(|| model.logits(&batch.images).expect("the batch fits"));
            });
            let mut step =
                Step { micro_batch: None, number: 0, seed: 0, lr: 1e-6, clip_grad_norm: None };
            group.bench_function(BenchmarkId::new("step", engine.name()), |bencher| {
                bencher.iter(|| {
                    step.number += 1;
                    model.train_step(&batch, &step).expect("the batch fits")
                });
            });
        }
    }
}

criterion_group!(benches, each_layer);
criterion_main!(benches);
