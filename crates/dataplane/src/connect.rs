//! Connections to providers: TCP without delay, TLS by rustls with ALPN, and
//! through a forward proxy where one is configured.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::{
    legacy::connect::{HttpConnector, proxy::Tunnel},
    proxy::matcher::Matcher,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tower::Service;

use crate::{answer::BoxError, last_word::LastWord};

/// How providers are reached, decided once.
#[derive(Clone)]
pub struct Upstreams {
    tls: ClientConfig,
    proxy: Option<Arc<Matcher>>,
}

impl Upstreams {
    /// Trusts the public authorities, and `extra` beside them. `https_proxy` and
    /// `no_proxy` have the meaning that curl gave them.
    pub fn new(
        extra: &[CertificateDer<'static>],
        https_proxy: Option<&str>,
        no_proxy: Option<&str>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in extra {
            roots.add(certificate.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let proxy = https_proxy.map(|proxy| {
            let builder = Matcher::builder().https(proxy.to_owned());
            Arc::new(builder.no(no_proxy.unwrap_or("").to_owned()).build())
        });
        Ok(Self { tls, proxy })
    }

    pub(crate) fn connector(&self, connect_timeout: Duration) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Without it the last small chunk of an answer waits for an
        // acknowledgement.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(Route { tcp, proxy: self.proxy.clone() });
        Connector { https, connect_timeout }
    }
}

/// A connection ready for requests, tunnel and TLS included, within the connect
/// timeout.
#[derive(Clone)]
pub(crate) struct Connector {
    https: HttpsConnector<Route>,
    connect_timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<Route> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.connect_timeout, self.https.call(target));
        Box::pin(async move { connecting.await? })
    }
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Straight to the provider, or through the forward proxy's tunnel.
#[derive(Clone)]
pub(crate) struct Route {
    tcp: HttpConnector,
    proxy: Option<Arc<Matcher>>,
}

impl Service<Uri> for Route {
    type Response = LastWord;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let through = self.proxy.as_ref().and_then(|proxy| proxy.intercept(&target));
        match through {
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
                if let Some(credential) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credential.clone());
                }
                Box::pin(async move { Ok(LastWord::new(tunnel.call(target).await?)) })
            }
            None => {
                let connecting = self.tcp.call(target);
                Box::pin(async move { Ok(LastWord::new(connecting.await?)) })
            }
        }
    }
}
