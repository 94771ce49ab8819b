//! Lets the binary find libtorch where it was linked, without `LD_LIBRARY_PATH`.

fn main() {
    let Ok(folder) = std::env::var("DEP_ALEXNET_LIBTORCH_LIBTORCH_LIB") else { return };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    // The CUDA half registers itself when it is loaded; no symbol asks for it, so the linker would drop it.
    if std::path::Path::new(&folder).join("libtorch_cuda.so").exists() {
        println!("cargo::rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
}
