//! Reads the body of a request, with limits on its size, its memory and its time.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Multipart, Request},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::{
    admission::Memory,
    app::{App, Image},
    problem::Problem,
};

/// A body. Its memory is counted until this is dropped, so it is kept until the answer is there.
#[derive(Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub bytes: Bytes,
    _memory: Memory,
}

/// Largest number of characters of the name of a file; the response does not repeat more.
const MAX_NAME: usize = 255;

/// An image of a request with the name of its file, or `-` for a body that is an image.
#[derive(Debug)]
pub struct Named {
    pub name: String,
    pub image: Image,
}

/// Reads a body.
///
/// # Errors
/// If it is too large, compressed, too slow or incomplete, or if the memory of all bodies is used
/// up.
pub async fn receive(app: &App, request: Request) -> Result<Received, Problem> {
    let (Parts { headers, .. }, body) = request.into_parts();
    // A length that is announced is checked before anything is read.
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > app.config.max_body as u64) {
        return Err(too_large(app.config.max_body));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let message = "send the body without `Content-Encoding`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let time = app.config.body_timeout;
    let (bytes, memory) = timeout(time, collect(app, body)).await.map_err(|_| {
        let message = format!("the body did not arrive in {} s", time.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, message)
    })??;
    Ok(Received { headers, bytes, _memory: memory })
}

async fn collect(app: &App, mut body: Body) -> Result<(Bytes, Memory), Problem> {
    let (mut memory, mut received) = (Memory::default(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Problem::bad_request(format!("the body is incomplete: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let (had, needs) = (received.len(), received.len() + data.len());
        if needs > app.config.max_body {
            return Err(too_large(app.config.max_body));
        }
        app.bodies.extend(&mut memory, had, needs)?;
        received.extend_from_slice(&data);
    }
    Ok((received.into(), memory))
}

fn too_large(limit: usize) -> Problem {
    let message = format!("the body is larger than the limit of {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

impl Received {
    /// Returns the images: the files of `multipart/form-data`, or the whole body as one image.
    ///
    /// # Errors
    /// If there are no images or too many, a field of the form is not a file, or the multipart
    /// data is damaged.
    pub async fn images(&self, app: &App) -> Result<Vec<Named>, Problem> {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_multipart = content_type.is_some_and(|text| {
            text.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
        });
        let images = if is_multipart {
            self.files(app.config.max_images).await?
        } else if self.bytes.is_empty() {
            vec![]
        } else {
            vec![Named { name: "-".into(), image: Image::File(self.bytes.clone()) }]
        };
        if images.is_empty() {
            return Err(Problem::bad_request("the request has no image"));
        }
        Ok(images)
    }

    /// Returns the one image of a request that takes only one.
    ///
    /// # Errors
    /// As [`Received::images`]; if there are several.
    pub async fn image(&self, app: &App) -> Result<Image, Problem> {
        let mut images = self.images(app).await?;
        match images.pop() {
            Some(Named { image, .. }) if images.is_empty() => Ok(image),
            _ => Err(Problem::bad_request("the request must have one image")),
        }
    }

    async fn files(&self, max_images: usize) -> Result<Vec<Named>, Problem> {
        let mut request = Request::new(Body::from(self.bytes.clone()));
        request.headers_mut().clone_from(&self.headers);
        // The length was checked when the body was read.
        axum::extract::DefaultBodyLimit::apply(
            axum::extract::DefaultBodyLimit::disable(),
            &mut request,
        );
        let damaged =
            |error: String| Problem::bad_request(format!("the form data is damaged: {error}"));
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|error| damaged(error.body_text()))?;
        let mut images = vec![];
        while let Some(field) =
            form.next_field().await.map_err(|error| damaged(error.body_text()))?
        {
            if images.len() == max_images {
                let message = format!("the request has more than {max_images} images");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let Some(name) = field.file_name() else {
                let field: String =
                    field.name().unwrap_or_default().chars().take(MAX_NAME).collect();
                let message = format!(
                    "the field `{field}` of the form has no file name, so it is no image file"
                );
                return Err(Problem::bad_request(message));
            };
            let name = name.chars().take(MAX_NAME).collect();
            let file = field.bytes().await.map_err(|error| damaged(error.body_text()))?;
            images.push(Named { name, image: Image::File(file) });
        }
        Ok(images)
    }
}
