use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn plain_server(drain: Duration) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let service = service_fn(|request: Request<Incoming>| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let peer = request.extensions().get::<Peer>().unwrap().address();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(peer.ip().to_string()))))
    });
    let options = Options { drain, ..Options::default() };
    let server = tokio::spawn(serve(listener, None, service, options, shutdown.clone()));
    (address, shutdown, server)
}

#[tokio::test]
async fn a_running_request_ends_before_the_server() {
    let (address, shutdown, server) = plain_server(Duration::from_secs(5)).await;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    shutdown.cancel();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("127.0.0.1"), "{answer}");
    server.await.unwrap();
}

#[tokio::test]
async fn tls_offers_http2_and_sees_the_client_certificate() {
    crate::install_crypto();
    let directory = std::env::temp_dir().join(format!("daemon-tls-{}", std::process::id()));
    let tls = TlsConfig::self_signed(&directory, "test", &["localhost".into()], &[]).unwrap();
    let again = TlsConfig::self_signed(&directory, "test", &[], &[]).unwrap();
    assert_eq!(tls.certificates(), again.certificates());

    let client_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "alice");
    parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "staff");
    parameters.is_ca = rcgen::IsCa::NoCa;
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca_parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca_parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca_parameters.distinguished_name.push(rcgen::DnType::CommonName, "ca");
    let ca = ca_parameters.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca_parameters, &ca_key);
    let client = parameters.signed_by(&client_key, &issuer).unwrap();
    let ca_path = directory.join("ca.crt");
    std::fs::write(&ca_path, ca.pem()).unwrap();
    let authority = authority::Authority::from_file(&ca_path).unwrap();

    let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let service = service_fn(move |request: Request<Incoming>| {
        let subject = authority.verify(request.extensions().get::<Peer>().unwrap().certificates());
        async move {
            let text = format!(
                "{:?} {}",
                request.version(),
                subject.map_or("nobody".into(), |subject| subject.common_name)
            );
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let server =
        tokio::spawn(serve(listener, Some(tls.clone()), service, Options::default(), shutdown.clone()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(tls.certificates()[0].clone()).unwrap();
    let der = rustls_pki_types::PrivateKeyDer::try_from(client_key.serialize_der()).unwrap();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.der().clone()], der)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Full::new(Bytes::new())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "HTTP/2.0 alice");
    drop(sender);
    shutdown.cancel();
    server.await.unwrap();
    let _ = driver.await;
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn versions_and_suites_are_those_of_the_flags() {
    crate::install_crypto();
    let tls = || TlsConfig::self_signed(std::path::Path::new(""), "t", &["localhost".into()], &[]).unwrap();
    let restrict = |version: &str, suites: &[&str]| {
        tls().restrict(version, &suites.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(restrict("FOO", &[]).unwrap_err().to_string(), "unknown tls version \"FOO\"");
    assert_eq!(
        restrict("", &["FOO"]).unwrap_err().to_string(),
        "Cipher suite FOO not supported or doesn't exist"
    );
    let suites = [
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        "TLS_AES_128_GCM_SHA256",
    ];
    restrict("VersionTLS12", &suites).unwrap().acceptor(true);
    // too weak: TLS 1.3 alone is left
    restrict("VersionTLS12", &["TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap().acceptor(true);
    restrict("VersionTLS13", &[]).unwrap().acceptor(true);
}

#[tokio::test]
async fn any_address_takes_both_families_and_shows_ipv4_as_such() {
    for any in ["0.0.0.0:0", "[::]:0"] {
        let listener = bind(any.parse().unwrap(), false).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let service = service_fn(|request: Request<Incoming>| async move {
            let peer = request.extensions().get::<Peer>().unwrap();
            let text = format!("{} {}", peer.address().ip(), peer.local().ip());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        });
        let server = tokio::spawn(serve(listener, None, service, Options::default(), shutdown.clone()));
        for host in ["127.0.0.1", "::1"] {
            let Ok(mut stream) = tokio::net::TcpStream::connect((host, port)).await else {
                // a host without IPv6
                assert!(host == "::1" && bind("[::1]:0".parse().unwrap(), false).is_err());
                continue;
            };
            let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with(&format!("\r\n\r\n{host} {host}")), "{answer}");
        }
        shutdown.cancel();
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported_in_upstreams_words() {
    let taken = bind("0.0.0.0:0".parse().unwrap(), false).unwrap();
    let address = SocketAddr::from(([0, 0, 0, 0], taken.local_addr().unwrap().port()));
    let error = bind(address, false).unwrap_err();
    assert_eq!(error.to_string(), format!("listen tcp {address}: bind: address already in use"));
}

/// An authority of its own in a folder of its own, and what it signs.
struct Pki {
    folder: std::path::PathBuf,
    parameters: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Pki {
    fn new(name: &str) -> Pki {
        crate::install_crypto();
        let folder = std::env::temp_dir().join(format!("daemon-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Pki { folder, parameters, key: rcgen::KeyPair::generate().unwrap() }
    }

    fn pem(&self) -> String {
        self.parameters.self_signed(&self.key).unwrap().pem()
    }

    fn issue(&self, names: Vec<(rcgen::DnType, rcgen::DnValue)>) -> CertificateDer<'static> {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            parameters.distinguished_name.push(kind, value);
        }
        let issuer = rcgen::Issuer::new(self.parameters.clone(), &self.key);
        parameters.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn names_in_a_certificate_are_read_or_refused() {
    use rcgen::DnType::{CommonName, CustomDnType, OrganizationName};
    let pki = Pki::new("names");
    let identity = |names| authority::subject(&pki.issue(names)).and_then(|subject| subject.identity());
    let uid = || CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
    let bmp = |text: &str| rcgen::DnValue::BmpString(text.try_into().unwrap());
    let teletex = |text: &str| rcgen::DnValue::TeletexString(text.try_into().unwrap());
    let universal = |text: &str| rcgen::DnValue::UniversalString(text.try_into().unwrap());

    let found =
        identity(vec![(CommonName, bmp("jürgen")), (OrganizationName, teletex("dev")), (uid(), "7".into())]);
    let found = found.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.uid.as_str()), ("jürgen", "7"));
    assert_eq!(found.groups, ["dev"]);
    assert_eq!(identity(vec![(OrganizationName, "system:masters".into())]), Ok(None));
    for kind in [CommonName, OrganizationName, uid()] {
        let refusal = identity(vec![(kind, universal("x"))]).unwrap_err();
        assert!(matches!(refusal, Refusal::Attribute(_)), "{refusal}");
    }
    let empty = identity(vec![(CommonName, "a".into()), (uid(), "".into())]);
    assert_eq!(empty, Err(Refusal::EmptyUid));
}

#[test]
fn a_chain_is_verified_once_a_bundle() {
    let pki = Pki::new("bundle");
    let path = pki.folder.join("ca.crt");
    std::fs::write(&path, pki.pem()).unwrap();
    let one = Authority::from_file(&path).unwrap();
    let other = Authority::from_file(&path).unwrap();
    let certificate = pki.issue(vec![(rcgen::DnType::CommonName, "alice".into())]);
    let address = "127.0.0.1:1".parse().unwrap();
    let peer = Peer::new(address, address, vec![certificate]);
    let first = peer.verified(&one).unwrap();
    assert_eq!(first.common_name, "alice");
    assert!(Arc::ptr_eq(&first, &peer.verified(&one).unwrap()));
    assert!(!Arc::ptr_eq(&first, &peer.verified(&other).unwrap()));

    std::fs::write(&path, Pki::new("other").pem()).unwrap();
    one.reload().unwrap();
    assert!(matches!(peer.verified(&one), Err(Refusal::Chain(_))));
    assert!(peer.verified(&other).is_ok());
    std::fs::write(&path, pki.pem()).unwrap();
    one.reload().unwrap();
    let again = peer.verified(&one).unwrap();
    assert!(!Arc::ptr_eq(&first, &again));
    assert!(Arc::ptr_eq(&again, &peer.verified(&one).unwrap()));
}

#[test]
fn an_authority_among_others_is_not_left_out() {
    let pki = Pki::new("bundles");
    let path = pki.folder.join("ca.crt");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in [format!("{}{broken}", pki.pem()), broken.to_owned(), String::new()] {
        std::fs::write(&path, &text).unwrap();
        assert!(Authority::from_file(&path).is_err(), "{text}");
    }
}

#[test]
fn a_certificate_that_is_there_is_used_or_refused() {
    let pki = Pki::new("pair");
    let (certificate, key) = (pki.folder.join("tls.crt"), pki.folder.join("tls.key"));
    let kept = || TlsConfig::self_signed(&pki.folder, "tls", &["localhost".into()], &[]);
    let made = kept().unwrap();
    assert_eq!(made.certificates(), kept().unwrap().certificates());
    let text = std::fs::read_to_string(&certificate).unwrap();
    std::fs::write(&certificate, "something else").unwrap();
    assert!(kept().is_err());
    assert_eq!(std::fs::read_to_string(&certificate).unwrap(), "something else");
    std::fs::remove_file(&certificate).unwrap();
    assert!(kept().unwrap_err().to_string().contains("must be supplied as a pair"));
    std::fs::write(&certificate, text).unwrap();
    assert_eq!(made.certificates(), kept().unwrap().certificates());

    let named = |certificate: &std::path::Path, key: &std::path::Path| KeyPair::named(certificate, key);
    let none = std::path::Path::new("");
    assert!(named(none, none).unwrap().is_none());
    assert!(named(&certificate, &key).unwrap().is_some());
    for (certificate, key) in [(certificate.as_path(), none), (none, key.as_path())] {
        assert_eq!(named(certificate, key).unwrap_err().to_string(), "missing filename for serving cert");
    }
}
