//! What the fuzz targets share: observing one body whole and cut.

use bytes::Bytes;
use dataplane::observe::{RequestObserver, ResponseObserver};
use domain::provider::{Operation, ProviderKind};
use http::{HeaderMap, HeaderValue, header};

fn headers(content_type: &'static str, coding: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    headers
}

/// The first byte of the input chooses how the rest is cut.
fn cut(body: &[u8], choice: u8) -> Vec<Bytes> {
    let size = usize::from(choice % 31) + 1;
    body.chunks(size).map(Bytes::copy_from_slice).collect()
}

/// Facts must not depend on where the bytes are cut.
pub fn check_answer(content_type: &'static str, status: u16, input: &[u8]) {
    let Some((choice, body)) = input.split_first() else { return };
    let observe = |frames: &[Bytes]| {
        let headers = headers(content_type, None);
        let kind = ProviderKind::Other;
        let mut observer = ResponseObserver::new(kind, Operation::Chat, status, &headers);
        let tokens = frames.iter().filter(|frame| observer.data(frame)).count();
        format!("{tokens} {:?}", observer.finish(true))
    };
    let whole = observe(&[Bytes::copy_from_slice(body)]);
    assert_eq!(observe(&cut(body, *choice)), whole);
}

/// The same for requests.
pub fn check_request(content_type: &'static str, input: &[u8]) {
    let Some((choice, body)) = input.split_first() else { return };
    let observe = |frames: &[Bytes]| {
        let headers = headers(content_type, None);
        let mut observer = RequestObserver::new(Operation::Chat, &headers);
        frames.iter().for_each(|frame| observer.data(frame));
        format!("{:?}", observer.finish())
    };
    let whole = observe(&[Bytes::copy_from_slice(body)]);
    assert_eq!(observe(&cut(body, *choice)), whole);
}

/// Coded bodies only have to be survived.
pub fn check_coded(coding: &'static str, input: &[u8]) {
    let Some((choice, body)) = input.split_first() else { return };
    let headers = headers("application/json", Some(coding));
    let mut observer =
        ResponseObserver::new(ProviderKind::Openai, Operation::Chat, 200, &headers);
    for frame in cut(body, *choice) {
        observer.data(&frame);
    }
    observer.finish(true);
}
