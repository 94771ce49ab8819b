//! Results are bitwise equal for any number of micro-batches (gradient accumulation), which the
//! conformance suite tests with a tolerance only.

mod network;

use alexnet_backend_cpu::{CpuBackend, Kernels};
use alexnet_core::{
    Backend, Batch, Options, State, Step,
    init::{Init, initialize},
    train::train_step,
};

use crate::network::network;

/// Does three steps with `images` images. Returns the state and the losses.
fn train(images: usize, batch_size: usize, exact: bool) -> (State, Vec<f64>) {
    let state = initialize(&network(), Init::Pytorch, 5).unwrap();
    let backend = CpuBackend { kernels: Kernels { exact, ..Kernels::default() } };
    let mut model = backend.compile(&network(), &state, &Options::default()).unwrap();
    let mut batch = Batch::random(images, 77, 3);
    let steps = (1..).zip([None, Some(0.5), None]).map(|(number, clip_grad_norm)| {
        batch.images.pixels.rotate_left(1009);
        let step = Step { number, seed: 1, micro_batch: None, lr: 1e-3, clip_grad_norm };
        train_step(model.as_mut(), &batch, batch_size, &step).unwrap().loss
    });
    let losses = steps.collect();
    (model.state().unwrap(), losses)
}

#[test]
fn the_size_of_micro_batches_does_not_change_a_bit() {
    for (images, sizes) in
        [(32, &[16, 12, 8, 4][..]), (20, &[16, 10, 3]), (7, &[4, 1]), (81, &[80, 33, 5])]
    {
        for exact in [false, true] {
            let (state, losses) = train(images, images, exact);
            for batch_size in sizes {
                let (found, found_losses) = train(images, *batch_size, exact);
                let what = format!("{images} images, {batch_size} at a time, exact: {exact}");
                assert_eq!(found_losses, losses, "{what}");
                assert!(found == state, "{what}");
            }
        }
    }
}
