//! Lets the tests and examples find libtorch where it was linked, if it is, and hands its folder to
//! the programs that use this library: in their build script it is `DEP_ALEXNET_LIBTORCH_LIB`.

use std::{env, path::Path};

fn main() {
    let Ok(folder) = env::var("DEP_ALEXNET_LIBTORCH_LIBTORCH_LIB") else { return };
    println!("cargo::metadata=libtorch_lib={folder}");
    for argument in alexnet_libtorch::linker_arguments(Path::new(&folder)) {
        println!("cargo::rustc-link-arg={argument}");
    }
}
