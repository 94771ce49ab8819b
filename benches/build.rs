//! Sets the run path of the benchmarks to libtorch, if they are linked with it.

use std::{env, path::Path};

fn main() {
    let Some(folder) = env::var_os("DEP_ALEXNET_LIBTORCH_LIBTORCH_LIB") else { return };
    for argument in alexnet_libtorch::linker_arguments(Path::new(&folder)) {
        println!("cargo::rustc-link-arg={argument}");
    }
}
