//! The second stage: whose request is this? Yields [`Authenticated`], which
//! nothing else can make.

use std::sync::Arc;

use domain::{failure::ErrorCode, token::Token};
use http::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};

use crate::{
    finish::Unfinished,
    hop::{API_KEY, X_API_KEY, X_GOOG_API_KEY},
    plane::Plane,
    ports::{Found, Grant},
    rescue::Refusal,
    scope::RequestScope,
};

/// Proof that a valid token was presented, and what it grants.
pub struct Authenticated {
    grant: Arc<Grant>,
}

impl Authenticated {
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }
}

pub async fn authenticate(
    plane: &Plane,
    headers: &HeaderMap,
    exchange: &mut Unfinished,
    scope: &RequestScope,
) -> Result<Authenticated, Refusal> {
    let parts = &plane.parts;
    let mark = |credential: &[u8]| Box::new(parts.denials.mark(credential));
    let credential = presented(headers)?;
    let Some(token) = Token::parse(credential) else {
        exchange.credential = Some(mark(credential));
        return Err(not_a_token());
    };
    let hash = token.hash(&parts.hash_key);
    let unavailable = || {
        Refusal::new(
            ErrorCode::DirectoryUnavailable,
            "the token cannot be checked now; try again shortly",
        )
        .retry_after(1_000_000)
    };
    let grant = match parts.directory.find(&hash) {
        Found::Grant(grant) => grant,
        Found::Absent => {
            exchange.credential = Some(mark(credential));
            return Err(not_found());
        }
        Found::Stale => return Err(unavailable()),
        Found::Unknown => match parts.directory.load(hash).await {
            Ok(Some(grant)) => grant,
            Ok(None) => {
                exchange.credential = Some(mark(credential));
                return Err(not_found());
            }
            Err(_) => return Err(unavailable()),
        },
    };
    let record = exchange.record_mut();
    record.project_id = Some(grant.project_id);
    record.project = Some(Arc::clone(&grant.project));
    record.token_id = Some(grant.token_id);
    record.labels.clone_from(&grant.labels);
    let verbosity = parts.verbosity.verbosity(grant.project_id, grant.token_id);
    scope.identify(grant.project_id, grant.token_id, verbosity);
    exchange.grant = Some(Arc::clone(&grant));
    if !grant.token_active {
        return Err(Refusal::new(
            ErrorCode::TokenInactive,
            "this token was switched off or revoked; ask for another",
        ));
    }
    if grant.expires_at.is_some_and(|at| at <= exchange.record().ts) {
        return Err(Refusal::new(
            ErrorCode::TokenExpired,
            "this token has expired; ask for another",
        ));
    }
    if !grant.project_active {
        return Err(Refusal::new(
            ErrorCode::ProjectInactive,
            "the project of this token is inactive",
        ));
    }
    Ok(Authenticated { grant })
}

fn not_found() -> Refusal {
    Refusal::new(ErrorCode::TokenNotFound, "this token is not known here; check it, or ask for one")
}

fn not_a_token() -> Refusal {
    Refusal::new(
        ErrorCode::TokenInvalid,
        "the credential is not a token of this proxy ('sk-' and 43 characters, sent as \
         'Authorization: Bearer' or in the key header of your SDK)",
    )
}

/// Takes the credential from where SDKs put their keys. All of these headers
/// are removed before anything is forwarded.
fn presented(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match values.next() {
        Some(value) if values.next().is_none() => bearer(value).ok_or_else(not_a_token),
        Some(_) => Err(not_a_token()),
        None => {
            let keys = [X_API_KEY, API_KEY, X_GOOG_API_KEY];
            let found = keys.iter().find_map(|name| headers.get(name));
            found.map(HeaderValue::as_bytes).ok_or_else(|| {
                Refusal::new(
                    ErrorCode::TokenMissing,
                    "no token was sent; send one as 'Authorization: Bearer' or in the key header \
                     of your SDK",
                )
            })
        }
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let bytes = value.as_bytes();
    let (scheme, rest) = bytes.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_from_every_usual_header() {
        let token = format!("sk-{}", "a".repeat(43));
        let check = |headers: &[(&'static str, String)], expected: Result<(), ErrorCode>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().expect("a header value"));
            }
            let token = |text: &[u8]| Token::parse(text).ok_or_else(not_a_token);
            let found = presented(&map).and_then(token);
            let found = found.map(|_| ()).map_err(|refusal| refusal.code);
            assert_eq!(found, expected, "{headers:?}");
        };
        check(&[("authorization", format!("Bearer {token}"))], Ok(()));
        check(&[("authorization", format!("bearer  {token} "))], Ok(()));
        for name in ["x-api-key", "api-key", "x-goog-api-key"] {
            check(&[(name, token.clone())], Ok(()));
        }
        check(&[], Err(ErrorCode::TokenMissing));
        check(&[("authorization", "Basic abc".into())], Err(ErrorCode::TokenInvalid));
        check(&[("authorization", "Bearer".into())], Err(ErrorCode::TokenInvalid));
        check(
            &[("authorization", format!("Bearer mk-{}", "a".repeat(43)))],
            Err(ErrorCode::TokenInvalid),
        );
        let both =
            [("authorization", format!("Bearer {token}")), ("authorization", "Bearer x".into())];
        check(&both, Err(ErrorCode::TokenInvalid));
    }
}
