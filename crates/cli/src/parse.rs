//! Parsers of numeric options with limits. Each returns, as its error, what is wrong with the text,
//! for clap's message.

use std::{fmt::Display, str::FromStr};

/// Returns a parser of whole numbers of at least `least`.
pub fn at_least<T: Whole>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        whole(text, |n: &T| *n >= least).ok_or_else(|| match is_large(text) {
            true => "it is too large".into(),
            false => format!("it must be a whole number of at least {least}"),
        })
    }
}

/// Returns a parser of whole numbers from `least` to `most`.
pub fn between<T: Whole>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        whole(text, |n: &T| (least..=most).contains(n))
            .ok_or_else(|| format!("it must be a whole number from {least} to {most}"))
    }
}

/// Whole number types.
pub trait Whole: Copy + Display + FromStr + PartialOrd {}
impl<T: Copy + Display + FromStr + PartialOrd> Whole for T {}

fn whole<T: Whole>(text: &str, fits: impl Fn(&T) -> bool) -> Option<T> {
    text.parse().ok().filter(fits)
}

/// Returns whether a text that could not be parsed is a whole number too large for its type.
fn is_large(text: &str) -> bool {
    text.len() > 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a size in bytes of at least 1, with an optional unit: KB, MB or GB, KiB, MiB or GiB.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: Option<u64> = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
        "it must be a whole number above 0 with a unit or without, such as 256MiB or 1000000".into()
    })
}

/// Parses a finite number above 0.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("it must be a number above 0".into()),
    }
}

/// Parses a finite number of at least 0.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("it must be a number of at least 0".into()),
    }
}

/// Like [`not_negative`] for f32: the limits apply to the number after rounding to f32.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn not_negative_f32(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!("it must be a number of at least 0, and at most {:e}", f32::MAX)),
    }
}

/// Like [`fraction`] for f32: the limits apply to the number after rounding to f32.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn fraction_f32(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err(format!("it must be at least 0 and at most {}", 1.0 - f32::EPSILON / 2.0)),
    }
}

/// Parses a number of epochs, steps or batches, at least 1. It fits into u32, so that the product
/// of two such numbers fits into u64.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn count(text: &str) -> Result<u64, String> {
    at_least(1u32)(text).map(u64::from)
}

/// Like [`count`], but 0 is allowed.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn count_or_none(text: &str) -> Result<u64, String> {
    at_least(0u32)(text).map(u64::from)
}

/// Parses a number from 0 to 1.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be from 0 to 1".into()),
    }
}

/// Parses an angle from 0 to 180 degrees.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn angle(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=180.0).contains(&value) => Ok(value),
        _ => Err("it must be from 0 to 180".into()),
    }
}

/// Parses two shares above 0 and up to 1, the smaller first.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn shares(text: &str) -> Result<[f64; 2], String> {
    let numbers: Option<Vec<f64>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[least, most]) if 0.0 < least && least <= most && most <= 1.0 => Ok([least, most]),
        _ => {
            Err("it must be two numbers above 0 and up to 1, the smaller first, such as 0.25,1"
                .into())
        }
    }
}

/// Parses a number from 0 up to, but not including, 1.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("it must be at least 0 and below 1".into()),
    }
}

/// Parses three finite numbers, for red, green and blue.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn colors(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[r, g, b]) if [r, g, b].iter().all(|number| number.is_finite()) => Ok([r, g, b]),
        _ => Err("it must be three numbers, such as 0.485,0.456,0.406".into()),
    }
}

/// Parses three numbers above 0, for red, green and blue.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn positive_colors(text: &str) -> Result<[f32; 3], String> {
    match colors(text)? {
        numbers if numbers.iter().all(|number| *number > 0.0) => Ok(numbers),
        _ => Err("they must be above 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_limits_are_refused() {
        for text in ["nan", "inf", "-1", "0", "x", ""] {
            assert!(positive(text).is_err(), "{text}");
        }
        for text in ["nan", "1", "-0.1", "x"] {
            assert!(fraction(text).is_err(), "{text}");
        }
        for text in ["nan", "180.1", "-1", "x"] {
            assert!(angle(text).is_err(), "{text}");
        }
        for text in ["1,2", "1,2,3,4", "1,2,nan", "", "0.5"] {
            assert!(colors(text).is_err(), "{text}");
        }
        // 0.99999999999 is rounded to 1, which a saved file of options could not be read with.
        for text in ["0.99999999999", "1", "-1e-9", "nan"] {
            assert!(fraction_f32(text).is_err(), "{text}");
        }
        assert_eq!(fraction_f32("0.99999994"), Ok(0.999_999_94));
        for text in ["1e40", "inf", "-1"] {
            assert!(not_negative_f32(text).is_err() && positive(text).is_err(), "{text}");
        }
        assert!(positive("1e-50").is_err());
        for text in ["4294967296", "18446744073709551615", "-1", "1.5", ""] {
            assert!(count(text).is_err() && count_or_none(text).is_err(), "{text}");
        }
        assert_eq!((count("0").is_err(), count_or_none("0")), (true, Ok(0)));
        assert_eq!(count("4294967295"), Ok(u32::MAX.into()));
        for text in ["", "0", "MiB", "1.5MB", "-1", "1TB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!((bytes("256MiB"), bytes("3 kb"), bytes("7")), (Ok(256 << 20), Ok(3000), Ok(7)));
        assert_eq!(colors("0, -1,2e-1"), Ok([0.0, -1.0, 0.2]));
        assert!(positive_colors("0.1,0,0.1").is_err());
        assert_eq!((positive("2e-4"), fraction("0")), (Ok(2e-4), Ok(0.0)));
    }
}
