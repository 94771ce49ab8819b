use super::Case;
pub fn cases() -> Vec<Case> {
    vec![]
}
pub fn whole_size_cases() -> Vec<Case> {
    vec![]
}
