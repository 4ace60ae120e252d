//! Configuration is data, and so are its tests.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a written file");
    file
}

fn problems(pairs: &[(&str, &str)], file: &str) -> Vec<String> {
    let file = written(file);
    Config::load(&environment(pairs), Some(file.path())).expect_err("refused").0
}

#[test]
fn nothing_is_needed() {
    let config = Config::load(&Environment::new(), None).expect("defaults are valid");
    assert_eq!(config.settings.listen_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.settings.max_request_bytes.0, 512 << 20);
    let days = std::time::Duration::from_secs(90 * 86_400);
    assert_eq!(config.settings.retention_records, days);
    assert_eq!(&*config.providers.default_provider().name, "openai");
    // And what is redacted.
    assert_eq!(config.shown.len(), settings::ALL.len() + 1);
    assert!(config.shown.iter().all(|line| line.origin == Origin::Default));
}

#[test]
fn environment_beats_file_beats_default() {
    let file =
        written("listen_addr: ':9000'\nlog_level: debug\ntrusted_proxies: [10.0.0.0/8, '::1']\n");
    let environment = environment(&[("LISTEN_ADDR", "[::1]:9001"), ("LOG_FORMAT", "")]);
    let config = Config::load(&environment, Some(file.path())).expect("valid");
    assert_eq!(config.settings.listen_addr.to_string(), "[::1]:9001");
    assert_eq!(config.settings.log_level, values::TraceLevel::Debug);
    assert_eq!(config.settings.trusted_proxies.len(), 2);
    let origin = |key: &str| {
        let line = config.shown.iter().find(|line| line.key == key).expect("shown");
        line.origin.to_string()
    };
    assert_eq!(origin("LISTEN_ADDR"), "environment");
    assert_eq!(origin("LOG_LEVEL"), "file");
    assert_eq!(origin("LOG_FORMAT"), "default");
}

#[test]
fn every_problem_is_named_at_once_and_no_value() {
    let found = problems(
        &[
            ("REQUEST_TIMEOUT", "canary-1"),
            ("ENCRYPTION_KEY", "canary-2"),
            ("DB_DRIVER", "postgres"),
            ("DATABASE_URL", "postgres://canary-3"),
            ("LOG_RECORDS", "stdout"),
            ("TLS_CERT_FILE", "/nonexistent/canary"),
        ],
        "listn_addr: canary-4\nmax_request_bytes: canary-5\nretention_audit: 30d\n\
         capture_bodies: some\ncapture_body_bytes: canary-7\naudit_policy: perhaps\n\
         audit_require_reason: project.canary\n\
         metrics_path: {a: canary-6}\n",
    );
    let text = found.join("\n");
    for key in [
        "REQUEST_TIMEOUT: must be a length of time",
        "ENCRYPTION_KEY: must be base64 of exactly 32 bytes",
        "DB_DRIVER: not in this build",
        "DATABASE_URL: not in this build",
        "LOG_RECORDS: must be journal",
        "listn_addr: unknown key (did you mean listen_addr?)",
        "MAX_REQUEST_BYTES: must be a size",
        "RETENTION_AUDIT: must be a length of time, at least 183d",
        "CAPTURE_BODIES: must be off, errors or all",
        "CAPTURE_BODY_BYTES: must be a size",
        "AUDIT_POLICY: must be strict or available",
        "AUDIT_REQUIRE_REASON: must be actions",
        "metrics_path: must be one value",
    ] {
        assert!(text.contains(key), "{key} in\n{text}");
    }
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn secrets_come_from_files_too_and_are_never_shown() {
    let secret = written("canary-secret-of-length\n");
    let path = secret.path().display().to_string();
    let by_variable = environment(&[("MANAGEMENT_TOKEN_FILE", &path)]);
    let config = Config::load(&by_variable, None).expect("valid");
    let token = config.settings.management_token.as_ref().expect("set");
    assert_eq!(token.expose(), "canary-secret-of-length");
    assert!(!format!("{config:?}").contains("canary"));
    let shown = config.shown.iter().find(|line| line.key == "MANAGEMENT_TOKEN").expect("shown");
    assert_eq!((shown.value.as_str(), shown.origin.to_string()), ("***", path.clone()));

    let file = written(&format!("metrics_token_file: {path}\n"));
    let config = Config::load(&Environment::new(), Some(file.path())).expect("valid");
    assert!(config.settings.metrics_token.is_some());

    let twice = problems(
        &[("METRICS_TOKEN", "canary-secret-of-length"), ("METRICS_TOKEN_FILE", &path)],
        "",
    );
    assert_eq!(twice, ["METRICS_TOKEN: given twice, as a value and as a file"]);
    let absent = problems(&[("METRICS_TOKEN_FILE", "/nonexistent")], "");
    assert!(absent[0].starts_with("METRICS_TOKEN: the secret file cannot be read"), "{absent:?}");
}

#[test]
fn unknown_variables_of_ours_are_warned_about() {
    let config = Config::load(&environment(&[("LLM_PROXY_EVENT_BUS", "redis")]), None);
    let warnings = config.expect("valid").warnings;
    assert!(warnings[0].contains("LLM_PROXY_EVENT_BUS") && !warnings[0].contains("redis"));
}

#[test]
fn lengths_of_time_and_sizes() {
    use values::{Bytes, Value, duration, show_duration};
    let check = |text: &str, millis: Option<u64>| {
        assert_eq!(duration(text).map(|it| it.as_millis() as u64), millis, "{text}");
    };
    check("100ms", Some(100));
    check("1h30m", Some(5_400_000));
    check("90d", Some(7_776_000_000));
    check("10", None);
    check("", None);
    check("-1s", None);
    check("1w", None);
    check("99999999999999999999s", None);
    check("365000d", None);
    assert_eq!(show_duration(std::time::Duration::from_secs(90)), "90s");
    let check = |text: &str, bytes: Option<u64>| {
        assert_eq!(Bytes::parse(text).ok().map(|it| it.0), bytes, "{text}");
    };
    check("512MiB", Some(512 << 20));
    check("64 KiB", Some(64 << 10));
    check("2gb", Some(2_000_000_000));
    check("1", Some(1));
    check("0", None);
    check("1.5GiB", None);
    check("99999999999999TiB", None);
    assert_eq!(Bytes(512 << 20).show(), "512MiB");
}

#[test]
fn the_page_of_the_settings_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = docs::page();
    if asked_to_update() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("docs");
        std::fs::write(&path, &page).expect("written");
    }
    let current = std::fs::read_to_string(&path).expect("docs/configuration.md");
    assert_eq!(current, page, "run `cargo xtask docs`");
}

#[expect(clippy::disallowed_methods, reason = "a person asks this test to rewrite the page")]
fn asked_to_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

fn providers_of(file: &str) -> Result<Config, Problems> {
    let file = written(file);
    let path = file.path().display().to_string();
    Config::load(&environment(&[("API_CONFIG_PATH", &path), ("METRICS_PATH", "/stats")]), None)
}

#[test]
fn the_example_of_a_provider_file_is_valid() {
    let example = include_str!("../../../../config/providers.example.yaml");
    let providers = providers_of(example).expect("valid").providers;
    let internal = providers.by_name("internal").expect("there");
    assert_eq!(internal.base.path, "/inference");
    assert_eq!((internal.auth_header.as_str(), internal.auth_scheme.as_str()), ("api-key", ""));
    let openai = providers.by_name("openai").expect("there");
    assert_eq!(openai.allowed_methods.len(), 3);
    assert_eq!(openai.auth_scheme, "Bearer ");
    assert!(providers.by_name("anthropic").expect("there").propagate.traceparent);
    assert_eq!(providers.all.len(), 3);
}

#[test]
fn problems_of_a_provider_file_name_their_path_and_no_value() {
    let found = providers_of(
        "default_api: nobody\nextra: 1\napis:\n  manage: {base_url: 'https://a'}\n  \
         stats: {base_url: 'https://a', allowed_endpoints: [/*]}\n  \
         one:\n    base_url: ftp://canary\n    allowed_endpoints: [v1, /a*]\n    \
         timeouts: {request: canary, typo: 1s}\n    headers: {host: canary}\n    \
         propagate: [canary]\n    prices: {}\n",
    );
    let text = found.expect_err("refused").0.join("\n");
    for problem in [
        "default_api: there is no such provider",
        "extra: unknown key",
        "apis.manage: the name is reserved",
        "apis.manage.allowed_endpoints: is required",
        "apis.stats: the name is reserved",
        "apis.one.base_url: must be an http(s) address",
        "apis.one.allowed_endpoints[0]: must be",
        "apis.one.allowed_endpoints[1]: must be",
        "apis.one.timeouts.typo: unknown key",
    ] {
        assert!(text.contains(problem), "{problem} in\n{text}");
    }
    assert!(!text.contains("canary"), "{text}");
}
