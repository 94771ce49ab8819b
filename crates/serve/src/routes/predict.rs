//! `POST /predict`: the most probable classes of images.

use alexnet::{ClassProbability, Prediction};
use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::Shared,
    body::{Named, receive},
    observe::Served,
    problem::{ErrorBody, Problem},
};

/// The default number of classes.
const TOP: u16 = 5;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// Number of classes in `top`
    #[param(minimum = 1, maximum = 65535, default = 5)]
    topk: Option<u16>,
}

/// The result for one image
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Answer {
    /// The most probable classes
    #[schema(title = "Classes")]
    Classes {
        /// The name of the file; `-` for a body without a name
        path: String,
        /// The most probable class
        class: String,
        /// Its probability
        probability: f64,
        /// The most probable classes, sorted
        top: Vec<Class>,
        /// Damage of the file that did not prevent reading it
        #[serde(skip_serializing_if = "Vec::is_empty")]
        damage: Vec<String>,
    },
    /// The image cannot be read
    #[schema(title = "Failed")]
    Failed {
        /// The name of the file
        path: String,
        /// The reason
        error: String,
    },
}

/// A class and its probability
#[derive(Debug, Serialize, ToSchema)]
pub struct Class {
    /// Its name
    class: String,
    /// From 0 to 1
    probability: f64,
}

/// An image file
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes a body in the OpenAPI document")]
pub struct ImageFile(Vec<u8>);

/// Several image files, each a field of the form
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form in the OpenAPI document")]
struct Form {
    /// Image files
    #[schema(value_type = Vec<String>, format = Binary)]
    image: Vec<Vec<u8>>,
}

/// Classify images
///
/// The body is an image file (JPEG, PNG, GIF, BMP, TIFF, WebP, PNM), or `multipart/form-data` with
/// several of them. If no image can be read, the status is 422.
#[utoipa::path(
    post, path = "/predict", tag = "alexnet", params(Options),
    request_body(content(
        (ImageFile = "application/octet-stream"),
        (Form = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "One result per image", body = Vec<Answer>),
        (status = 400, description = "The request has no image, the form is damaged, or an option is not valid", body = ErrorBody),
        (status = 403, description = "Foreign host name or origin", body = ErrorBody),
        (status = 408, description = "The body came too slowly", body = ErrorBody),
        (status = 413, description = "The body is too large, or there are too many images", body = ErrorBody),
        (status = 415, description = "The body is compressed", body = ErrorBody),
        (status = 422, description = "No image can be read", body = Vec<Answer>),
        (status = 503, description = "The queue or the memory for bodies is full", body = ErrorBody),
        (status = 504, description = "The answer took too long", body = ErrorBody),
    )
)]
pub async fn predict(
    State(app): State<Shared>,
    options: Result<Query<Options>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let top = number_of_classes(options)?;
    let received = receive(&app, request).await?;
    let images = received.images(&app).await?;
    let (names, images): (Vec<_>, Vec<_>) =
        images.into_iter().map(|Named { name, image }| (name, image)).unzip();
    let (mut work, mut rows) = (Served::default(), vec![]);
    for (path, answer) in names.into_iter().zip(app.predict(images).await?) {
        rows.push(match answer {
            Ok(answered) => {
                work.add(answered.queue, answered.model);
                classes(path, &answered.result, top)
            }
            Err(Problem { status: StatusCode::UNPROCESSABLE_ENTITY, message }) => {
                Answer::Failed { path, error: message }
            }
            Err(problem) => return Err(problem),
        });
    }
    let status = if work.images == 0 { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let mut response = (status, Json(rows)).into_response();
    response.extensions_mut().insert(work);
    Ok(response)
}

fn number_of_classes(options: Result<Query<Options>, QueryRejection>) -> Result<usize, Problem> {
    let Query(Options { topk }) =
        options.map_err(|error| Problem::bad_request(error.body_text()))?;
    match topk {
        Some(0) => Err(Problem::bad_request("`topk` must be at least 1")),
        topk => Ok(usize::from(topk.unwrap_or(TOP))),
    }
}

fn classes(path: String, prediction: &Prediction, top: usize) -> Answer {
    let class = |ClassProbability { name, probability, .. }: &ClassProbability| Class {
        class: name.clone(),
        probability: *probability,
    };
    let Class { class: best, probability } = class(prediction.best());
    let top = prediction.top(top).iter().map(class).collect();
    Answer::Classes { path, class: best, probability, top, damage: prediction.damage.clone() }
}
