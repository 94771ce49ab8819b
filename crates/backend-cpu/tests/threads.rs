//! What this engine promises beyond the suite: the same bits for any number of threads.

use alexnet_backend_cpu::CpuBackend;
use alexnet_core::{
    Backend, Batch, Options, State, Step,
    alexnet::Variant,
    init::{Init, initialize},
};

/// Three training steps of an odd batch and an evaluation, in a pool of `threads`.
fn train(variant: Variant, threads: usize) -> (State, Vec<f32>) {
    let topology = variant.topology(3);
    let state = initialize(&topology, Init::Tutorial, 7).unwrap();
    let batch = Batch::random(13, topology.input[1], 3);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut model = CpuBackend::default().compile(&topology, &state, &Options::default()).unwrap();
        for (number, clip_grad_norm) in (1..).zip([Some(1.0), None, None]) {
            let step = Step { sample_offset: 0, number, seed: 7, lr: 2e-4, clip_grad_norm };
            model.train_step(&batch, &step).unwrap();
        }
        (model.state().unwrap(), model.logits(&batch.images).unwrap().values)
    })
}

#[test]
fn threads_do_not_change_a_bit() {
    for variant in [Variant::Tutorial, Variant::Original] {
        let one = train(variant, 1);
        for threads in [2, 3, 4] {
            assert!(one == train(variant, threads), "{variant} differs with {threads} threads");
        }
    }
}
