//! The observer of a rank other than rank 0. It prints nothing, and can stop the run.

use std::ops::ControlFlow;

use alexnet::{BoxError, Observer, RunInfo, TrainObserver, core::StepReport};

use crate::stop::Stop;

/// The observer.
pub struct OtherRank {
    pub stop: Stop,
}

impl Observer for OtherRank {}

impl TrainObserver for OtherRank {
    fn started(&mut self, _: &RunInfo<'_>) -> Result<(), BoxError> {
        Ok(self.stop.listen()?)
    }

    fn step(&mut self, _: &RunInfo<'_>, _: &StepReport) -> ControlFlow<()> {
        self.stop.asked()
    }
}
