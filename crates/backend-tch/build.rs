//! Hands the folder of libtorch to whoever links this engine, and to its own tests as their run path.

fn main() {
    // Of torch-sys, which has found it. It has none in a build of the documentation alone.
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::metadata=libtorch_lib={folder}");
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
