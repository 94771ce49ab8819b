//! The messages of an inference.

use alexnet::Prediction;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::elements::{Elements, few, few_or_null};
use crate::problem::Problem;

/// The name of the model.
pub const MODEL: &str = "alexnet";
/// The version of the model.
pub const VERSION: &str = "1";

/// The output with the probabilities of all classes.
pub const PROBABILITIES: &str = "probabilities";
/// The output with the name of the most probable class.
pub const CLASS: &str = "class";

/// A request
#[derive(Debug, Deserialize, ToSchema)]
pub struct InferRequest {
    /// An id that the response repeats
    pub id: Option<String>,
    parameters: Option<Parameters>,
    /// One input
    #[serde(deserialize_with = "few")]
    #[schema(min_items = 1, max_items = 1)]
    pub inputs: Vec<Input>,
    /// The outputs that the response has, each once; the default is all
    #[serde(default, deserialize_with = "few_or_null")]
    #[schema(max_items = 2)]
    outputs: Option<Vec<Output>>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Parameters {
    /// Whether outputs are binary, unless they say otherwise
    binary_data_output: Option<bool>,
}

/// An input
#[derive(Debug, Deserialize, ToSchema)]
pub struct Input {
    /// `image` or `pixels`
    pub name: String,
    /// `[n]` for `image`, `[n, height, width, 3]` for `pixels`
    #[serde(deserialize_with = "few")]
    #[schema(max_items = 4)]
    pub shape: Vec<usize>,
    /// `BYTES` for `image`, `UINT8` for `pixels`
    pub datatype: String,
    pub parameters: Option<InputParameters>,
    /// The elements in row-major order, flat or nested
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    pub data: Option<Elements>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct InputParameters {
    /// The number of bytes of the input after the JSON part
    pub binary_data_size: Option<usize>,
}

/// An output that is requested
#[derive(Debug, Deserialize, ToSchema)]
struct Output {
    /// `probabilities` or `class`
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct OutputParameters {
    /// Whether the output is binary
    binary_data: Option<bool>,
}

/// The requested outputs, each with whether it is binary.
#[derive(Debug)]
pub struct Requested(Vec<(&'static str, bool)>);

impl Requested {
    /// Returns the outputs of a request.
    ///
    /// # Errors
    /// If an output does not exist or is requested twice.
    pub fn of(request: &InferRequest) -> Result<Self, Problem> {
        let binary = request.parameters.as_ref().and_then(|p| p.binary_data_output);
        let binary = binary.unwrap_or_default();
        let outputs = request.outputs.as_deref().unwrap_or_default();
        if outputs.is_empty() {
            return Ok(Self(vec![(PROBABILITIES, binary), (CLASS, binary)]));
        }
        let mut requested = vec![];
        for Output { name, parameters } in outputs {
            let known = [PROBABILITIES, CLASS].into_iter().find(|known| known == name);
            let known = known.filter(|known| requested.iter().all(|(other, _)| other != known));
            let name = known.ok_or_else(|| {
                let message = format!("the outputs are `{PROBABILITIES}` and `{CLASS}`, each once");
                Problem::bad_request(message)
            })?;
            let own = parameters.as_ref().and_then(|parameters| parameters.binary_data);
            requested.push((name, own.unwrap_or(binary)));
        }
        Ok(Self(requested))
    }
}

/// A response
#[derive(Debug, Serialize, ToSchema)]
pub struct InferResponse {
    model_name: &'static str,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<Computed>,
}

/// An output
#[derive(Debug, Serialize, ToSchema)]
struct Computed {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Values>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Binary {
    binary_data_size: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Values {
    Probabilities(Vec<f64>),
    Classes(Vec<String>),
}

impl Values {
    /// Returns little-endian numbers, or texts with their length in four bytes before each.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Probabilities(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::Classes(names) => {
                let element = |name: &String| {
                    let length = (name.len() as u32).to_le_bytes();
                    [&length[..], name.as_bytes()].concat()
                };
                names.iter().flat_map(element).collect()
            }
        }
    }
}

impl InferResponse {
    /// Returns the JSON part of a response, and the binary outputs that follow it.
    pub fn new(
        id: Option<String>,
        requested: &Requested,
        predictions: &[Prediction],
        classes: usize,
    ) -> (Self, Vec<u8>) {
        let mut after = vec![];
        let outputs = requested.0.iter().map(|(name, is_binary)| {
            let images = predictions.len();
            let (datatype, shape, values) = if *name == PROBABILITIES {
                let values = predictions.iter().flat_map(|p| probabilities(p, classes)).collect();
                ("FP64", vec![images, classes], Values::Probabilities(values))
            } else {
                let names = predictions.iter().map(|p| p.best().name.clone()).collect();
                ("BYTES", vec![images], Values::Classes(names))
            };
            let (parameters, data) = if *is_binary {
                let bytes = values.to_bytes();
                let binary_data_size = bytes.len();
                after.extend(bytes);
                (Some(Binary { binary_data_size }), None)
            } else {
                (None, Some(values))
            };
            Computed { name, datatype, shape, parameters, data }
        });
        let outputs = outputs.collect();
        (Self { model_name: MODEL, model_version: VERSION, id, outputs }, after)
    }
}

/// Returns the probabilities in the order of the network's outputs.
fn probabilities(prediction: &Prediction, classes: usize) -> Vec<f64> {
    let mut values = vec![0.0; classes];
    for class in prediction.classes() {
        if let Some(value) = values.get_mut(class.index) {
            *value = class.probability;
        }
    }
    values
}
