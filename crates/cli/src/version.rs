//! What `-V` and `--version` print.

use std::sync::LazyLock;

use alexnet::{Engine, engine::instruction_sets};

/// Returns the version and the commit that the program was built from: `0.1.0 (8fbc9ff)`. Without
/// git, the commit is unknown and left out.
pub fn short() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION");
        match option_env!("ALEXNET_COMMIT") {
            Some(commit) => format!("{version} ({commit})"),
            None => version.into(),
        }
    });
    &TEXT
}

/// Returns [`short`], then lines with the engines of this program and the instruction sets of this
/// processor.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let engines = Engine::ALL.into_iter().filter(|engine| engine.backend().is_some());
        let engines: Vec<&str> = engines.map(Engine::name).collect();
        format!(
            "{}\nengines in this program: {}\ninstruction sets of this processor: {}",
            short(),
            engines.join(", "),
            instruction_sets().join(", ")
        )
    });
    &TEXT
}
