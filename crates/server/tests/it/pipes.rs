//! Lines that come through a pipe, and those that somebody reads on a terminal.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    harness::{Ask, Home},
    support::binary,
};

/// What a terminal of 100 columns is shown, as it comes.
struct Terminal {
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// Gives both outputs of a command to a terminal of its own.
    fn of(command: &mut Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let side = ioctl_tiocgptpeer(&master, flags).unwrap();
        command.stdout(side.try_clone().unwrap()).stderr(side);
        let (send, shown) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut master = File::from(master);
            let mut buffer = [0; 4096];
            // The other side being closed is an error here.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                if send.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { shown, text: String::new() }
    }

    /// Looks until this is shown, or fails; `meanwhile` is done between looks.
    fn sees(&mut self, wanted: &str, mut meanwhile: impl FnMut()) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.text.contains(wanted) {
            assert!(Instant::now() < deadline, "no {wanted:?} in {:?}", self.text);
            meanwhile();
            if let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(20)) {
                self.text.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}

const CLEAR: &str = "\r\u{1b}[K";

#[test]
fn a_long_search_tells_how_far_it_is_until_it_finds_something() {
    let mut search = binary();
    search.args(["logs", "search", "needle", "-"]).stdin(Stdio::piped());
    search.env("TERM", "xterm").env_remove("NO_COLOR");
    let mut terminal = Terminal::of(&mut search);
    let mut child = search.spawn().unwrap();
    drop(search);
    let mut lines = child.stdin.take().unwrap();
    terminal.sees("0 of 1 files, ", || lines.write_all(b"hay\n").unwrap());
    lines.write_all(b"a needle \x1b[2J that commands\n").unwrap();
    terminal.sees("that commands", || {});
    let text = &terminal.text;
    let found = text.find("a needle").unwrap();
    let before = &text[..found];
    assert!(before.ends_with(CLEAR), "the line of progress is gone first: {text:?}");
    assert!(!text.contains("\u{1b}[2J"), "{text:?}");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_on_a_terminal_shows_rows_in_colour() {
    let mut home = Home::new().await;
    home.set("TERM", "xterm");
    let proxy = home.start().await;
    let token = proxy.token(&home, "acme", None).await;
    let mut search = home.command(&["logs", "search", "operation:chat", "-f"]);
    let mut terminal = Terminal::of(&mut search);
    let mut child = search.spawn().unwrap();
    drop(search);
    for (id, directives, colour) in [("shown-1", "", ""), ("shown-2", "status=500", "\u{1b}[31m")] {
        let ask = Ask::chat(&token, id).told(directives);
        proxy.client.ask(proxy.address, &ask).await;
        tokio::task::block_in_place(|| terminal.sees(id, || {}));
        let end = terminal.text.find(id).unwrap();
        let line = terminal.text[..end].lines().last().unwrap();
        assert!(line.starts_with(colour), "{:?}", terminal.text);
    }
    assert!(terminal.text.contains("\u{1b}[1mTS "), "{:?}", terminal.text);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    proxy.stop().await;
}

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
