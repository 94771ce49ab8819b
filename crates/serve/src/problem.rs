//! Errors as responses: a status and `{"error": "…"}`.

use alexnet::{Error, data::Error as DataError};
use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of a response with an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong, in English
    pub error: String,
}

/// An error that the client is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub status: StatusCode,
    pub message: String,
}

/// Seconds after which a client may try again when the server is busy.
const RETRY_SECONDS: u32 = 1;

/// Largest number of characters of a message.
const MAX_CHARS: usize = 500;

impl Problem {
    /// Creates a problem. A long message, which can quote the request, is cut.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self { status, message }
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The server has too much work.
    pub fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{message}; try again later"))
    }

    /// A fault of the server or of its weights.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            // Without the name `-` that the library gives to an image without a file.
            Error::Data(DataError::Image { reason, .. }) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason)
            }
            error => Self::internal(error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, message } = self;
        let mut response = (status, Json(ErrorBody { error: message })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }
}
