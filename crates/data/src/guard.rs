//! Turns panics of libraries into errors.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this crate catches a panic of this thread and turns it into an error that names
/// the file. A panic hook need not print such a panic.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs `work`. A panic is returned as an error with the message of the panic.
pub fn guard<T>(work: impl FnOnce() -> T) -> Result<T, String> {
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
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(guard(|| 5), Ok(5));
        assert_eq!(guard(|| panic!("over{}", "flow")), Err::<(), _>("overflow".into()));
        assert_eq!(guard(|| std::panic::panic_any(5)), Err::<(), _>("no message".into()));
    }

    #[test]
    fn threads_are_guarded_only_inside_guard() {
        assert!(!is_guarded());
        assert_eq!(
            guard(|| (is_guarded(), guard(is_guarded), is_guarded())),
            Ok((true, Ok(true), true))
        );
        let _ = guard(|| panic!());
        assert!(!is_guarded());
    }
}
