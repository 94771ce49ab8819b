//! Turns panics of libraries into errors.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught by this crate and becomes an error that names the file. A panic hook can be silent
/// then.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs `work`; a panic becomes an error with its message.
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|panic| message(&*panic).to_owned())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(guard(|| 5), Ok(5));
        assert_eq!(guard(|| panic!("over{}", "flow")), Err::<(), _>("overflow".into()));
        assert_eq!(guard(|| std::panic::panic_any(5)), Err::<(), _>("no message".into()));
    }

    #[test]
    fn only_what_is_caught_is_guarded() {
        assert!(!is_guarded());
        assert_eq!(guard(|| (is_guarded(), guard(is_guarded), is_guarded())), Ok((true, Ok(true), true)));
        let _ = guard(|| panic!());
        assert!(!is_guarded());
    }
}
