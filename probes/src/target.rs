//! Where a probe's URL leads: an address to connect to, never a name for the system to resolve.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;
pub use scenarios::asks::literal;

/// A URL of `http[s]://LITERAL[:PORT]/PATH`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// Value of the Host header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Of `https`.
    pub secret: bool,
}

impl Target {
    /// Reads a URL whose host is an IP literal (IPv6 in brackets).
    pub fn parse(url: &str) -> Result<Self, String> {
        let Parts {
            host,
            port,
            path,
            secret,
        } = split(url)?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr = literal
            .parse()
            .map_err(|_| format!("host `{host}` is no IP address, and probes resolve no names"))?;
        Ok(Self {
            address: SocketAddr::new(address, port),
            host: with_port(&host, port, secret),
            path,
            secret,
        })
    }

    /// The same; the server is called by this name, if there is one.
    pub fn parse_named(url: &str, name: Option<&str>) -> Result<Self, String> {
        let mut target = Self::parse(url)?;
        if let Some(name) = name {
            let port = target.address.port();
            target.host = with_port(name.trim_end_matches('.'), port, target.secret);
        }
        Ok(target)
    }

    /// Reads an entrypoint's URL for the address that DNS gave. Users send the name they called.
    pub fn of_entrypoint(url: &str, name: &str, address: IpAddr) -> Result<Self, String> {
        let Parts {
            host,
            port,
            path,
            secret,
        } = split(&url.replace("{address}", &literal(address)))?;
        let name = name.trim_end_matches('.');
        if host != literal(address) && !host.trim_end_matches('.').eq_ignore_ascii_case(name) {
            return Err(format!("host `{host}` is neither {{address}} nor {name}"));
        }
        Ok(Self {
            address: SocketAddr::new(address, port),
            host: with_port(name, port, secret),
            path,
            secret,
        })
    }
}

fn default_port(secret: bool) -> u16 {
    if secret { 443 } else { 80 }
}

fn with_port(host: &str, port: u16, secret: bool) -> String {
    if port == default_port(secret) {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}

struct Parts {
    host: String,
    port: u16,
    path: String,
    secret: bool,
}

fn split(url: &str) -> Result<Parts, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let secret = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err("only http:// and https:// are probed".to_owned()),
    };
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or("it has no host")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Parts {
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(default_port(secret)),
        path: path.to_owned(),
        secret,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_both_families_with_and_without_port() {
        let parse = |url| {
            let Target {
                address,
                host,
                path,
                ..
            } = Target::parse(url).unwrap();
            (address.to_string(), host, path)
        };
        let owned = |a: &str, h: &str, p: &str| (a.to_owned(), h.to_owned(), p.to_owned());
        assert_eq!(
            parse("http://10.1.0.1/a?b=c"),
            owned("10.1.0.1:80", "10.1.0.1", "/a?b=c")
        );
        assert_eq!(
            parse("http://10.1.0.1:8080"),
            owned("10.1.0.1:8080", "10.1.0.1:8080", "/")
        );
        assert_eq!(
            parse("http://[fd00::1]/"),
            owned("[fd00::1]:80", "[fd00::1]", "/")
        );
        assert_eq!(
            parse("http://[fd00::1]:81/x"),
            owned("[fd00::1]:81", "[fd00::1]:81", "/x")
        );
    }

    #[test]
    fn https_has_its_own_port_and_may_have_a_name() {
        let named = |url| Target::parse_named(url, Some("shop.example.")).unwrap();
        let target = named("https://10.1.0.1/x");
        assert_eq!((target.address.port(), target.secret), (443, true));
        assert_eq!(target.host, "shop.example");
        assert_eq!(named("https://10.1.0.1:8443/").host, "shop.example:8443");
        assert_eq!(
            Target::parse("https://10.1.0.1:80/").unwrap().host,
            "10.1.0.1:80"
        );
    }

    #[test]
    fn bad_urls_are_errors() {
        for url in [
            "",
            "/",
            "10.1.0.1",
            "ftp://10.1.0.1/",
            "http://shop.example/",
            "http://",
            "http://a b/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn entrypoint_connects_to_the_address_and_sends_the_name() {
        let address: IpAddr = "fd00::1".parse().unwrap();
        for url in ["http://{address}:81/x", "http://shop.example:81/x"] {
            let target = Target::of_entrypoint(url, "shop.example.", address).unwrap();
            assert_eq!(target.address, "[fd00::1]:81".parse().unwrap());
            assert_eq!(
                (target.host.as_str(), target.path.as_str()),
                ("shop.example:81", "/x")
            );
        }
        assert!(Target::of_entrypoint("http://10.0.0.1/", "shop.example", address).is_err());
    }
}
