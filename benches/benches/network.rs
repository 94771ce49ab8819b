//! A training step and a forward pass of the tutorial's network, on every engine, and on the engine
//! `cpu` with other instructions and in bf16.

use alexnet_benches::variants;
use alexnet_core::{
    Batch, Options, Step,
    alexnet::Variant,
    init::{Init, initialize},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn network(criterion: &mut Criterion) {
    let topology = Variant::Tutorial.topology(5);
    let state = initialize(&topology, Init::Tutorial, 0).expect("the variant is valid");
    let mut group = criterion.benchmark_group("tutorial");
    group.sample_size(10);
    for (name, engine) in variants() {
        let mut model = engine
            .compile(&topology, state.clone(), &Options::default())
            .expect("the engine supports the variant");
        for n in [1, 32] {
            let batch = Batch::random(n, topology.input[1], 5);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(BenchmarkId::new(format!("forward/{n}"), &name), |bencher| {
                bencher.iter(|| model.logits(&batch.images).expect("the batch fits"));
            });
        }
        let batch = Batch::random(32, topology.input[1], 5);
        let mut step =
            Step { micro_batch: None, number: 0, seed: 0, lr: 2e-4, clip_grad_norm: None };
        group.bench_function(BenchmarkId::new("train/32", &name), |bencher| {
            bencher.iter(|| {
                step.number += 1;
                model.train_step(&batch, &step).expect("the batch fits")
            });
        });
    }
}

criterion_group!(benches, network);
criterion_main!(benches);
