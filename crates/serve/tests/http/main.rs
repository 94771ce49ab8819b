//! Tests of the server over HTTP, in this process.

mod explain;
mod inference;
mod limits;
mod operation;
mod predict;
mod requests;

use std::{
    io::Cursor,
    net::SocketAddr,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use alexnet::{
    Classifier,
    core::{
        ExifOrientation, Normalization,
        alexnet::Variant,
        init::{Init, initialize},
        weights::{Metadata, Weights},
    },
    image::{DynamicImage, ImageFormat, RgbImage},
};
use alexnet_serve::{ServeConfig, Server};
use serde_json::Value;

const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// Returns a classifier with initial weights.
fn classifier() -> Classifier {
    static LOADING: Mutex<()> = Mutex::new(());
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let topology = Variant::Tutorial.topology(CLASSES.len());
        let metadata = Metadata {
            variant: Variant::Tutorial,
            classes: CLASSES.map(String::from).to_vec(),
            input_size: topology.input[1],
            resize_crop: None,
            normalization: Normalization::HALF,
            exif_orientation: ExifOrientation::Apply,
            precision: Default::default(),
        };
        let parameters = initialize(&topology, Init::Pytorch, 0).unwrap().parameters;
        Weights { metadata, parameters }.save(folder.path().join("w.safetensors")).unwrap();
        folder
    });
    Classifier::load(folder.path().join("w.safetensors")).unwrap()
}

/// Starts a server that runs until the process ends.
fn start(config: ServeConfig) -> SocketAddr {
    let config = ServeConfig { port: 0, ..config };
    let server = Server::bind(classifier(), config).unwrap();
    let address = server.address();
    thread::spawn(|| server.run().unwrap());
    address
}

/// Returns the address of a server with the default settings, which the tests share.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| start(ServeConfig::default()))
}

/// Returns a PNG file whose pixels depend on `seed`.
fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| [x * (seed + 3), y * (seed + 7), x * y + seed].map(|v| v as u8);
    let image = RgbImage::from_fn(width, height, |x, y| pixel(x, y).into());
    let mut file = Cursor::new(vec![]);
    DynamicImage::from(image).write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// Returns the message of an error.
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body_mut().read_to_vec().unwrap(),
    }
}

fn get(server: SocketAddr, path: &str) -> Answer {
    answer(agent().get(format!("http://{server}{path}")).call())
}

fn post(server: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = agent().post(format!("http://{server}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.send(body))
}
