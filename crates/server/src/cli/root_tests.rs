//! The tree itself.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_tree_is_consistent_and_has_what_the_contract_names() {
    let tree = Cli::command();
    tree.clone().debug_assert();
    let below = |name: &str| {
        let command = tree.find_subcommand(name).expect("a command");
        command.get_subcommands().map(|it| it.get_name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(below("config"), ["check", "show"]);
    assert_eq!(below("project"), ["create", "list", "get", "update"]);
    assert_eq!(below("token"), ["create", "list", "get", "update", "revoke"]);
    assert_eq!(below("key"), ["create", "list", "revoke"]);
    assert_eq!(below("db"), ["migrate", "status"]);
    assert_eq!(
        below("logs"),
        [
            "tail", "search", "show", "fields", "files", "check", "segments", "compact", "prune",
            "erase", "adopt", "redact"
        ]
    );
    assert!(tree.find_subcommand("completions").is_some());
}

#[test]
fn wrong_usage_of_a_search_is_2_and_of_others_64() {
    let check = |typed: &str, expected: u8| {
        let typed: Vec<std::ffi::OsString> = typed.split(' ').map(Into::into).collect();
        assert_eq!(wrong_usage(&typed), expected, "{typed:?}");
    };
    check("llm-proxy logs search --status abc", 2);
    check("llm-proxy --config c.yaml logs tail --bogus", 2);
    check("llm-proxy token create logs", 64);
    check("llm-proxy bogus", 64);
    check("llm-proxy", 64);
}

#[test]
fn a_query_may_begin_with_a_minus() {
    let check = |typed: &[&str], expected: &[&str]| {
        let typed = typed.iter().map(Into::into).collect();
        let expected: Vec<std::ffi::OsString> = expected.iter().map(Into::into).collect();
        assert_eq!(dashed::queries_marked(typed), expected);
    };
    check(
        &["llm-proxy", "logs", "search", "-outcome:ok"],
        &["llm-proxy", "logs", "search", " -outcome:ok"],
    );
    check(
        &["llm-proxy", "logs", "search", "-a -b", "-f"],
        &["llm-proxy", "logs", "search", " -a -b", "-f"],
    );
    check(
        &["llm-proxy", "logs", "tail", "-n", "5", "-ojson"],
        &["llm-proxy", "logs", "tail", "-n", "5", "-ojson"],
    );
    check(
        &["llm-proxy", "logs", "search", "--user=a b"],
        &["llm-proxy", "logs", "search", "--user=a b"],
    );
    check(
        &["llm-proxy", "logs", "search", "-timeout", "-C", "2", "-fC3", "-overloaded", "-5"],
        &["llm-proxy", "logs", "search", " -timeout", "-C", "2", "-fC3", " -overloaded", "-5"],
    );
    check(
        &["llm-proxy", "logs", "--data-dir", "-d", "search", "--user", "-bob", "-f", "--", "-x"],
        &["llm-proxy", "logs", "--data-dir", "-d", "search", "--user", "-bob", "-f", "--", "-x"],
    );
    check(&["llm-proxy", "logs", "show", "-id"], &["llm-proxy", "logs", "show", "-id"]);
    check(&["llm-proxy", "token", "list", "-a:b"], &["llm-proxy", "token", "list", "-a:b"]);
    let typed = ["llm-proxy", "logs", "search", "-outcome:ok -level:info", "-o", "json"];
    let typed = dashed::queries_marked(typed.iter().map(Into::into).collect());
    assert!(matches!(Cli::try_parse_from(typed), Ok(Cli { command: Command::Logs(_), .. })));
}
