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
    assert!(tree.find_subcommand("completions").is_some());
}
