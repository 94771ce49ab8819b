//! How a program finds libtorch where it was linked, without `LD_LIBRARY_PATH`.

use std::path::Path;

/// Arguments for the linker of a program that uses the libraries in `folder`, for a build script to hand on.
pub fn linker_arguments(folder: &Path) -> Vec<String> {
    let mut arguments = vec![format!("-Wl,-rpath,{}", folder.display())];
    // The CUDA half registers itself when it is loaded; no symbol asks for it, so the linker would drop it.
    if folder.join("libtorch_cuda.so").exists() {
        arguments.push("-Wl,--no-as-needed,-ltorch_cuda,--as-needed".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_for_gpus_are_linked_although_no_symbol_asks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let rpath = format!("-Wl,-rpath,{}", folder.path().display());
        assert_eq!(linker_arguments(folder.path()), [rpath.as_str()]);
        std::fs::write(folder.path().join("libtorch_cuda.so"), "").unwrap();
        let cuda = "-Wl,--no-as-needed,-ltorch_cuda,--as-needed";
        assert_eq!(linker_arguments(folder.path()), [&rpath, cuda]);
    }
}
