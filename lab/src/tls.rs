//! Certificates of one lab: its own authority, the conductor and every agent; they die with it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::error::{Error, Result};
use crate::layout::Layout;

/// What agents let in; the name in the conductor's certificate.
pub const CONDUCTOR: &str = "conductor";
/// The certificate of the lab's own authority.
pub const AUTHORITY: &str = "ca.pem";
const VALID_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Clocks may differ a little, also between this moment and the one of the first use.
const VALID_BEFORE: Duration = Duration::from_secs(3600);

/// Writes `ca.pem`, `conductor.pem`, `conductor.key` and `NODE.CELL.pem`, `NODE.CELL.key`.
pub fn write(directory: &Path, layout: &Layout) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    let authority = Authority::new(&format!("cellwall lab {}", layout.name))?;
    write_secret(&directory.join(AUTHORITY), &authority.pem)?;
    let named =
        |name: &str| -> Result<Vec<SanType>> { Ok(vec![SanType::DnsName(name.try_into()?)]) };
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    authority.leaf(directory, CONDUCTOR, client, named(CONDUCTOR)?)?;
    for node in layout.cells.iter().flat_map(|cell| &cell.nodes) {
        let name = &node.namespace;
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        authority.leaf(directory, name, server, named(name)?)?;
    }
    Ok(())
}

/// An authority whose own key is never written.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(common_name: &str) -> Result<Authority> {
        let mut params = params(common_name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Authority { pem, issuer })
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn leaf(
        &self,
        directory: &Path,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        alternative_names: Vec<SanType>,
    ) -> Result<()> {
        let mut params = params(name)?;
        params.subject_alt_names = alternative_names;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_secret(&directory.join(format!("{name}.pem")), &certificate.pem())?;
        write_secret(&directory.join(format!("{name}.key")), &key.serialize_pem())
    }
}

fn params(common_name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(VALID_BEFORE);
    params.not_after = epoch + now + VALID_FOR;
    Ok(params)
}

/// A new file that only its owner reads.
pub fn write_secret(path: &Path, pem: &str) -> Result<()> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = opened.map_err(Error::file("make", path))?;
    file.write_all(pem.as_bytes())
        .map_err(Error::file("write", path))
}
