//! Panics arrive as error lines with their place.

use std::panic;

use domain::redact::redacted;

/// Replaces the hook that prints to stderr.
pub(super) fn install() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let message = redacted(&message, &[]);
        tracing::error!(target: "llm_proxy::panic", location, thread, panic = message, "panicked");
    }));
}
