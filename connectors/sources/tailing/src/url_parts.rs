use url::Url;

/// Stands for a host that is not there; no host can have this name (RFC 2606).
const NO_HOST: &str = "none.invalid";

/// A database's URL taken apart, with `%` escapes undone.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlParts {
    /// What stands before `://`.
    pub scheme: String,
    /// Empty ones are `None`.
    pub user: Option<String>,
    /// As it stands in the URL.
    pub password: Option<String>,
    /// A name or address (an IPv6 address without its brackets); empty ones are `None`.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The path without its slash; empty ones are `None`.
    pub database: Option<String>,
    /// Names and values behind the `?`.
    pub parameters: Vec<(String, String)>,
}

impl UrlParts {
    /// Takes a URL apart. An error is the beginning of a sentence that says what is wrong; it holds nothing of the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(&with_host(text)).map_err(|error| format!("this is no URL ({error})"))?;
        let decoded = |text: &str| percent_decoded(text).ok_or_else(|| "an escape with `%` is wrong".to_owned());
        let filled = |text: &str| decoded(text).map(|text| Some(text).filter(|text| !text.is_empty()));
        let host = url.host_str().map(decoded).transpose()?.filter(|host| !host.is_empty() && host != NO_HOST);
        Ok(Self {
            scheme: url.scheme().to_owned(),
            user: filled(url.username())?,
            password: url.password().map(decoded).transpose()?,
            // An IPv6 address stands in brackets in a URL, and nowhere else.
            host: host.map(|name| name.trim_start_matches('[').trim_end_matches(']').to_owned()),
            port: url.port(),
            database: filled(url.path().trim_start_matches('/'))?,
            parameters: url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        })
    }
}

/// `postgres://user@/database?host=/folder` is usual for unix sockets, but to a URL parser a user needs a host.
fn with_host(url: &str) -> String {
    let authority_end = url.find("://").and_then(|start| url[start + 3..].find('/').map(|len| start + 3 + len));
    match authority_end {
        Some(end) if url[..end].ends_with('@') => format!("{}{NO_HOST}{}", &url[..end], &url[end..]),
        _ => url.to_owned(),
    }
}

/// Undoes `%41`; `None` where an escape is wrong or the result is no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_found() {
        let parts = UrlParts::parse("mysql://a%40b:p%25@[::1]:3307/my%20db?x=1&y=%2Ftmp").unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!((parts.user, parts.password, parts.host), (text("a@b"), text("p%"), text("::1")));
        assert_eq!((parts.scheme.as_str(), parts.port, parts.database), ("mysql", Some(3307), text("my db")));
        assert_eq!(parts.parameters, [("x".to_owned(), "1".to_owned()), ("y".to_owned(), "/tmp".to_owned())]);
        let bare = UrlParts::parse("postgres://u@/d").unwrap();
        assert_eq!((bare.host, bare.port, bare.database), (None, None, text("d")));
        assert!(UrlParts::parse("mysql://h/%zz").is_err() && UrlParts::parse("nonsense").is_err());
    }
}
