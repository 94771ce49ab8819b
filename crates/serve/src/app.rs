//! What all requests share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alexnet::{
    Classifier, Explain, Explanation, Prediction, Preprocessed, Preprocessor,
    data::guard::guard,
    image::{DynamicImage, RgbImage},
};
use axum::{body::Bytes, http::StatusCode};
use futures_util::future::join_all;
use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{
    ServeConfig,
    admission::{Bodies, Places, Queue},
    hosts::Hosts,
    info::Info,
    metrics::Metrics,
    problem::Problem,
    worker::{Answered, Reply, Work, Worker},
};

/// [`App`], shared by all requests.
pub type Shared = Arc<App>;

/// The state of a server.
pub struct App {
    pub config: ServeConfig,
    pub info: Info,
    pub hosts: Arc<Hosts>,
    pub metrics: Metrics,
    queue: Queue,
    pub bodies: Bodies,
    preprocessor: Preprocessor,
    worker: Worker,
    draining: AtomicBool,
}

impl App {
    /// Starts the thread of the classifier.
    pub fn new(classifier: Classifier, config: ServeConfig) -> std::io::Result<Self> {
        let metrics = Metrics::default();
        let mut preprocessor = classifier.preprocessor();
        preprocessor.decoding.max_pixels = config.max_pixels;
        Ok(Self {
            info: Info::new(&classifier, &config),
            hosts: Arc::new(Hosts::new(
                config.allowed_hosts.iter().cloned().chain([config.host.clone()]),
            )),
            queue: Queue::new(config.queue),
            bodies: Bodies::new(config.max_bodies),
            worker: Worker::start(classifier, config.max_batch, metrics.clone())?,
            preprocessor,
            metrics,
            config,
            draining: AtomicBool::new(false),
        })
    }

    /// Returns the number of accepted images that are not yet answered.
    pub fn queued(&self) -> usize {
        self.queue.used()
    }

    /// Marks the server as one that takes no new connections.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the server takes requests.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Returns the time by which a request has to be answered whose body has been received.
    fn deadline(&self) -> Instant {
        Instant::now() + self.config.answer_timeout
    }

    /// Classifies the images of a request. Returns one result per image: an error if the image
    /// cannot be read, the network fails, or the answer takes too long.
    ///
    /// # Errors
    /// If the queue has no places for the images.
    pub async fn predict(
        &self,
        images: Vec<Image>,
    ) -> Result<Vec<Result<Answered<Prediction>, Problem>>, Problem> {
        let mut places = self.queue.admit(images.len())?;
        let deadline = self.deadline();
        let answers = images.into_iter().map(|image| {
            let place = places.split_one();
            async move {
                let place = place.ok_or_else(|| Problem::internal("no place"))?;
                let work = |image, answer| Work::Predict { image, answer };
                self.answer(image, place, deadline, work).await
            }
        });
        Ok(join_all(answers).await)
    }

    /// Explains the prediction of an image.
    ///
    /// # Errors
    /// If the queue has no places for the explanation, the image cannot be read, the network fails,
    /// or the answer takes too long.
    pub async fn explain(
        &self,
        image: Image,
        options: Explain,
    ) -> Result<Answered<Explanation>, Problem> {
        let places = self.queue.admit(options.method.cost(self.info.input_size))?;
        let work = move |image, answer| Work::Explain { image, options, answer };
        self.answer(image, places, self.deadline(), work).await
    }

    /// Decodes an image on a thread for blocking work and has the worker compute its answer.
    async fn answer<T: Send + 'static>(
        &self,
        image: Image,
        places: Places,
        deadline: Instant,
        work: impl FnOnce(Preprocessed, Reply<T>) -> Work + Send + 'static,
    ) -> Result<Answered<T>, Problem> {
        let (sender, receiver) = oneshot::channel();
        let (preprocessor, worker) = (self.preprocessor, self.worker.clone());
        spawn_blocking(move || {
            // The client has gone, or its time is over.
            if sender.is_closed() {
                return;
            }
            let image = guard(|| image.preprocess(&preprocessor)).unwrap_or_else(|panic| {
                Err(Problem::internal(format!("reading the image failed: {panic}")))
            });
            match image {
                Ok(image) => worker.send(work(image, sender), places),
                Err(problem) => drop(sender.send(Err(problem))),
            }
        });
        let answer = timeout_at(deadline, receiver).await.map_err(|_| {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "computing the answer took too long")
        })?;
        answer.unwrap_or_else(|_| Err(Problem::internal("the network has stopped")))
    }
}

/// An image of a request.
#[derive(Clone, Debug)]
pub enum Image {
    /// The bytes of an image file.
    File(Bytes),
    /// `[height, width, 3]`, RGB.
    Pixels(RgbImage),
}

impl Image {
    fn preprocess(self, preprocessor: &Preprocessor) -> Result<Preprocessed, Problem> {
        Ok(match self {
            Self::File(bytes) => preprocessor.preprocess(&bytes[..])?,
            Self::Pixels(image) => {
                let ((width, height), limit) =
                    (image.dimensions(), preprocessor.decoding.max_pixels);
                if u64::from(width) * u64::from(height) > limit {
                    let message = format!(
                        "it has {width}×{height} pixels, and the limit is {limit} in total"
                    );
                    return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message));
                }
                preprocessor.preprocess(&DynamicImage::from(image))?
            }
        })
    }
}
