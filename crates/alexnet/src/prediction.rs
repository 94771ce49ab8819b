//! The prediction for an image.

/// A class and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassProbability {
    /// Its name.
    pub name: String,
    /// Its index among the logits.
    pub index: usize,
    /// From 0 to 1.
    pub probability: f64,
}

/// The prediction for an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    pub(crate) classes: Vec<ClassProbability>,
    /// Damage in an image file that could still be read: clauses whose subject is the file.
    pub damage: Vec<String>,
}

impl Prediction {
    /// Creates a prediction from all classes, the most probable first. There must be at least one.
    pub fn new(classes: Vec<ClassProbability>) -> Self {
        Self { classes, damage: vec![] }
    }

    /// All classes, the most probable first.
    pub fn classes(&self) -> &[ClassProbability] {
        &self.classes
    }

    /// The `k` most probable classes, or all if there are fewer.
    pub fn top(&self, k: usize) -> &[ClassProbability] {
        &self.classes[..k.min(self.classes.len())]
    }

    /// The most probable class.
    pub fn best(&self) -> &ClassProbability {
        // A network has at least one class: `Topology` refuses layers without outputs.
        &self.classes[0]
    }
}
