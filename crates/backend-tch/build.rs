//! Passes the folder of libtorch to the crates that link this engine, and to its own tests as their
//! run path.

fn main() {
    // Set by torch-sys, which has found libtorch. It is not set in a build of the documentation
    // only.
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::metadata=libtorch_lib={folder}");
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
