//! Panics are counted where they begin, so that one that a catch turns into an error is seen too.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// The panics of a watched call on this thread; none outside of one.
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// What became of a watched call.
pub struct Watched<T> {
    /// What it returned; none when a panic left it.
    pub returned: Option<T>,
    /// All panics that began in it, each with its place and message.
    pub panics: Vec<String>,
}

/// Calls something that may panic, without a word on stderr.
pub fn watch<T>(call: impl FnOnce() -> T) -> Watched<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let watched =
                SEEN.with_borrow_mut(|seen| seen.as_mut().map(|seen| seen.push(told(info))).is_some());
            if !watched {
                before(info);
            }
        }));
    });
    SEEN.set(Some(Vec::new()));
    let returned = catch_unwind(AssertUnwindSafe(call)).ok();
    Watched { returned, panics: SEEN.take().unwrap_or_default() }
}

/// `png-0.18.1/src/decoder/mod.rs:327: index out of bounds`, without the folders above the package.
fn told(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let message = owned.or_else(|| payload.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("something that is no text");
    let place = info.location().map_or(String::new(), |place| format!("{}:{}", place.file(), place.line()));
    let place = place.rsplit_once("/src/index.").map_or(place.as_str(), |(_, inside)| inside);
    format!("{place}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen_whether_it_is_caught_or_not() {
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
