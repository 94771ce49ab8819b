//! Lists in JSON. They are untrusted: numbers are read as bytes, and lists are limited, so that a
//! body does not need many times its size in memory.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};

/// Largest number of inputs, outputs, dimensions.
const FEW: usize = 16;

/// Largest number of texts in a tensor.
pub const MAX_TEXTS: usize = 1 << 12;

/// Deserializes a short list.
pub fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            write!(formatter, "a list of at most {FEW} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut elements = vec![];
            while let Some(element) = list.next_element()? {
                if elements.len() == FEW {
                    return Err(A::Error::invalid_length(FEW + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    source.deserialize_seq(Few(PhantomData))
}

/// Deserializes a short list, or `null`.
pub fn few_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    source: D,
) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(bound = "T: Deserialize<'de>")]
    struct List<T>(#[serde(deserialize_with = "few")] Vec<T>);

    Ok(Option::<List<T>>::deserialize(source)?.map(|List(list)| list))
}

/// The elements of a tensor in JSON, flat or nested.
#[derive(Debug, Default)]
pub struct Elements {
    pub numbers: Vec<u8>,
    pub texts: Vec<String>,
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let mut elements = Self::default();
        List(&mut elements).deserialize(source)?;
        Ok(elements)
    }
}

/// Appends a list, or lists of lists.
struct List<'a>(&'a mut Elements);

/// Appends an element or a list.
struct Element<'a>(&'a mut Elements);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_seq(Element(self.0))
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a number from 0 to 255, a text, or a list of them")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let unexpected = serde::de::Unexpected::Unsigned(value);
        let value = u8::try_from(value).map_err(|_| E::invalid_value(unexpected, &self))?;
        self.0.numbers.push(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.0.texts.len() == MAX_TEXTS {
            return Err(E::custom(format!("a tensor has at most {MAX_TEXTS} texts")));
        }
        self.0.texts.push(text.to_owned());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}
