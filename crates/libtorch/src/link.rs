//! Linker arguments, so that a program finds libtorch without `LD_LIBRARY_PATH`.

use std::path::Path;

/// Returns the linker arguments for a program that uses the libraries in `folder`, for build
/// scripts.
pub fn linker_arguments(folder: &Path) -> Vec<String> {
    let mut arguments = vec![format!("-Wl,-rpath,{}", folder.display())];
    // The CUDA library registers itself when it is loaded. No symbol refers to it, so the linker
    // would drop it.
    if folder.join("libtorch_cuda.so").exists() {
        arguments.push("-Wl,--no-as-needed,-ltorch_cuda,--as-needed".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cuda_library_is_linked_although_no_symbol_refers_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let rpath = format!("-Wl,-rpath,{}", folder.path().display());
        assert_eq!(linker_arguments(folder.path()), [rpath.as_str()]);
        std::fs::write(folder.path().join("libtorch_cuda.so"), "").unwrap();
        let cuda = "-Wl,--no-as-needed,-ltorch_cuda,--as-needed";
        assert_eq!(linker_arguments(folder.path()), [&rpath, cuda]);
    }
}
