//! Makes the tests find libtorch at run time in the folder that it was linked from, if the engine
//! `tch` is built.

use std::{env, path::Path};

fn main() {
    let Some(folder) = env::var_os("DEP_ALEXNET_LIBTORCH_LIB") else { return };
    for argument in alexnet_libtorch::linker_arguments(Path::new(&folder)) {
        println!("cargo::rustc-link-arg={argument}");
    }
}
