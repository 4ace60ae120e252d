//! Who is at the other end: the peer, and the client that a trusted proxy
//! vouches for.

use std::net::{IpAddr, Ipv6Addr};

use domain::context::ClientAddress;
use http::HeaderMap;
use ipnet::IpNet;

/// Follows `X-Forwarded-For` (or `Forwarded`) from the right for as long as the
/// hop that wrote an address is trusted. Anything else is what anyone can send.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    let peer = canonical(peer);
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer;
    if trusted.is_empty() || !is_trusted(&peer) {
        return ClientAddress { peer, client };
    }
    let hops = match forwarded(headers, "x-forwarded-for") {
        hops if !hops.is_empty() => hops,
        _ => forwarded(headers, "forwarded"),
    };
    for hop in hops.iter().rev() {
        match parse_hop(hop) {
            Some(address) => client = address,
            None => break,
        }
        if !is_trusted(&client) {
            break;
        }
    }
    ClientAddress { peer, client }
}

fn forwarded<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|hop| !hop.is_empty())
        .collect()
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80` and, of `Forwarded`,
/// `for="[2001:db8::1]:80";proto=https`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let node = hop.split(';').map(str::trim).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let text = node.unwrap_or(hop).trim_matches('"');
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next()?.parse::<Ipv6Addr>().ok().map(|ip| canonical(ip.into()));
    }
    let address = text.parse().ok().or_else(|| text.rsplit_once(':')?.0.parse().ok())?;
    Some(canonical(address))
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The network that a client's refusals are counted under: /24 or /48.
pub fn client_network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_hops_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a network")];
        let check = |peer: &str, name: &'static str, value: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header value"));
            let peer = peer.parse().expect("an address");
            let found = client_address(peer, &headers, &trusted).client;
            assert_eq!(found.to_string(), expected, "{peer} {name}: {value}");
        };
        check("192.0.2.9", "x-forwarded-for", "198.51.100.1", "192.0.2.9");
        check("10.0.0.1", "x-forwarded-for", "198.51.100.1", "198.51.100.1");
        check("10.0.0.1", "x-forwarded-for", "203.0.113.5, 198.51.100.1, 10.2.3.4", "198.51.100.1");
        check("10.0.0.1", "x-forwarded-for", "forged, 198.51.100.1", "198.51.100.1");
        check("10.0.0.1", "x-forwarded-for", "10.9.9.9", "10.9.9.9");
        check("10.0.0.1", "x-forwarded-for", "nonsense", "10.0.0.1");
        check("10.0.0.1", "forwarded", "for=\"[2001:db8::1]:80\";proto=https", "2001:db8::1");
        check("10.0.0.1", "x-forwarded-for", "198.51.100.1:4711", "198.51.100.1");
        check("::ffff:10.0.0.1", "x-forwarded-for", "198.51.100.1", "198.51.100.1");
    }

    #[test]
    fn networks_group_neighbours() {
        let network = |text: &str| client_network(text.parse().expect("an address")).to_string();
        assert_eq!(network("198.51.100.77"), "198.51.100.0");
        assert_eq!(network("2001:db8:1:2::3"), "2001:db8:1::");
    }
}
