//! Results are bitwise equal for any number of threads, which the conformance suite does not test.

use alexnet_backend_cpu::CpuBackend;
use alexnet_core::{
    Backend, Batch, Options, State, Step,
    alexnet::Variant,
    init::{Init, initialize},
};

/// Does two training steps with a batch of 13 images and an evaluation, in a pool of `threads`
/// threads.
fn train(variant: Variant, threads: usize) -> (State, Vec<f32>) {
    let topology = variant.topology(3);
    let state = initialize(&topology, Init::Tutorial, 7).unwrap();
    let batch = Batch::random(13, topology.input[1], 3);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut model =
            CpuBackend::default().compile(&topology, state.clone(), &Options::default()).unwrap();
        for (number, clip_grad_norm) in (1..).zip([Some(1.0), None]) {
            let step = Step { micro_batch: None, number, seed: 7, lr: 2e-4, clip_grad_norm };
            model.train_step(&batch, &step).unwrap();
        }
        (model.state().unwrap(), model.logits(&batch.images).unwrap().values)
    })
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for variant in [Variant::Tutorial, Variant::Original] {
        let one = train(variant, 1);
        for threads in [2, 3, 4] {
            assert!(one == train(variant, threads), "{variant} differs with {threads} threads");
        }
    }
}
