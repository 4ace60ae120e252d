//! docs/configuration.md, generated from the table of settings.

use std::fmt::Write as _;

use super::settings::{ALL, Setting};

const HEAD: &str = "\
# Configuration

<!-- Generated from crates/server/src/config/settings.rs by `cargo xtask docs`; a test keeps it \
current. -->

Environment beats file beats default. The file is YAML, named by `--config` or \
`LLM_PROXY_CONFIG`; its keys are the variables in lower case (`listen_addr`). A list is a YAML \
list or values separated by commas. An empty variable counts as absent.

Unknown keys and values that cannot be read refuse the start; all problems are listed at once, \
by key, never by value. `llm-proxy config check` does only that, `llm-proxy config show` prints \
what is in effect and where it comes from, with `***` for secrets. Unknown variables that begin \
with `LLM_PROXY_` are warned about.

A *secret* may also come from a file: `X_FILE` (in the file: `x_file`) names it.

What says *not in this build* belongs to a later release; setting it refuses the start.
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for setting in ALL {
        if setting.section != section {
            section = setting.section;
            line(&mut page, format_args!("\n## {section}\n"));
            line(&mut page, format_args!("| variable | default | form | meaning |"));
            line(&mut page, format_args!("|---|---|---|---|"));
        }
        row(&mut page, setting);
    }
    page
}

fn row(page: &mut String, setting: &Setting) {
    let default = match (setting.default_text, setting.default) {
        ("", "") => "none".to_owned(),
        ("", default) => format!("`{default}`"),
        (text, _) => text.to_owned(),
    };
    let secret = if setting.secret { " (secret)" } else { "" };
    let meaning: Vec<&str> = setting.meaning.iter().map(|line| line.trim()).collect();
    let (variable, form, meaning) = (setting.variable, setting.form, meaning.join(" "));
    line(page, format_args!("| `{variable}`{secret} | {default} | {form} | {meaning} |"));
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes every write");
}
