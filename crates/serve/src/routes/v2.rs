//! The Open Inference Protocol, version 2, over REST
//! (<https://github.com/open-inference/open-inference-protocol>), with the extension for binary
//! tensors that Triton's clients use.
//!
//! The model `alexnet` takes one of two inputs: `image` (`BYTES`, `[n]`), the bytes of image files,
//! or `pixels` (`UINT8`, `[n, height, width, 3]`), RGB images of any size. Its outputs are
//! `probabilities` (`FP64`, `[n, classes]`) and `class` (`BYTES`, `[n]`), the name of the most
//! probable class.

mod elements;
mod message;
mod tensor;

use axum::{
    Json,
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    message::{InferRequest, InferResponse, MODEL, Requested, VERSION},
    tensor::images,
};
use crate::{
    app::Shared,
    body::receive,
    observe::Served,
    problem::{ErrorBody, Problem},
};

/// Largest number of bytes of the id of a request, which its response repeats.
const MAX_ID: usize = 256;

/// The header that separates the JSON part of a body from binary tensors: the length of the JSON
/// part in bytes.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Returns the routes of the protocol. Those of the model exist with and without its version.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(server))
        .routes(routes!(live))
        .routes(routes!(ready))
        .nest("/v2/models/{model}", model_routes())
        .nest("/v2/models/{model}/versions/{version}", versioned_routes())
}

fn model_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(model)).routes(routes!(model_ready)).routes(routes!(infer))
}

/// Returns the routes of the model, with the version of the path in their descriptions.
fn versioned_routes() -> OpenApiRouter<Shared> {
    let mut routes = model_routes();
    let version = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([VERSION]));
    let version = ParameterBuilder::new()
        .name("version")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(version))
        .build();
    for path in routes.get_openapi_mut().paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            operation.operation_id =
                operation.operation_id.take().map(|id| format!("versioned_{id}"));
            operation.parameters.get_or_insert_default().push(version.clone().into());
        }
    }
    routes
}

/// The model of a path, which exists: the only one is `alexnet` with the version `1`.
struct Model;

impl<S: Send + Sync> FromRequestParts<S> for Model {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Named {
            model: String,
            version: Option<String>,
        }
        let Path(Named { model, version }) = Path::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let message = if model != MODEL {
            format!("there is no such model; there is `{MODEL}`")
        } else if version.is_some_and(|version| version != VERSION) {
            format!("there is no such version; there is `{VERSION}`")
        } else {
            return Ok(Self);
        };
        Err(Problem::new(StatusCode::NOT_FOUND, message))
    }
}

/// The names of models, for the OpenAPI document.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes a part of paths in the OpenAPI document")]
enum ModelName {
    Alexnet,
}

#[derive(Serialize, ToSchema)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: Vec<&'static str>,
}

#[derive(Serialize, ToSchema)]
struct Live {
    live: bool,
}

#[derive(Serialize, ToSchema)]
struct Ready {
    ready: bool,
}

#[derive(Serialize, ToSchema)]
struct ModelReady {
    name: &'static str,
    ready: bool,
}

#[derive(Serialize, ToSchema)]
struct ModelMetadata {
    name: &'static str,
    versions: Vec<&'static str>,
    platform: String,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize, ToSchema)]
struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    /// -1 stands for any size
    shape: Vec<i64>,
}

/// The server's metadata
#[utoipa::path(get, path = "/v2", tag = "v2", responses((status = 200, body = ServerMetadata)))]
async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: MODEL,
        version: env!("CARGO_PKG_VERSION"),
        extensions: vec!["binary_tensor_data"],
    })
}

/// Whether the process answers
#[utoipa::path(get, path = "/v2/health/live", tag = "v2", responses((status = 200, body = Live)))]
async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the server takes requests
#[utoipa::path(
    get, path = "/v2/health/ready", tag = "v2",
    responses((status = 200, body = Ready), (status = 503, body = Ready))
)]
async fn ready(State(app): State<Shared>) -> (StatusCode, Json<Ready>) {
    let ready = app.is_ready();
    (status(ready), Json(Ready { ready }))
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// The model's inputs and outputs; the only model is `alexnet`
#[utoipa::path(
    get, path = "/", tag = "v2", params(("model" = inline(ModelName), Path)),
    responses((status = 200, body = ModelMetadata), (status = 404, body = ErrorBody))
)]
async fn model(State(app): State<Shared>, _: Model) -> Json<ModelMetadata> {
    let tensor =
        |name, datatype, shape: &[i64]| TensorMetadata { name, datatype, shape: shape.into() };
    Json(ModelMetadata {
        name: MODEL,
        versions: vec![VERSION],
        platform: format!("alexnet_{}", app.info.engine),
        inputs: vec![
            tensor(tensor::IMAGE, "BYTES", &[-1]),
            tensor(tensor::PIXELS, "UINT8", &[-1, -1, -1, 3]),
        ],
        outputs: vec![
            tensor(message::PROBABILITIES, "FP64", &[-1, app.info.classes.len() as i64]),
            tensor(message::CLASS, "BYTES", &[-1]),
        ],
    })
}

/// Whether the model takes requests
#[utoipa::path(
    get, path = "/ready", tag = "v2", params(("model" = inline(ModelName), Path)),
    responses(
        (status = 200, body = ModelReady), (status = 404, body = ErrorBody),
        (status = 503, body = ModelReady)
    )
)]
async fn model_ready(State(app): State<Shared>, _: Model) -> (StatusCode, Json<ModelReady>) {
    let ready = app.is_ready();
    (status(ready), Json(ModelReady { name: MODEL, ready }))
}

/// Infer
///
/// The request has one of the inputs `image` and `pixels`. In JSON, the elements of `image` are
/// image files in base64. With the header `Inference-Header-Content-Length`, binary tensors follow
/// the JSON part.
#[utoipa::path(
    post, path = "/infer", tag = "v2", params(("model" = inline(ModelName), Path)),
    request_body(content = InferRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The outputs", body = InferResponse),
        (status = 400, description = "The request is not valid", body = ErrorBody),
        (status = 403, description = "Foreign host name or origin", body = ErrorBody),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 408, description = "The body came too slowly", body = ErrorBody),
        (status = 413, description = "The body is too large, or there are too many images", body = ErrorBody),
        (status = 415, description = "The body is compressed", body = ErrorBody),
        (status = 422, description = "An image cannot be read", body = ErrorBody),
        (status = 503, description = "The queue or the memory for bodies is full", body = ErrorBody),
        (status = 504, description = "The answer took too long", body = ErrorBody),
    )
)]
async fn infer(State(app): State<Shared>, _: Model, request: Request) -> Result<Response, Problem> {
    let received = receive(&app, request).await?;
    let (json, binary) = match received.headers.get(JSON_LENGTH) {
        None => (received.bytes.clone(), received.bytes.slice(received.bytes.len()..)),
        Some(length) => {
            let length = length.to_str().ok().and_then(|length| length.parse::<usize>().ok());
            let length = length.filter(|length| *length <= received.bytes.len());
            let length = length.ok_or_else(|| {
                Problem::bad_request(format!("`{JSON_LENGTH}` must be a length within the body"))
            })?;
            (received.bytes.slice(..length), received.bytes.slice(length..))
        }
    };
    let request: InferRequest = serde_json::from_slice(&json)
        .map_err(|error| Problem::bad_request(format!("the request is not valid: {error}")))?;
    if request.id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
        return Err(Problem::bad_request(format!("`id` has more than {MAX_ID} bytes")));
    }
    let (id, requested) = (request.id.clone(), Requested::of(&request)?);
    let images = images(request, binary, app.config.max_images)?;
    let (mut work, mut predictions) = (Served::default(), vec![]);
    for (answer, number) in app.predict(images).await?.into_iter().zip(1..) {
        let answered = answer.map_err(|Problem { status, message }| {
            Problem::new(status, format!("image {number}: {message}"))
        })?;
        work.add(answered.queue, answered.model);
        predictions.push(answered.result);
    }
    let (response, binary) =
        InferResponse::new(id, &requested, &predictions, app.info.classes.len());
    let mut body = serde_json::to_vec(&response)
        .map_err(|error| Problem::internal(format!("cannot write the response: {error}")))?;
    let mut response = if binary.is_empty() {
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
    } else {
        let length = HeaderValue::from(body.len());
        body.extend(binary);
        let binary = HeaderValue::from_static("application/octet-stream");
        ([(CONTENT_TYPE, binary), (JSON_LENGTH, length)], body).into_response()
    };
    response.extensions_mut().insert(work);
    Ok(response)
}
