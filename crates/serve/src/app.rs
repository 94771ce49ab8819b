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
use axum::body::Bytes;
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
    worker::{Answered, Work, Worker},
};

/// [`App`], shared by all requests.
pub type Shared = Arc<App>;

/// The state of a server.
pub struct App {
    pub config: ServeConfig,
    pub info: Info,
    pub hosts: Arc<Hosts>,
    pub metrics: Metrics,
    pub queue: Queue,
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

    /// Marks the server as one that takes no new connections.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the server takes requests.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Returns the time by which a request has to be answered whose body has been received.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.config.answer_timeout
    }

    /// Classifies an image.
    ///
    /// # Errors
    /// If the image cannot be read, the network fails, or the answer takes too long.
    pub async fn predict(
        &self,
        image: Image,
        places: Places,
        deadline: Instant,
    ) -> Result<Answered<Prediction>, Problem> {
        let work = |image, answer| Work::Predict { image, answer };
        self.answer(image, places, deadline, work).await
    }

    /// Explains the prediction of an image.
    ///
    /// # Errors
    /// As [`App::predict`].
    pub async fn explain(
        &self,
        image: Image,
        options: Explain,
        places: Places,
        deadline: Instant,
    ) -> Result<Answered<Explanation>, Problem> {
        let work = move |image, answer| Work::Explain { image, options, answer };
        self.answer(image, places, deadline, work).await
    }

    /// Decodes an image on a thread for blocking work and has the worker compute its answer.
    async fn answer<T>(
        &self,
        image: Image,
        places: Places,
        deadline: Instant,
        work: impl FnOnce(Preprocessed, oneshot::Sender<Result<Answered<T>, Problem>>) -> Work,
    ) -> Result<Answered<T>, Problem> {
        let answer = async {
            let preprocessor = self.preprocessor;
            let decode = move || {
                // The places are held while decoding even if the client has gone.
                let image = guard(|| image.preprocess(&preprocessor));
                (image, places)
            };
            let (image, places) = spawn_blocking(decode)
                .await
                .map_err(|error| Problem::internal(error.to_string()))?;
            let image = image.unwrap_or_else(|panic| {
                Err(Problem::internal(format!("reading the image failed: {panic}")))
            })?;
            let (sender, receiver) = oneshot::channel();
            self.worker.send(work(image, sender), places);
            receiver.await.unwrap_or_else(|_| Err(Problem::internal("the network has stopped")))
        };
        timeout_at(deadline, answer).await.unwrap_or_else(|_| {
            let status = axum::http::StatusCode::GATEWAY_TIMEOUT;
            Err(Problem::new(status, "computing the answer took too long"))
        })
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
            Self::Pixels(image) => preprocessor.preprocess(&DynamicImage::from(image))?,
        })
    }
}
