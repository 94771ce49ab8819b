//! The images of an inference request.

use alexnet::image::RgbImage;
use axum::{body::Bytes, http::StatusCode};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    elements::MAX_TEXTS,
    message::{InferRequest, Input},
};
use crate::{app::Image, problem::Problem};

/// The input with image files.
pub const IMAGE: &str = "image";
/// The input with pixels.
pub const PIXELS: &str = "pixels";

/// Returns the images of a request. `binary` is what follows its JSON part.
///
/// # Errors
/// If the request does not have one valid input, or too many images.
pub fn images(
    request: InferRequest,
    binary: Bytes,
    max_images: usize,
) -> Result<Vec<Image>, Problem> {
    let mut inputs = request.inputs;
    let (Some(input), true) = (inputs.pop(), inputs.is_empty()) else {
        let message = format!("the request must have one input, `{IMAGE}` or `{PIXELS}`");
        return Err(Problem::bad_request(message));
    };
    let size = input.parameters.as_ref().and_then(|parameters| parameters.binary_data_size);
    let binary = match size {
        None if binary.is_empty() => None,
        Some(_) if input.data.is_some() => {
            let message = "the input has both `data` and `binary_data_size`";
            return Err(Problem::bad_request(message));
        }
        Some(size) if size == binary.len() => Some(binary),
        _ => {
            let message = "`binary_data_size` is not the number of bytes after the JSON part";
            return Err(Problem::bad_request(message));
        }
    };
    let images = input.shape.first().copied().unwrap_or(0);
    if images == 0 {
        return Err(Problem::bad_request("the shape has no images"));
    }
    if images > max_images {
        let message = format!("the request has more than {max_images} images");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    match (input.name.as_str(), input.datatype.as_str(), &input.shape[..]) {
        (IMAGE, "BYTES", [_] | [_, 1]) => files(input, binary, images),
        (PIXELS, "UINT8", [_, height, width, 3]) => {
            let (height, width) = (*height, *width);
            pixels(input, binary, [images, height, width])
        }
        _ => Err(Problem::bad_request(format!(
            "the input must be `{IMAGE}` (BYTES, [n]) or `{PIXELS}` (UINT8, [n, height, width, 3])"
        ))),
    }
}

fn files(input: Input, binary: Option<Bytes>, images: usize) -> Result<Vec<Image>, Problem> {
    let files: Vec<Bytes> = match binary {
        Some(binary) => split(binary)
            .ok_or_else(|| Problem::bad_request("the lengths of the elements are not valid"))?,
        None => {
            let elements = input.data.unwrap_or_default();
            let decode = |text: String| BASE64_STANDARD.decode(text).map(Bytes::from);
            if !elements.numbers.is_empty() {
                return Err(Problem::bad_request("the elements of BYTES must be texts in base64"));
            }
            elements.texts.into_iter().map(decode).collect::<Result<_, _>>().map_err(|error| {
                Problem::bad_request(format!("an element is not base64: {error}"))
            })?
        }
    };
    if files.len() != images {
        return Err(wrong_number(images, files.len()));
    }
    Ok(files.into_iter().map(Image::File).collect())
}

/// Splits elements that have their length in four bytes, little-endian, before each.
fn split(mut binary: Bytes) -> Option<Vec<Bytes>> {
    let mut elements = vec![];
    while !binary.is_empty() {
        let length = u32::from_le_bytes(*binary.first_chunk()?) as usize;
        let end = length.checked_add(4).filter(|end| *end <= binary.len())?;
        elements.push(binary.split_to(end).slice(4..));
        if elements.len() > MAX_TEXTS {
            return None;
        }
    }
    Some(elements)
}

fn pixels(
    input: Input,
    binary: Option<Bytes>,
    [images, height, width]: [usize; 3],
) -> Result<Vec<Image>, Problem> {
    let values = match binary {
        Some(binary) => Vec::from(binary),
        None => {
            let elements = input.data.unwrap_or_default();
            if !elements.texts.is_empty() {
                return Err(Problem::bad_request("the elements of UINT8 must be numbers"));
            }
            elements.numbers
        }
    };
    if height == 0 || width == 0 {
        return Err(Problem::bad_request("the shape has no pixels"));
    }
    let each = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(3));
    let all = each.and_then(|each| each.checked_mul(images));
    let (Some(each), Some(all)) = (each, all) else {
        return Err(Problem::bad_request("the shape has too many elements"));
    };
    if all != values.len() {
        return Err(wrong_number(all, values.len()));
    }
    let (height, width) = (height as u32, width as u32);
    let image = |values: &[u8]| RgbImage::from_raw(width, height, values.to_vec());
    // The length was checked above.
    Ok(values.chunks_exact(each).filter_map(image).map(Image::Pixels).collect())
}

fn wrong_number(expected: usize, found: usize) -> Problem {
    Problem::bad_request(format!("the shape has {expected} elements, but the data has {found}"))
}
