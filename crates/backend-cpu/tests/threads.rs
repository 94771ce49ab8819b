//! Results are bitwise equal for any number of threads, which the conformance suite does not test.

use alexnet_backend_cpu::{CpuBackend, Kernels};
use alexnet_core::{
    Backend, Batch, Options, Precision, State, Step,
    alexnet::Variant,
    init::{Init, initialize},
};

/// Does two training steps with a batch of 13 images and an evaluation, in a pool of `threads`
/// threads.
fn train(variant: Variant, precision: Precision, threads: usize) -> (State, Vec<f32>) {
    let topology = variant.topology(3);
    let state = initialize(&topology, Init::Tutorial, 7).unwrap();
    let batch = Batch::random(13, topology.input[1], 3);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let kernels = Kernels { precision, ..Kernels::default() };
        let backend = CpuBackend { kernels, ..CpuBackend::default() };
        let mut model = backend.compile(&topology, &state, &Options::default()).unwrap();
        for (number, clip_grad_norm) in (1..).zip([Some(1.0), None]) {
            let step = Step { micro_batch: None, number, seed: 7, lr: 2e-4, clip_grad_norm };
            model.train_step(&batch, &step).unwrap();
        }
        (model.state().unwrap(), model.logits(&batch.images).unwrap().values)
    })
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for (variant, precision) in [
        (Variant::Tutorial, Precision::F32),
        (Variant::Tutorial, Precision::Bf16),
        (Variant::Original, Precision::F32),
    ] {
        let one = train(variant, precision, 1);
        for threads in [2, 3, 4] {
            assert!(
                one == train(variant, precision, threads),
                "{variant} in {precision:?} differs with {threads} threads"
            );
        }
    }
}
