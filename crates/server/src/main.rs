//! The binary: everything else is in the library, where tests reach it.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn main() -> std::process::ExitCode {
    llm_proxy::system::use_small_pages();
    // A variable that is not UTF-8 is none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    llm_proxy::cli::main(std::env::args_os().collect(), environment)
}
