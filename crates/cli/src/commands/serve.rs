//! `alexnet serve`: answers requests over HTTP.

use std::{io, time::Duration};

use alexnet::core::text::shown_path;
use alexnet_serve::{Error, ServeConfig, Server};
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;

use crate::{console::Console, options::ClassifierOptions, parse};

/// Serve predictions and explanations over HTTP, with a web page
///
/// The server has no encryption and no authentication: put it behind a proxy that has them before
/// others can reach it. `docs/serve.md` describes its interface. SIGTERM and Ctrl-C stop it after it
/// has answered the accepted requests.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listen: Listen,
    /// Format of the log on stderr, one line per request
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    log: Log,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    classifier: ClassifierOptions,
}

/// Where the server listens.
#[derive(Clone, Debug, clap::Args)]
struct Listen {
    /// IP address or host name to listen on; 0.0.0.0 for all IPv4 addresses of this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = ServeConfig::default().host)]
    host: String,
    /// Port to listen on; 0 for a free one
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().port)]
    port: u16,
    /// Accept requests with this host name too; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

/// Limits of requests.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Images that the network computes at once
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().max_batch, value_parser = parse::between(1usize, 4096))]
    max_batch: usize,
    /// Images that are accepted and not yet answered; further requests get status 503
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().queue, value_parser = parse::between(1usize, 1_000_000))]
    queue: usize,
    /// Body of a request in MiB
    #[arg(long, value_name = "MIB", default_value_t = ServeConfig::default().max_body >> 20, value_parser = parse::between(1usize, 1024))]
    max_body: usize,
    /// Images in a request [default: 32, or the queue if it is smaller]
    #[arg(long, value_name = "N", value_parser = parse::between(1usize, 1_000_000))]
    max_images: Option<usize>,
    /// Pixels of an image in millions
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().max_pixels / 1_000_000, value_parser = parse::between(1u64, 67))]
    max_megapixels: u64,
    /// Open connections; others wait
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().max_connections, value_parser = parse::between(1usize, 1_000_000))]
    max_connections: usize,
    /// Seconds to receive the headers of a request
    #[arg(long, value_name = "SECONDS", default_value_t = ServeConfig::default().header_timeout.as_secs(), value_parser = parse::between(1u64, 3600))]
    header_timeout: u64,
    /// Seconds to receive the body of a request
    #[arg(long, value_name = "SECONDS", default_value_t = ServeConfig::default().body_timeout.as_secs(), value_parser = parse::between(1u64, 3600))]
    body_timeout: u64,
    /// Seconds to answer a request
    #[arg(long, value_name = "SECONDS", default_value_t = ServeConfig::default().answer_timeout.as_secs(), value_parser = parse::between(1u64, 3600))]
    answer_timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Log {
    /// For readers
    Text,
    /// One JSON object per line
    Json,
}

impl Args {
    fn config(&self) -> ServeConfig {
        let Listen { host, port, allow_host } = self.listen.clone();
        let limits = self.limits.clone();
        let max_body = limits.max_body << 20;
        let defaults = ServeConfig::default();
        ServeConfig {
            host,
            port,
            allowed_hosts: allow_host,
            max_batch: limits.max_batch,
            queue: limits.queue,
            max_body,
            max_bodies: defaults.max_bodies.max(2 * max_body),
            max_images: limits.max_images.unwrap_or(defaults.max_images.min(limits.queue)),
            max_pixels: limits.max_megapixels * 1_000_000,
            max_connections: limits.max_connections,
            header_timeout: Duration::from_secs(limits.header_timeout),
            body_timeout: Duration::from_secs(limits.body_timeout),
            answer_timeout: Duration::from_secs(limits.answer_timeout),
        }
    }
}

impl Log {
    /// Writes the log of this process to stderr.
    fn start(self) {
        let log = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false);
        match self {
            Self::Text => log.with_ansi(false).init(),
            Self::Json => log.json().flatten_event(true).with_current_span(false).init(),
        }
    }
}

/// Runs the command until a signal stops it.
///
/// # Errors
/// If the weights cannot be read or the address cannot be used.
pub fn run(args: &Args) -> Result<()> {
    let mut console = Console::default();
    let classifier = args.classifier.load(&mut console)?;
    let name = classifier.engine().backend.name();
    let served = format!("{} on the engine `{name}`", shown_path(classifier.path()));
    let server = Server::bind(classifier, args.config()).map_err(|error| match error {
        Error::Core(error) => error.into(),
        Error::Listen { error: ref cause, .. } if cause.kind() == io::ErrorKind::AddrInUse => {
            anyhow!("{error}; choose another port with `--port`")
        }
        error => error.into(),
    })?;
    let address = server.address();
    say!("serving {served} at http://{address}")?;
    if !address.ip().is_loopback() {
        note!("note: other machines can reach the server; it has no encryption and no passwords");
    }
    args.log.start();
    server.run().context("the server has stopped")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_options_have_the_defaults_of_the_library() {
        let config = Program::parse_from(["alexnet"]).args.config();
        assert_eq!(format!("{config:?}"), format!("{:?}", ServeConfig::default()));
        assert!(config.host.parse::<IpAddr>().unwrap().is_loopback());
    }
}
