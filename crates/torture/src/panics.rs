//! Records panics with a panic hook, so that panics that are caught and converted to errors are
//! also detected.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// The panics of the watched call on this thread; `None` outside of a watched call.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// The result of a watched call.
pub struct Watched<T> {
    /// The returned value; `None` if a panic was not caught.
    pub returned: Option<T>,
    /// All panics in the call, with their locations and messages.
    pub panics: Vec<String>,
}

/// Calls a function that may panic, without printing panics to stderr.
pub fn watch<T>(call: impl FnOnce() -> T) -> Watched<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let watched = PANICS.with_borrow_mut(|seen| {
                seen.as_mut().map(|seen| seen.push(describe(info))).is_some()
            });
            if !watched {
                before(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
    let returned = catch_unwind(AssertUnwindSafe(call)).ok();
    Watched { returned, panics: PANICS.take().unwrap_or_default() }
}

/// Returns location and message of a panic, such as `png-0.18.1/src/decoder/mod.rs:327: index out
/// of bounds`, without the folders above the package.
fn describe(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let message = owned.or_else(|| payload.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("a payload that is not a string");
    let location = info
        .location()
        .map_or(String::new(), |location| format!("{}:{}", location.file(), location.line()));
    let location =
        location.rsplit_once("/src/index.").map_or(location.as_str(), |(_, inside)| inside);
    format!("{location}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_and_uncaught_panics_are_recorded() {
        let caught = watch(|| catch_unwind(|| panic!("inside")).is_err());
        assert_eq!(caught.returned, Some(true));
        assert!(
            caught.panics[0].contains("panics.rs:") && caught.panics[0].ends_with(": inside"),
            "{:?}",
            caught.panics
        );
        let escaped = watch(|| -> u8 { panic!("out of {}", "all") });
        assert!(escaped.returned.is_none() && escaped.panics[0].ends_with(": out of all"));
        assert!(watch(|| ()).panics.is_empty());
    }
}
