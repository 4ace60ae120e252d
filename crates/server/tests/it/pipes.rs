//! Lines that come through a pipe.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use crate::support::binary;

#[test]
fn a_pipe_is_answered_while_it_is_written() {
    for args in [&["needle", "-"][..], &["-o", "logfmt", "-C", "1", "needle", "-"]] {
        let mut search = binary();
        search.args(["logs", "search"]).args(args);
        search.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut search = search.spawn().unwrap();
        let mut lines = search.stdin.take().unwrap();
        let mut found = BufReader::new(search.stdout.take().unwrap()).lines();
        for number in 0..3 {
            writeln!(lines, "{{\"msg\":\"needle {number}\"}}\nhay").unwrap();
            // The end of the pipe is far away: a line that is held back now would
            // be waited for in vain.
            let line = found.by_ref().find(|line| line.as_ref().unwrap().contains("needle"));
            assert!(line.unwrap().unwrap().contains(&format!("needle {number}")), "{args:?}");
        }
        drop(lines);
        assert!(found.all(|line| !line.unwrap().contains("needle")));
        assert_eq!(search.wait().unwrap().code(), Some(0));
    }
}
