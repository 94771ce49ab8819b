//! The cases of the suite, one file per subject.

mod batches;
mod exact;
mod freezing;
mod gradient_accumulation;
mod inspection;
mod invalid_input;
mod networks;
mod pytorch;
mod real;
mod states;
mod training;

use crate::case::Case;

/// Returns the cases with the full-size networks, the largest first.
pub fn full_size() -> Vec<Case> {
    [
        pytorch::cases(),
        networks::full_size_cases(),
        exact::full_size_cases(),
        real::full_size_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns all other cases, which are fast even in f64.
pub fn small() -> Vec<Case> {
    [
        exact::cases(),
        real::cases(),
        training::cases(),
        states::cases(),
        freezing::cases(),
        gradient_accumulation::cases(),
        batches::cases(),
        invalid_input::cases(),
        inspection::cases(),
        networks::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_need_no_quoting() {
        let mut names = BTreeSet::new();
        for Case { name, .. } in full_size().into_iter().chain(small()) {
            assert!(
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.".contains(&byte)),
                "{name}"
            );
            assert!(names.insert(name.clone()), "{name} is used twice");
        }
    }
}
