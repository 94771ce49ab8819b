//! `alexnet evaluate`: measures the quality of weights on a set of images.

use std::{cmp::Reverse, path::PathBuf};

use alexnet::{
    CorruptionAccuracy, CorruptionReport, EvaluationOutput, Evaluator, Mistake, Split,
    core::{
        files::create_folders,
        metrics::{Calibration, Quality, Report},
        text::escaped,
    },
    data::augment::views::Views,
};
use anyhow::Result;

use crate::{
    columns::{self, TERMINAL, padded},
    console::Console,
    evaluation_figures,
    inputs::check_outside,
    options::{BadImage, EngineOptions, OrientationOption, Tta, data::source, engine},
    output::{self, Format},
    parse,
};

/// Columns of a number in the confusion matrix, including the space before it.
const CELL: usize = 6;
/// The most rows in a list of misclassified images or of confusions.
const LISTED: usize = 10;

/// Measure the quality of weights on a set of images
///
/// Prints loss, top-1 accuracy with its 95 % interval, top-5 accuracy for more than five classes,
/// precision, recall and F1, the confusion matrix, the calibration error and the misclassified
/// images with the highest confidence.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Weights file [default: the best weights of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Images, as for `train` [default: those of the run that the weights come from]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Subset to evaluate; the images of the run that the weights come from are split as in that
    /// run, also if they have been moved [default: val, or all if the images are not those of the
    /// run and are not split by folders]
    #[arg(long, value_name = "SUBSET", value_enum)]
    split: Option<Split>,
    /// Names for classes whose folders have identifiers: a file with a folder and its name on each
    /// line, such as `n01440764 tench`, or JSON
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// What to do with an image that cannot be read
    #[arg(long, value_name = "ACTION", value_enum, default_value = "error")]
    on_bad_image: BadImage,
    /// Test-time augmentation: average the probabilities of several views of each image; without a
    /// value, flip
    #[arg(long, value_enum, value_name = "VIEWS", num_args = 0..=1, default_missing_value = "flip")]
    tta: Option<Tta>,
    /// Also measure the accuracy on corrupted images: noise, blur, brightness, contrast, JPEG, scale
    /// and shift, at three severities each
    #[arg(long, conflicts_with = "tta")]
    corruptions: bool,
    /// Also write report.json, the confusion matrices, the reliability diagram and the
    /// misclassified images to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// In the figure of the misclassified images, also show Grad-CAM of the predicted class beside
    /// each image
    #[arg(long, requires = "out")]
    gradcam: bool,
    /// Images in a batch; each view counts as an image
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = parse::at_least(1u32))]
    batch_size: u32,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    orientation: OrientationOption,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Runs the command.
///
/// # Errors
/// If weights or images cannot be read, or their classes differ.
pub fn run(args: &Args) -> Result<()> {
    let evaluator = Evaluator {
        weights: args.weights.clone(),
        data: source(args.data.as_ref()),
        split: args.split,
        class_names: args.class_names.clone(),
        views: args.tta.map(Views::from).unwrap_or_default(),
        corruptions: args.corruptions,
        batch_size: args.batch_size as usize,
        on_bad_image: args.on_bad_image.into(),
        exif_orientation: args.orientation.given(),
        explained_mistakes: if args.gradcam { evaluation_figures::SHOWN } else { 0 },
        engine: args.engine.config(),
    };
    if let (Some(folder), Some(data)) = (&args.out, &args.data) {
        check_outside(folder, std::slice::from_ref(data))?;
    }
    engine::ready(evaluator.engine, args.engine.threads)?;
    let mut console = Console::with_split();
    let evaluated = evaluator.run(&mut console)?;
    console.clear();
    // Written before the text is printed, because printing fails if the reader of stdout has
    // exited.
    if let Some(folder) = &args.out {
        evaluated.images().check_outside(folder)?;
        create_folders(folder)?;
        evaluated.write(folder)?;
        evaluation_figures::write(&evaluated, folder)?;
    }
    match args.format {
        Format::Json => output::json(&serde_json::to_string(&evaluated.output())?),
        Format::Text => print_text(&evaluated.output()),
    }
}

fn print_text(
    EvaluationOutput { report, corruptions, mistakes, .. }: &EvaluationOutput,
) -> Result<()> {
    let Report { images, loss, top1, top5, interval95: [low, high], .. } = report;
    let top5 = top5.map_or(String::new(), |top5| format!("  top5 {top5:.4}"));
    say!(
        "images {images}  loss {loss:.4}  top1 {top1:.4}  95 % interval {low:.4} to {high:.4}{top5}"
    )?;
    let names: Vec<String> =
        report.per_class.iter().map(|class| escaped(&class.class).to_string()).collect();
    let width =
        names.iter().map(|name| columns::width(name)).fold("weighted avg".len(), usize::max);
    let class = padded("class", width);
    say!("{class}  {:>9}  {:>6}  {:>5}  {:>7}", "precision", "recall", "f1", "support")?;
    let quality = |name: &str, Quality { precision, recall, f1, support }: &Quality| {
        say!("{}  {precision:>9.3}  {recall:>6.3}  {f1:>5.3}  {support:>7}", padded(name, width))
    };
    for (name, class) in names.iter().zip(&report.per_class) {
        quality(name, &class.quality)?;
    }
    quality("macro avg", &report.macro_avg)?;
    quality("weighted avg", &report.weighted_avg)?;
    if width + 1 + CELL * report.per_class.len() <= TERMINAL {
        print_matrices(report, &names, width)?;
    } else {
        print_confusions(report, &names)?;
    }
    let Calibration { ece, bins } = &report.calibration;
    say!("expected calibration error {ece:.4}, {} bins of confidence", bins.len())?;
    if let Some(corruptions) = corruptions {
        print_corruptions(corruptions)?;
    }
    if !mistakes.is_empty() {
        say!("misclassified: {}, those with the highest confidence:", mistakes.len())?;
    }
    for Mistake { path, truth, predicted, probability, probability_of_truth } in
        mistakes.iter().take(LISTED)
    {
        let [path, truth, predicted] = [path, truth, predicted].map(|text| escaped(text));
        say!("{predicted} {probability:.3}, true {truth} {probability_of_truth:.3}: {path}")?;
    }
    Ok(())
}

fn print_matrices(report: &Report, names: &[String], width: usize) -> Result<()> {
    say!("confusion, rows true, columns predicted:")?;
    for (name, row) in names.iter().zip(&report.confusion.counts) {
        let cells: Vec<String> = row.iter().map(|n| format!("{n:>5}")).collect();
        say!("{}  {}", padded(name, width), cells.join(" "))?;
    }
    say!("as shares of the true class:")?;
    for (name, row) in names.iter().zip(&report.confusion_normalized) {
        let cells: Vec<String> = row.iter().map(|share| format!("{share:>5.2}")).collect();
        say!("{}  {}", padded(name, width), cells.join(" "))?;
    }
    Ok(())
}

/// Prints the accuracy for each corruption and severity.
fn print_corruptions(CorruptionReport { top1, corruptions }: &CorruptionReport) -> Result<()> {
    say!("{:14}  {:>10} {:>7} {:>7} {:>8}", "top1 corrupted", "severity 1", 2, 3, "mean")?;
    for CorruptionAccuracy { corruption, top1, severities: [a, b, c] } in corruptions {
        say!("{corruption:14}  {a:>10.4} {b:>7.4} {c:>7.4} {top1:>8.4}")?;
    }
    say!("{:14}  {top1:>35.4}", "mean")
}

/// Prints the most frequent confusions, for a matrix that is wider than a line.
fn print_confusions(report: &Report, names: &[String]) -> Result<()> {
    let counts = report.confusion.counts.iter().enumerate();
    let cells =
        counts.flat_map(|(truth, row)| row.iter().enumerate().map(move |cell| (truth, cell)));
    let mut wrong: Vec<_> =
        cells.filter(|(truth, (predicted, count))| truth != predicted && **count > 0).collect();
    wrong.sort_by_key(|(_, (_, count))| Reverse(**count));
    say!("most frequent confusions:")?;
    for (truth, (predicted, count)) in wrong.into_iter().take(LISTED) {
        say!("{count} of {} predicted as {}", names[truth], names[predicted])?;
    }
    Ok(())
}
