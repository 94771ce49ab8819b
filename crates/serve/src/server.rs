//! Accepts connections, with limits and timeouts, and stops without losing accepted requests.

use std::{
    future::Future, net::SocketAddr, pin::pin, sync::Arc, thread::available_parallelism,
    time::Duration,
};

use alexnet::Classifier;
use axum::{Router, body::Body, extract::Request};
use futures_util::FutureExt;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::{
    Error, Result, ServeConfig,
    app::{App, Shared},
    config::MAX_HEADER_BYTES,
    observe::Remote,
    routes,
};

/// Time that a client may take to read a part of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after a signal to stop in which requests on open connections are still read: a client may
/// have sent one that the server has not seen yet.
const GRACE: Duration = Duration::from_millis(500);

/// Time after which no connection waits to be accepted.
const BACKLOG: Duration = Duration::from_millis(10);

/// Threads that handle connections. They wait, copy and parse JSON; images are decoded by others.
const THREADS: usize = 2;

/// A server that listens and does not yet answer.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    app: Shared,
}

impl Server {
    /// Starts the thread of the classifier and listens on the address.
    ///
    /// # Errors
    /// If a setting is not valid, the address cannot be used, or threads cannot be started.
    pub fn bind(classifier: Classifier, config: ServeConfig) -> Result<Self> {
        config.check()?;
        let cores = available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            // These threads decode images.
            .max_blocking_threads(cores)
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        // An IPv6 address may be written as in a URL.
        let host = config.host.trim_start_matches('[').trim_end_matches(']');
        let listen = |error| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Error::Listen { address: format!("{host}:{}", config.port), error }
        };
        let bind = TcpListener::bind((host, config.port));
        let listener = runtime.block_on(bind).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let app = Arc::new(App::new(classifier, config).map_err(Error::Threads)?);
        Ok(Self { runtime, listener, address, app })
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the process receives SIGTERM or SIGINT (Ctrl-C). Then no more
    /// connections are accepted, all accepted requests are answered, and the function returns,
    /// at the latest after the times to receive, answer and read a request. A second signal stops
    /// the server at once.
    ///
    /// # Errors
    /// If the signals cannot be received.
    pub fn run(self) -> Result<()> {
        let Self { runtime, listener, app, .. } = self;
        // A client that reads a response slowly must not keep the server from stopping.
        let limit = app.config.body_timeout + app.config.answer_timeout + WRITE_TIMEOUT;
        let result = runtime.block_on(async {
            let mut signals = Signals::listen().map_err(Error::Threads)?;
            let connections = serve(listener, Arc::clone(&app), signals.next()).await;
            tracing::info!("stopping: answering the accepted requests");
            tokio::select! {
                () = sleep(GRACE).then(|()| connections.shutdown()) => {}
                () = sleep(limit) => tracing::warn!("closing connections that are still open"),
                () = signals.next() => {}
            }
            Ok(())
        });
        runtime.shutdown_background();
        result
    }
}

/// Accepts connections until `stop`. Returns the connections that are still open.
async fn serve(
    listener: TcpListener,
    app: Shared,
    stop: impl Future<Output = ()>,
) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let router = routes::router(Arc::clone(&app));
    let free = Arc::new(Semaphore::new(app.config.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(&free).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut stop => break,
            (accepted, place) = accept => match accepted {
                Ok((stream, remote)) => {
                    connect(stream, remote, &router, &app, &connections, place.ok());
                }
                // Too many open files, or a connection that was closed before it was accepted.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    app.drain();
    // Connections that the system has accepted may have sent their request already.
    let backlog = async {
        while let Ok(accepted) = timeout(BACKLOG, listener.accept()).await {
            if let Ok((stream, remote)) = accepted {
                connect(stream, remote, &router, &app, &connections, None);
            }
        }
    };
    let _ = timeout(GRACE, backlog).await;
    connections
}

/// Serves a connection in a task of its own. `place` is held until the connection is closed.
fn connect(
    stream: TcpStream,
    remote: SocketAddr,
    router: &Router,
    app: &Shared,
    connections: &GracefulShutdown,
    place: Option<OwnedSemaphorePermit>,
) {
    let config = &app.config;
    // Answers are small, and written at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let service = router.clone().map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Remote(remote));
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service));
    let connection = connections.watch(connection);
    let open = app.metrics.connection();
    tokio::spawn(async move {
        // Clients that go away or break the protocol are their own affair.
        let _ = connection.await;
        drop((open, place));
    });
}

/// The signals that stop the server.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
