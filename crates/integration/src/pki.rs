//! A cluster's certificates, made on the fly.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use client::Material;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// An authority whose files stand in a folder.
pub struct Pki {
    folder: PathBuf,
    authority: CertificateParams,
    key: KeyPair,
}

impl Pki {
    /// Writes `ca.crt`, `ca.key` and the service accounts' `sa.key` and `sa.pub`.
    pub fn new(folder: &Path) -> Result<Pki> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "ca");
        let key = KeyPair::generate()?;
        let accounts = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("ca.crt"), authority.self_signed(&key)?.pem())?;
        fs::write(folder.join("ca.key"), key.serialize_pem())?;
        fs::write(folder.join("sa.key"), accounts.serialize_pem())?;
        fs::write(folder.join("sa.pub"), accounts.public_key_pem())?;
        Ok(Pki { folder: folder.to_owned(), authority, key })
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes `{user}.crt` and `{user}.key` and returns them. The certificate also serves on loopback.
    pub fn issue(&self, user: &str, group: Option<&str>) -> Result<(Material, Material)> {
        let names = ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes"].map(str::to_owned);
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &Issuer::new(self.authority.clone(), &self.key))?;
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        fs::write(self.path(&format!("{user}.crt")), &certificate)?;
        fs::write(self.path(&format!("{user}.key")), &key)?;
        Ok((Material::Inline(certificate.into_bytes()), Material::Inline(key.into_bytes())))
    }

    /// Writes a kubeconfig of this user and returns its path.
    pub fn kubeconfig(&self, user: &str, server: &str) -> Result<PathBuf> {
        self.issue(user, None)?;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{server}', certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{client-certificate: '{user}.crt', client-key: '{user}.key'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        let path = self.path(&format!("{user}.conf"));
        fs::write(&path, text)?;
        Ok(path)
    }
}
