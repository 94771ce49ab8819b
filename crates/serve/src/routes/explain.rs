//! `POST /explain`: the regions of an image that raise a class.

use std::io::Cursor;

use alexnet::{
    Explain, Explanation,
    explain::{ConvLayer, Method},
    image::{ImageFormat, RgbImage},
};
use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::{App, Shared},
    body::receive,
    observe::Served,
    problem::{ErrorBody, Problem},
    routes::predict::ImageFile,
};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// The method
    #[param(inline, value_type = Option<MethodName>)]
    method: Option<Method>,
    /// The convolutional layer of Grad-CAM
    #[param(inline, value_type = Option<LayerName>)]
    layer: Option<ConvLayer>,
    /// The class to explain; the default is the most probable class
    class: Option<String>,
    /// Whether the response has the values of the map
    values: Option<bool>,
}

/// The names of [`Method`], for the OpenAPI document.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "describes `Method` in the OpenAPI document")]
enum MethodName {
    Gradcam,
    Guided,
    GuidedGradcam,
    Occlusion,
}

/// The names of [`ConvLayer`], for the OpenAPI document.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes `ConvLayer` in the OpenAPI document")]
enum LayerName {
    Conv1,
    Conv2,
    Conv3,
    Conv4,
    Conv5,
}

/// An explanation
#[derive(Debug, Serialize, ToSchema)]
pub struct Explained {
    /// The explained class
    class: String,
    /// Its probability
    probability: f64,
    /// The most probable class
    predicted: String,
    /// The method
    method: &'static str,
    /// The layer of Grad-CAM; null for methods without one
    #[schema(required)]
    layer: Option<&'static str>,
    /// Whether a value of the map is positive
    positive_evidence: bool,
    /// The largest value of the map
    max: f32,
    /// Channels, height and width of the map
    shape: [usize; 3],
    /// The colors of the map (viridis) as a PNG of the size of the network's input, to be stretched
    /// over the whole image, or over its center if `resize_crop` of `/info` is a number; a data URL
    heatmap: String,
    /// The values of the map, row by row, if requested
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<f32>>,
}

/// Explain the prediction of an image
///
/// The body is one image file, as for `/predict`.
#[utoipa::path(
    post, path = "/explain", tag = "alexnet", params(Options),
    request_body(content = ImageFile, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The explanation", body = Explained),
        (status = 400, description = "The request has no image or several, or an option is not valid", body = ErrorBody),
        (status = 403, description = "Foreign host name or origin", body = ErrorBody),
        (status = 408, description = "The body came too slowly", body = ErrorBody),
        (status = 413, description = "The body is too large, or there are too many images", body = ErrorBody),
        (status = 415, description = "The body is compressed", body = ErrorBody),
        (status = 422, description = "The image cannot be read", body = ErrorBody),
        (status = 503, description = "The queue or the memory for bodies is full", body = ErrorBody),
        (status = 504, description = "The answer took too long", body = ErrorBody),
    )
)]
pub async fn explain(
    State(app): State<Shared>,
    options: Result<Query<Options>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(options) = options.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Options { method, layer, ref class, values } = options;
    let explain = Explain {
        method: method.unwrap_or_default(),
        layer: layer.unwrap_or_default(),
        class: class.as_deref().map(|name| index_of(name, &app)).transpose()?,
    };
    let received = receive(&app, request).await?;
    let image = received.image(&app).await?;
    let answered = app.explain(image, explain).await?;
    let explained = explained(&answered.result, values.unwrap_or_default())?;
    let mut response = Json(explained).into_response();
    let mut work = Served::default();
    work.add(answered.queue, answered.model);
    response.extensions_mut().insert(work);
    Ok(response)
}

fn index_of(name: &str, app: &App) -> Result<usize, Problem> {
    let index = app.info.classes.iter().position(|class| class == name);
    index.ok_or_else(|| {
        let message = "`class` is not a class of the weights; /info lists them";
        Problem::new(StatusCode::BAD_REQUEST, message)
    })
}

fn explained(explanation: &Explanation, values: bool) -> Result<Explained, Problem> {
    let Explanation { prediction, class, method, layer, map, .. } = explanation;
    let uses_layer = matches!(method, Method::GradCam | Method::GuidedGradCam);
    Ok(Explained {
        class: class.name.clone(),
        probability: class.probability,
        predicted: prediction.best().name.clone(),
        method: method.name(),
        layer: uses_layer.then(|| layer.name()),
        positive_evidence: map.has_positive_evidence(),
        max: map.max(),
        shape: [map.channels, map.height, map.width],
        heatmap: data_url(&explanation.overlay(1.0))?,
        values: values.then(|| map.values.clone()),
    })
}

fn data_url(image: &RgbImage) -> Result<String, Problem> {
    let mut png = Cursor::new(vec![]);
    image
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| Problem::internal(format!("cannot write the heatmap: {error}")))?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.get_ref())))
}
