//! Classifies images: `cargo run --release --example predict -- runs/train tulip.jpg rose.png`

use alexnet::Classifier;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let weights = arguments.next().ok_or("name a weights file or a run folder, then images")?;
    let mut classifier = Classifier::load(weights)?;
    for image in arguments {
        for class in classifier.predict(image.as_str())?.top(3) {
            println!("{image}: {:10} {:.3}", class.name, class.probability);
        }
    }
    Ok(())
}
