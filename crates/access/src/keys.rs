//! Keys that sign and verify service account tokens, from the PEM files of `--service-account-key-file` and
//! `--service-account-signing-key-file`.

use std::path::{Path, PathBuf};

use api::json;
use api::tree::Tree;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("data in {path} does not contain any valid RSA or ECDSA keys: {message}")]
    Content { path: PathBuf, message: String },
}

/// A public key.
#[derive(Clone)]
pub struct Verifier {
    /// The hash of the key, in the token's header.
    pub id: String,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
    /// Its JSON Web Key.
    pub jwk: Tree,
}

/// A private key.
#[derive(Clone)]
pub struct Signer {
    pub id: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
}

/// All public keys of a file; of a private key its public half.
pub fn verifiers(path: &Path) -> Result<Vec<Verifier>, Error> {
    let content = |message: String| Error::Content { path: path.into(), message };
    let blocks = read(path)?;
    let mut keys = Vec::new();
    for block in &blocks {
        keys.push(verifier(&public(block).map_err(content)?).map_err(content)?);
    }
    match keys.is_empty() {
        true => Err(content("no PEM block".into())),
        false => Ok(keys),
    }
}

/// The private key of a file.
pub fn signer(path: &Path) -> Result<Signer, Error> {
    let content = |message: String| Error::Content { path: path.into(), message };
    let blocks = read(path)?;
    let block = blocks
        .iter()
        .find(|block| block.label.ends_with("PRIVATE KEY"))
        .ok_or_else(|| content("no private key".into()))?;
    let verifier = verifier(&public(block).map_err(content)?).map_err(content)?;
    let key = match verifier.algorithm {
        Algorithm::RS256 => {
            let text = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
            EncodingKey::from_rsa_pem(&text).map_err(|error| content(error.to_string()))?
        }
        _ => {
            let pair = ecdsa(&block.der).map_err(content)?;
            let document = pair.to_pkcs8v1().map_err(|error| content(error.to_string()))?;
            EncodingKey::from_ec_der(document.as_ref())
        }
    };
    Ok(Signer { id: verifier.id, algorithm: verifier.algorithm, key })
}

struct Block {
    label: String,
    der: Vec<u8>,
}

fn read(path: &Path) -> Result<Vec<Block>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(label) = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"))
        else {
            continue;
        };
        let body: String =
            lines.by_ref().map(str::trim).take_while(|line| !line.starts_with("-----END")).collect();
        let der = STANDARD
            .decode(body)
            .map_err(|error| Error::Content { path: path.into(), message: error.to_string() })?;
        if label != "EC PARAMETERS" {
            blocks.push(Block { label: label.to_owned(), der });
        }
    }
    Ok(blocks)
}

/// The SubjectPublicKeyInfo of a block.
fn public(block: &Block) -> Result<Vec<u8>, String> {
    match block.label.as_str() {
        "PUBLIC KEY" => Ok(block.der.clone()),
        "CERTIFICATE" => x509_parser::parse_x509_certificate(&block.der)
            .map(|(_, certificate)| certificate.public_key().raw.to_vec())
            .map_err(|error| error.to_string()),
        "RSA PRIVATE KEY" => rsa(aws_lc_rs::rsa::KeyPair::from_der(&block.der)),
        "PRIVATE KEY" => {
            rsa(aws_lc_rs::rsa::KeyPair::from_pkcs8(&block.der)).or_else(|_| ecdsa_public(&block.der))
        }
        "EC PRIVATE KEY" => ecdsa_public(&block.der),
        other => Err(format!("{other} is not a key")),
    }
}

fn rsa(pair: Result<aws_lc_rs::rsa::KeyPair, aws_lc_rs::error::KeyRejected>) -> Result<Vec<u8>, String> {
    let pair = pair.map_err(|error| error.to_string())?;
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        pair.public_key().as_der().map_err(|error| error.to_string())?;
    Ok(der.as_ref().to_vec())
}

fn ecdsa_public(der: &[u8]) -> Result<Vec<u8>, String> {
    let pair = ecdsa(der)?;
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        pair.public_key().as_der().map_err(|error| error.to_string())?;
    Ok(der.as_ref().to_vec())
}

fn ecdsa(der: &[u8]) -> Result<EcdsaKeyPair, String> {
    [&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED_SIGNING]
        .into_iter()
        .find_map(|algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok())
        .ok_or_else(|| "unsupported curve".to_owned())
}

fn verifier(info: &[u8]) -> Result<Verifier, String> {
    let (_, parsed) = SubjectPublicKeyInfo::from_der(info).map_err(|error| error.to_string())?;
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(info));
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match parsed.parsed().map_err(|error| error.to_string())? {
        PublicKey::RSA(rsa) => {
            let trim = |bytes: &'_ [u8]| bytes.iter().position(|byte| *byte != 0).map_or(0, |at| at);
            let (modulus, exponent) =
                (&rsa.modulus[trim(rsa.modulus)..], &rsa.exponent[trim(rsa.exponent)..]);
            Ok(Verifier {
                algorithm: Algorithm::RS256,
                key: DecodingKey::from_rsa_raw_components(modulus, exponent),
                jwk: json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": encode(modulus), "e": encode(exponent)}),
                id,
            })
        }
        PublicKey::EC(point) => {
            let data = point.data();
            let half = (data.len() - 1) / 2;
            let (algorithm, name, curve) = match half {
                32 => (Algorithm::ES256, "ES256", "P-256"),
                48 => (Algorithm::ES384, "ES384", "P-384"),
                _ => return Err("unsupported curve".into()),
            };
            let (x, y) = (encode(&data[1..=half]), encode(&data[1 + half..]));
            let key = DecodingKey::from_ec_components(&x, &y).map_err(|error| error.to_string())?;
            let jwk =
                json!({"use": "sig", "kty": "EC", "kid": id, "crv": curve, "alg": name, "x": x, "y": y});
            Ok(Verifier { algorithm, key, jwk, id })
        }
        _ => Err("unsupported key type".into()),
    }
}
