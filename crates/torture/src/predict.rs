//! Runs `predict` and `data check` on valid and damaged images. Each image must get a result, and
//! none may end the command.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use alexnet_core::{init::Init, init::initialize, weights::Weights};
use rand::{SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::{memory, mutate::Mutator, seeds, targets::Target};

/// The formats, by the names of their parsers.
pub const FORMATS: [&str; 7] = ["jpeg", "png", "gif", "webp", "bmp", "tiff", "pnm"];

/// Untrained weights, and a folder for images.
pub struct Predict {
    program: PathBuf,
    folder: TempDir,
}

/// The numbers of images that `predict` accepted and refused in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of images that got a class.
    pub read: usize,
    /// The number of images that got an error.
    pub refused: usize,
}

impl Predict {
    /// Creates the weights.
    ///
    /// # Errors
    /// A message.
    pub fn new(program: &Path) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let metadata = seeds::metadata();
        let topology = metadata.variant.topology(metadata.classes.len());
        let parameters =
            initialize(&topology, Init::Pytorch, 0).map_err(|error| error.to_string())?.parameters;
        let weights = Weights { metadata, parameters };
        weights
            .save(folder.path().join("weights.safetensors"))
            .map_err(|error| error.to_string())?;
        Ok(Self { program: program.to_owned(), folder })
    }

    /// Runs the commands on `images` images of all `formats`, half of them mutated, with at most
    /// `memory` MiB.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn round(
        &self,
        formats: &[Target],
        images: usize,
        seed: u64,
        memory: u64,
    ) -> Result<Counts, String> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let images_folder = self.folder.path().join("images");
        let _ = fs::remove_dir_all(&images_folder);
        for index in 0..images {
            let Some(target) = formats.choose(&mut rng) else { return Ok(Counts::default()) };
            let bytes = match index % 2 {
                0 => Mutator { corpus: &target.seeds, words: target.words }.mutate(&mut rng),
                _ => target.seeds.choose(&mut rng).cloned().unwrap_or_default(),
            };
            let class = images_folder.join(["a", "b"][index / 2 % 2]);
            fs::create_dir_all(&class)
                .and_then(|()| fs::write(class.join(format!("{index}.jpg")), bytes))
                .map_err(|error| error.to_string())?;
        }
        let out = self.run(
            &["predict", "images", "--weights", "weights.safetensors", "--format", "jsonl"],
            memory,
        )?;
        let refused = out.lines().filter(|line| line.contains("\"error\":")).count();
        let read = out.lines().filter(|line| line.contains("\"probability\":")).count();
        if read + refused != images {
            return Err(format!("{images} images got {} results", read + refused));
        }
        self.run(&["data", "check", "--data", "images"], memory)?;
        Ok(Counts { read, refused })
    }

    /// Runs a command, which must not panic or die. Returns its output.
    fn run(&self, args: &[&str], memory: u64) -> Result<String, String> {
        let mut command = memory::limited(&self.program, memory);
        let output = command
            .args(args.iter().map(OsStr::new))
            .current_dir(self.folder.path())
            .output()
            .map_err(|error| format!("cannot run the program: {error}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !matches!(output.status.code(), Some(0 | 1)) || stderr.contains("panicked") {
            return Err(format!("{}: {}: {stderr}", args.join(" "), output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
