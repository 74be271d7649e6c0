use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use super::*;
use crate::body::Body;

fn view() -> View {
    View {
        prefix: "/api/v1/namespaces/n/services/s/proxy".to_owned(),
        backend: "10.0.0.1:80".to_owned(),
        host: "localhost:8001".to_owned(),
    }
}

#[test]
fn links() {
    let check = |link: &str, expect: &str| {
        let expect = expect.replace('~', "/api/v1/namespaces/n/services/s/proxy");
        assert_eq!(view().link(link), expect, "{link}");
    };
    check("/x", "~/x");
    check("/x/?a=b#c", "~/x/?a=b#c");
    check("/", "~/");
    check("x/y", "x/y");
    check("", "");
    check("#top", "#top");
    check("http://10.0.0.1:80/x", "~/x");
    check("http://localhost:8001/x", "http://localhost:8001~/x");
    check("//10.0.0.1:80/x", "~/x");
    check("https://example.com/x", "https://example.com/x");
    check("mailto:someone@example.com", "mailto:someone@example.com");
    check("/api/v1/namespaces/n/services/s/proxy/x", "~/x");
}

/// The page that comes in pieces of this length.
fn rewrite(page: &str, length: usize) -> String {
    let (mut rewriter, mut out) = (Rewriter::new(view()), Vec::new());
    for piece in page.as_bytes().chunks(length) {
        rewriter.push(piece, &mut out);
    }
    rewriter.finish(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn pages() {
    let check = |page: &str, expect: &str| {
        let expect = expect.replace('~', "/api/v1/namespaces/n/services/s/proxy");
        for length in [1, 2, 3, 7, page.len()] {
            assert_eq!(rewrite(page, length), expect, "{length}");
        }
    };
    check(r#"<p><a class=x href="/y">z</a> 1 < 2"#, r#"<p><a class=x href="~/y">z</a> 1 < 2"#);
    check("<IMG alt='a > b' SRC=/i.png><br/>", "<IMG alt='a > b' SRC=~/i.png><br/>");
    check("<!-- <a href='/x'> --><a href='/x'>", "<!-- <a href='/x'> --><a href='~/x'>");
    check("<!--><a href='/x'>", "<!--><a href='~/x'>");
    check("<!-- - -- > <a href='/x'>--->", "<!-- - -- > <a href='/x'>--->");
    check(
        r#"<script src="/s.js">if (a<b) x = '<a href="/x">'</script><link href="/c">"#,
        r#"<script src="~/s.js">if (a<b) x = '<a href="/x">'</script><link href="~/c">"#,
    );
    check("<title><</title</TITLE><a href=/x>", "<title><</title</TITLE><a href=~/x>");
    check("<style><<//</style ><a href=/x>", "<style><<//</style ><a href=~/x>");
    check("a < \"b\" << <a href=/x>", "a < \"b\" << <a href=~/x>");
    check("<a href=", "<a href=");
    check("<a href=/x", "<a href=~/x");
    check("<p title=\"/x\">", "<p title=\"/x\">");
}

#[test]
fn no_more_than_a_tag_is_kept() {
    let page = format!("<a href=\"/{}\"><a href=/x>", "y".repeat(2 * LONGEST_TAG));
    let (mut rewriter, mut out) = (Rewriter::new(view()), Vec::new());
    for piece in page.as_bytes().chunks(1000) {
        rewriter.push(piece, &mut out);
        assert!(rewriter.kept.len() <= LONGEST_TAG + 1);
    }
    rewriter.finish(&mut out);
    let long = format!("<a href=\"/{}\">", "y".repeat(2 * LONGEST_TAG));
    let expect = format!("{long}<a href=/api/v1/namespaces/n/services/s/proxy/x>");
    assert!(out == expect.as_bytes());
}

fn page_headers(coding: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
    headers
}

fn zipped(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(page).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_page_stays_encoded_as_it_was() {
    let mut headers = page_headers("gzip");
    assert!(is_page(&headers));
    let body = rewritten(view(), &mut headers, zipped(b"<a href=/x>").into());
    assert!(!headers.contains_key(CONTENT_LENGTH));
    let page = body.collect().await.unwrap().to_bytes();
    let mut plain = String::new();
    GzDecoder::new(&*page).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, "<a href=/api/v1/namespaces/n/services/s/proxy/x>");
    let nothing = rewritten(view(), &mut page_headers("gzip"), Body::empty());
    assert!(nothing.collect().await.unwrap().to_bytes().is_empty());
    let cut = zipped(b"<a href=/x>")[..12].to_vec();
    assert!(rewritten(view(), &mut page_headers("gzip"), cut.into()).collect().await.is_err());
    assert!(rewritten(view(), &mut page_headers("gzip"), "no gzip".into()).collect().await.is_err());
}

/// 8 MB in 40 kB, and 300 kB of links that grow fivefold.
#[tokio::test]
async fn a_page_passes_in_small_pieces() {
    let links = zipped("<a href=/>".repeat(30_000).as_bytes());
    for (page, least) in [(zipped(&vec![b'x'; 8 << 20]), 5_000), (links, 1_000)] {
        let mut body = rewritten(view(), &mut page_headers("gzip"), page.into());
        let mut whole = 0;
        while let Some(frame) = body.frame().await {
            let length = frame.unwrap().into_data().unwrap().len();
            assert!(length <= 1 << 20, "{length}");
            whole += length;
        }
        assert!(whole > least, "{whole}");
    }
}
