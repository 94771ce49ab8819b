//! `alexnet neighbours`: the images of a data set that are nearest to an image in the last hidden
//! layer.

use std::path::PathBuf;

use alexnet::{Neighbor, NeighborSearch, core::text::escaped, data::decode::decode};
use anyhow::Result;
use serde_json::json;

use crate::{
    columns,
    console::Console,
    figures,
    inputs::check_other,
    options::{ClassifierOptions, data::source, engine},
    output::{self, Format},
    parse,
};

/// The most neighbors that a figure shows.
const MOST: u32 = 100;

/// Find the images of a data set that are nearest to an image
///
/// As in figure 4 of the paper: the distance is that of the activations in the last hidden layer.
/// The activations of the data set are kept in a file beside the weights for the next call.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Image file
    #[arg(value_name = "FILE")]
    image: PathBuf,
    /// Images to search, as for `train`, of all subsets [default: those of the run that the weights
    /// come from]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Number of images to find
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = parse::between(1, MOST))]
    k: u32,
    /// File to write the figure to
    #[arg(long, value_name = "PNG", default_value = "neighbors.png")]
    out: PathBuf,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    classifier: ClassifierOptions,
}

/// Runs the command.
///
/// # Errors
/// If the weights, the folder of images or the image cannot be read, or the figure cannot be
/// written.
pub fn run(args: &Args) -> Result<()> {
    check_other(&args.out, &args.image)?;
    let ClassifierOptions { weights, orientation, engine } = &args.classifier;
    let search = NeighborSearch {
        weights: weights.clone(),
        data: source(args.data.as_ref()),
        exif_orientation: orientation.given(),
        engine: engine.config(),
    };
    engine::ready(search.engine, engine.threads)?;
    let mut console = Console::default();
    let mut neighbors = search.open(&mut console)?;
    neighbors.list().check_outside(&args.out)?;
    let found = neighbors.nearest(&args.image, args.k as usize, &mut console)?;

    let decoding = neighbors.decoding();
    let image = |neighbor: &Neighbor| {
        Ok(figures::thumbnail(&neighbors.list().decode(neighbor.item, decoding)?.image))
    };
    let images = found.iter().map(image).collect::<Result<Vec<_>>>()?;
    let query = figures::thumbnail(&decode(&args.image, decoding)?.image);
    figures::save(&figures::neighbors(query, images, &found), &args.out)?;
    match args.format {
        Format::Text => print(&found),
        Format::Json => {
            let rows = found.iter().map(|Neighbor { path, class, distance, .. }| {
                json!({ "path": path.to_string_lossy(), "class": class, "distance": distance })
            });
            let output = json!({
                "path": args.image.to_string_lossy(),
                "neighbors": rows.collect::<Vec<_>>(),
                "figure": args.out.to_string_lossy(),
                "index": neighbors.index().to_string_lossy(),
            });
            output::json(&serde_json::to_string_pretty(&output)?)
        }
    }
}

fn print(found: &[Neighbor]) -> Result<()> {
    let names: Vec<String> = found.iter().map(|found| escaped(&found.class).to_string()).collect();
    let width = names.iter().map(|name| columns::width(name)).max().unwrap_or_default();
    for (Neighbor { path, distance, .. }, name) in found.iter().zip(&names) {
        let path = path.to_string_lossy();
        say!("{distance:9.4}  {}  {}", columns::padded(name, width), escaped(&path))?;
    }
    Ok(())
}
