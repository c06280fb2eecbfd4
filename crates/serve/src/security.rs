//! Which requests are accepted: by host, origin and key.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{
        HeaderValue, Method,
        header::{self, HeaderMap},
        uri::Authority,
    },
    middleware::Next,
    response::Response,
};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::{App, Origin, error::ApiError};

/// Routes that need no key: the page, which has a field for it, and the health check.
const PUBLIC: [&str; 3] = ["/", "/page/{file}", "/health"];

/// The hosts that a request may name in `Host`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hosts {
    Any,
    /// `localhost`, 127.0.0.1, \[::1\] and the address itself, with any port.
    Loopback(IpAddr),
}

impl Hosts {
    /// Restricted for a server that only this machine reaches. A web page elsewhere may give its own name the address
    /// 127.0.0.1 (DNS rebinding). The browser then sends its requests to this server, with that name in `Host`.
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::Loopback(address.ip()) } else { Self::Any }
    }

    fn contain(self, host: &str) -> bool {
        let Self::Loopback(own) = self else { return true };
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || ip.is_ok_and(|ip| [own, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].contains(&ip))
    }
}

/// Answers 403 if the request names another host.
pub(crate) async fn check_host(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let named = request.uri().authority().map(Authority::as_str).or(named).unwrap_or_default();
    if !hosts.contain(named) {
        return Err(ApiError::forbidden(format!(
            "this server only answers on localhost, and the request is for host `{named}`; use http://localhost, or \
             serve another address with --host and --api-key"
        )));
    }
    Ok(next.run(request).await)
}

/// Answers 401 if the server has a key and the request does not.
pub(crate) async fn check_key(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(key) = &app.settings.api_key
        && !request.extensions().get::<MatchedPath>().is_some_and(|route| PUBLIC.contains(&route.as_str()))
        && !bearer(request.headers()).is_some_and(|sent| key.is(sent))
    {
        return Err(ApiError::unauthorized());
    }
    Ok(next.run(request).await)
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Allows web pages of these origins to send requests.
pub(crate) fn cors(origins: &[Origin]) -> CorsLayer {
    let origins = match origins.iter().any(Origin::is_any) {
        true => AllowOrigin::from(Any),
        false => AllowOrigin::list(origins.iter().map(Origin::value)),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER])
}

/// Headers that keep a browser from loading anything from elsewhere into the page, and from showing it in a frame.
pub(crate) async fn restrict_page(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                          img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_server_is_named_by_loopback_names_only() {
        let hosts = Hosts::of("127.0.0.1:8080".parse().unwrap());
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:80"] {
            assert!(hosts.contain(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "127.0.0.2",
            "192.168.0.7:8080",
            "localhost@example.org",
            "example.org@localhost.evil",
            "[::2]",
            "local host",
            "0",
        ] {
            assert!(!hosts.contain(host), "{host}");
        }
        assert!(Hosts::of("127.0.0.2:1".parse().unwrap()).contain("127.0.0.2:1"));
        assert!(Hosts::of("[::1]:1".parse().unwrap()).contain("localhost"));
        assert!(!Hosts::of("[::1]:1".parse().unwrap()).contain("example.org"));
        assert!(Hosts::of("0.0.0.0:1".parse().unwrap()).contain("example.org"));
    }
}
