//! Events of a training run, sent to the program that uses the library.

use std::ops::ControlFlow;

use alexnet_core::{Model, Progress, StepReport, Topology, metrics::Evaluation, weights::Metadata};
use alexnet_data::loader::Loader;

use crate::{
    config::TrainConfig, error::BoxError, evaluation::Evaluated, observer::Observer,
    run_folder::RunFolder,
};

/// Receives the events of a training run, beside the notes and progress of an [`Observer`]. Every
/// method has a default that does nothing, and `()` is an observer.
pub trait TrainObserver: Observer {
    /// A run is about to take its first or next step.
    ///
    /// # Errors
    /// An error ends the run.
    fn started(&mut self, run: &RunInfo<'_>) -> Result<(), BoxError> {
        let _ = run;
        Ok(())
    }

    /// A training step is complete. `Break` stops the run after it, with a checkpoint.
    fn step(&mut self, run: &RunInfo<'_>, report: &StepReport) -> ControlFlow<()> {
        let _ = (run, report);
        ControlFlow::Continue(())
    }

    /// An epoch is complete and its files are written. The last row of the run's history is new,
    /// and `evaluation` is that of its weights on the validation images, if there are any.
    fn epoch(&mut self, run: &RunInfo<'_>, evaluation: Option<&Evaluation>) {
        let _ = (run, evaluation);
    }

    /// All epochs are complete. `evaluated` is the evaluation of the best weights on the validation
    /// images, if there are any; `model` has these weights.
    ///
    /// # Errors
    /// An error is returned from [`Trainer::run`](crate::Trainer::run); the files of the run are
    /// complete.
    fn finished(
        &mut self,
        run: &RunInfo<'_>,
        model: &mut dyn Model,
        evaluated: Option<&Evaluated>,
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
    /// Its configuration, without open settings.
    pub config: &'a TrainConfig,
    /// The network.
    pub topology: &'a Topology,
    /// The metadata of its weights files.
    pub metadata: &'a Metadata,
    /// Its images.
    pub loader: &'a Loader,
    /// Its progress.
    pub progress: &'a Progress,
}
