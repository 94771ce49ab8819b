//! Events of a training run, sent to the program that uses the library.

use std::ops::ControlFlow;

use alexnet_core::{Model, Progress, StepReport, Topology, metrics::Evaluation, weights::Metadata};
use alexnet_data::loader::Loader;

use crate::{
    config::TrainConfig, error::BoxError, evaluation::Evaluated, observer::Observer, run_folder::RunFolder,
};

/// Receives the events of a training run, beside the notes and progress of an [`Observer`]. Every method has a default that does
/// nothing, and `()` is an observer.
pub trait TrainObserver: Observer {
    /// A run is about to take its first step, or to go on.
    ///
    /// # Errors
    /// Ends the run.
    fn started(&mut self, run: &RunInfo<'_>) -> Result<(), BoxError> {
        let _ = run;
        Ok(())
    }

    /// A training step is done. `Break` stops the run here, with a checkpoint.
    fn step(&mut self, run: &RunInfo<'_>, report: &StepReport) -> ControlFlow<()> {
        let _ = (run, report);
        ControlFlow::Continue(())
    }

    /// An epoch is done, and its files are written: the last row of the run's history is new, and `evaluation` is that of its
    /// weights on the validation images.
    fn epoch(&mut self, run: &RunInfo<'_>, evaluation: &Evaluation) {
        let _ = (run, evaluation);
    }

    /// All epochs are done: `evaluated` is what the best weights say of the validation images, and `model` has these weights.
    ///
    /// # Errors
    /// Those of the program; the run is kept all the same.
    fn finished(
        &mut self,
        run: &RunInfo<'_>,
        model: &mut dyn Model,
        evaluated: &Evaluated,
    ) -> Result<(), BoxError> {
        let _ = (run, model, evaluated);
        Ok(())
    }
}

impl TrainObserver for () {}

/// A training run, as the methods of a [`TrainObserver`] receive it.
#[derive(Clone, Copy)]
pub struct RunInfo<'a> {
    /// Its folder.
    pub folder: &'a RunFolder,
    /// Its configuration, in which nothing is left to be decided.
    pub config: &'a TrainConfig,
    /// The network.
    pub topology: &'a Topology,
    /// What its weights files say beside their parameters.
    pub metadata: &'a Metadata,
    /// Its images.
    pub loader: &'a Loader,
    /// How far it is.
    pub progress: &'a Progress,
}
