//! The floor: hyper in, hyper out, nothing in between.

use anyhow::Result;
use http_body_util::BodyExt;
use hyper::{
    Request, Response, StatusCode, Uri, body::Incoming, header, http::uri::Authority,
    http::uri::Scheme,
};

use super::serve::{Answers, Body, Pool, Shape, full, pool, serve};

struct Bare {
    upstream: Authority,
}

/// Forwards everything to `upstream` until the process is ended.
pub fn run(address: std::net::SocketAddr, shape: Shape, upstream: &str) -> Result<()> {
    serve(address, shape, Bare { upstream: upstream.parse()? })
}

impl Answers for Bare {
    type Part = (Pool, Authority);

    fn part(&self) -> Self::Part {
        (pool(), self.upstream.clone())
    }

    async fn answer((pool, upstream): Self::Part, request: Request<Incoming>) -> Response<Body> {
        match pool.request(redirect(request, &upstream)).await {
            Ok(response) => response.map(BodyExt::boxed),
            Err(error) => bad_gateway(&error.to_string()),
        }
    }
}

/// The same request, addressed to the provider.
pub fn redirect(mut request: Request<Incoming>, upstream: &Authority) -> Request<Incoming> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.clone());
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request.headers_mut().remove(header::HOST);
    request
}

pub fn bad_gateway(text: &str) -> Response<Body> {
    let mut response = Response::new(full(text.to_owned()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
