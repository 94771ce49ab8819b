//! The thread that owns the classifier.
//!
//! It takes whatever is queued, up to the largest batch, and never waits for a batch to fill: under
//! light load a request is computed alone, under heavy load batches become large by themselves.

use std::{
    collections::VecDeque,
    io,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use alexnet::{
    Classifier, Explain, Explanation, Prediction, Preprocessed, Result, data::guard::guard,
};
use tokio::sync::oneshot;

use crate::{admission::Places, metrics::Metrics, problem::Problem};

/// A result with the time it took.
#[derive(Debug)]
pub struct Answered<T> {
    pub result: T,
    /// The time from the end of decoding to the start of computing.
    pub queue: Duration,
    /// The time of computing the batch.
    pub model: Duration,
}

/// Receives the answer.
pub type Reply<T> = oneshot::Sender<Result<Answered<T>, Problem>>;

/// What to compute.
#[derive(Debug)]
pub enum Work {
    Predict { image: Preprocessed, answer: Reply<Prediction> },
    Explain { image: Preprocessed, options: Explain, answer: Reply<Explanation> },
}

impl Work {
    /// Returns whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Predict { answer, .. } => answer.is_closed(),
            Self::Explain { answer, .. } => answer.is_closed(),
        }
    }
}

#[derive(Debug)]
struct Job {
    work: Work,
    /// Free for others when the work is done.
    places: Places,
    queued: Instant,
}

/// Sends work to the thread. The thread ends when all clones are dropped, after the work that was sent.
#[derive(Clone, Debug)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(classifier: Classifier, max_batch: usize, metrics: Metrics) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let mut model = Loop { classifier, max_batch, metrics, receiver, waiting: VecDeque::new() };
        thread::Builder::new().name("model".into()).spawn(move || while model.step() {})?;
        Ok(Self { jobs })
    }

    /// Queues work. The number of jobs is limited by their places.
    pub fn send(&self, work: Work, places: Places) {
        // If the thread has ended, the answer's sender is dropped, which its receiver reports.
        let _ = self.jobs.send(Job { work, places, queued: Instant::now() });
    }
}

struct Loop {
    classifier: Classifier,
    max_batch: usize,
    metrics: Metrics,
    receiver: mpsc::Receiver<Job>,
    /// Jobs that were received and not yet computed.
    waiting: VecDeque<Job>,
}

impl Loop {
    /// Computes the next batch of predictions, or the next explanation. Returns whether there can
    /// be more work.
    fn step(&mut self) -> bool {
        if self.waiting.is_empty() {
            match self.receiver.recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(mpsc::RecvError) => return false,
            }
        }
        self.waiting.extend(self.receiver.try_iter());
        self.waiting.retain(|job| !job.work.is_abandoned());
        // The oldest job decides what is computed, so that no kind of work starves the other.
        match self.waiting.pop_front() {
            None => {}
            Some(Job { work: Work::Explain { image, options, answer }, places, queued }) => {
                self.explain(image, &options, answer, queued);
                drop(places);
            }
            Some(first) => {
                self.waiting.push_front(first);
                self.predict();
            }
        }
        true
    }

    fn explain(
        &mut self,
        image: Preprocessed,
        options: &Explain,
        answer: Reply<Explanation>,
        queued: Instant,
    ) {
        let classifier = &mut self.classifier;
        let start = Instant::now();
        let queue = start.saturating_duration_since(queued);
        let computed = guarded(|| classifier.explain_preprocessed(image, options));
        let model = start.elapsed();
        self.metrics.waited(queue);
        self.metrics.computed_explanation(model);
        let _ = answer.send(computed.map(|result| Answered { result, queue, model }));
    }

    fn predict(&mut self) {
        let (mut images, mut answers, mut others) = (vec![], vec![], VecDeque::new());
        while images.len() < self.max_batch
            && let Some(job) = self.waiting.pop_front()
        {
            match job {
                Job { work: Work::Predict { image, answer }, places, queued } => {
                    images.push(image);
                    answers.push((answer, places, queued));
                }
                job => others.push_back(job),
            }
        }
        others.append(&mut self.waiting);
        self.waiting = others;
        let classifier = &mut self.classifier;
        let start = Instant::now();
        let results = guarded(|| classifier.predict_preprocessed(images));
        let model = start.elapsed();
        self.metrics.computed_batch(answers.len(), model);
        let mut results = match results {
            Ok(results) => {
                results.into_iter().map(|result| result.map_err(Problem::from)).collect()
            }
            Err(problem) => vec![Err(problem); answers.len()],
        }
        .into_iter();
        for (answer, places, queued) in answers {
            let queue = start.saturating_duration_since(queued);
            self.metrics.waited(queue);
            // There is one result per image.
            let result = results.next().unwrap_or_else(|| Err(Problem::internal("no result")));
            let _ = answer.send(result.map(|result| Answered { result, queue, model }));
            drop(places);
        }
    }
}

/// Turns a panic of an engine into an error, so that the thread goes on.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T, Problem> {
    match guard(work) {
        Ok(result) => result.map_err(Problem::from),
        Err(panic) => {
            tracing::error!(error = panic, "the engine failed");
            Err(Problem::internal(format!("the engine failed: {panic}")))
        }
    }
}
