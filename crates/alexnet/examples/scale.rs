//! Prints the tables of "How it scales" in `docs/cluster.md`: the time of a training step on 1 to 256
//! ranks, from measured times, the bytes that ranks send and the speed of the network.
//!
//! ```text
//! cargo run --package alexnet --example scale
//! ```

use alexnet::core::{
    Error, Topology,
    alexnet::Variant,
    sum_order::Share,
    traffic::{self, Work},
};

/// The number of images of the measured steps.
const IMAGES: usize = 32;

/// Seconds of a step of one process on two cores. Measured.
const COMPUTE: f64 = 0.57;

/// Seconds of an epoch of one process: steps, validation and checkpoint. Measured.
const EPOCH: f64 = 4.1;

/// The number of steps of that epoch.
const STEPS: f64 = 6.0;

/// Seconds by which a step of two ranks is longer that share two cores and their memory. Measured.
const HANDLING: f64 = 0.17;

/// Seconds of an exchange with another rank, in addition to the time of its bytes. Assumed.
const DELAY: f64 = 50e-6;

/// Speeds of the network in Gbit/s.
const SPEEDS: [f64; 3] = [1.0, 10.0, 100.0];

type Division = fn(&Topology, Share, usize) -> Result<Vec<Work>, Error>;

struct Model {
    topology: Topology,
    /// Seconds of a multiply-add of the forward pass, with those of the backward pass.
    compute: f64,
    /// Seconds in which a byte is copied and added before and after it is sent, and in which the
    /// update is separate from the backward pass.
    handling: f64,
}

impl Model {
    fn new() -> Result<Self, Error> {
        let mut model =
            Self { topology: Variant::Tutorial.topology(5), compute: 0.0, handling: 0.0 };
        model.compute = COMPUTE / model.work(traffic::data, 1, IMAGES)?.multiply_adds as f64;
        model.handling = HANDLING / model.work(traffic::data, 2, IMAGES)?.sent().bytes() as f64;
        Ok(model)
    }

    /// Returns the work in a step of the rank that computes most.
    fn work(&self, division: Division, ranks: usize, images: usize) -> Result<Work, Error> {
        let mut most = Work::default();
        for rank in 0..ranks {
            let work: Work =
                division(&self.topology, Share { rank, ranks }, images)?.into_iter().sum();
            if work.multiply_adds > most.multiply_adds {
                most = work;
            }
        }
        Ok(most)
    }

    /// Returns the seconds of a step, in which nothing overlaps. Each rank has two cores.
    fn step(&self, work: Work, speed: f64) -> f64 {
        let (bytes, exchanges) = (work.sent().bytes() as f64, work.sent().exchanges as f64);
        self.compute * work.multiply_adds as f64
            + bytes * (self.handling + 8e-9 / speed)
            + exchanges * DELAY
    }

    /// Prints the seconds of steps whose number of images depends on the number of ranks.
    fn print(&self, title: &str, images: impl Fn(usize) -> usize) -> Result<(), Error> {
        println!("{title}\n");
        println!("| ranks | data: 1 Gbit/s | 10 | 100 | hybrid: 1 Gbit/s | 10 | 100 |");
        println!("|---|---|---|---|---|---|---|");
        for ranks in (0..=8).map(|doublings| 1 << doublings) {
            print!("| {ranks} |");
            for division in [traffic::data as Division, traffic::hybrid] {
                let work = self.work(division, ranks, images(ranks))?;
                SPEEDS.iter().for_each(|speed| print!(" {:.2} |", self.step(work, *speed)));
            }
            println!();
        }
        println!();
        Ok(())
    }
}

/// Prints the seconds of the measured epochs. Two ranks share two cores, so each of them computes its
/// images in the time in which one process computes all.
fn compare(model: &Model) -> Result<(), Error> {
    println!("| two ranks of one thread | measured | model |\n|---|---|---|");
    for (what, division, speed, measured) in [
        ("data, shared memory", traffic::data as Division, f64::INFINITY, 5.1),
        ("data, 1 Gbit/s, without overlap", traffic::data, 1.0, 8.7),
        ("hybrid, 1 Gbit/s", traffic::hybrid, 1.0, 5.1),
    ] {
        let work = model.work(division, 2, IMAGES)?;
        let step = model.step(Work { multiply_adds: 2 * work.multiply_adds, ..work }, speed);
        let others = EPOCH - STEPS * COMPUTE;
        println!("| {what} | {measured:.1} | {:.1} |", STEPS * step + others);
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let model = Model::new()?;
    model.print("32 images per rank:", |ranks| IMAGES * ranks)?;
    model.print("256 images on all ranks:", |_| 256)?;
    compare(&model)
}
