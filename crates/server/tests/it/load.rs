//! Many clients at once, and their account.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::harness::{Ask, Client, Credential, Dice, Seen};

/// Clients that send one request after another until they are stopped or the
/// server is gone.
pub struct Load {
    stop: CancellationToken,
    clients: Vec<tokio::task::JoinHandle<Vec<Seen>>>,
    sent: Arc<AtomicU64>,
}

/// How a client makes its next request.
pub type Recipe = fn(&mut Dice, &Credential, String) -> Ask;

/// Something of everything: short and long, whole and broken.
pub fn mixture(dice: &mut Dice, token: &Credential, id: String) -> Ask {
    let ask = Ask::chat(token, id);
    match dice.below(20) {
        0..8 => ask.told("latency=3ms"),
        8..12 => ask.streamed().told("chunks=20,chunk_delay=4ms"),
        12..14 => ask.streamed().told("chunks=200,chunk_delay=20ms"),
        14 => ask.streamed().told("chunks=20,cut=4"),
        15 => ask.told("status=500"),
        16 => ask.told("latency=400ms"),
        17 => Ask { path: "/v1/nothing-here", ..ask.told("status=404") },
        _ => ask,
    }
}

/// Short and successful.
pub fn plain(dice: &mut Dice, token: &Credential, id: String) -> Ask {
    Ask::chat(token, id).told(format!("latency={}ms", dice.below(6)))
}

impl Load {
    pub fn begin(
        clients: u64,
        tag: &str,
        address: SocketAddr,
        token: &Credential,
        recipe: Recipe,
        dice: &mut Dice,
    ) -> Self {
        let stop = CancellationToken::new();
        let sent = Arc::new(AtomicU64::new(0));
        let client = |number: u64| {
            let (mut dice, stop, sent) = (dice.fork(), stop.clone(), Arc::clone(&sent));
            let (token, tag) = (token.clone(), tag.to_owned());
            tokio::spawn(async move {
                let client = Client::new();
                let mut account = Vec::new();
                while !stop.is_cancelled() {
                    let id = format!("{tag}-{number}-{}", account.len());
                    let seen = client.ask(address, &recipe(&mut dice, &token, id)).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    let gone = seen.head.is_none();
                    account.push(seen);
                    if gone {
                        break;
                    }
                }
                account
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, clients, sent }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// No further requests; returns what became of all.
    pub async fn end(self) -> Vec<Seen> {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until the clients find the server gone.
    pub async fn ended(self) -> Vec<Seen> {
        let mut account = Vec::new();
        for client in self.clients {
            account.extend(client.await.unwrap());
        }
        account
    }
}
