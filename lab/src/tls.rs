//! Certificates of one lab: its own authority, the conductor and every agent; they die with it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
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
/// The authority's own key is never written.
pub fn write(directory: &Path, layout: &Layout) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    let mut params = params(&format!("cellwall lab {}", layout.name))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    write_secret(&directory.join(AUTHORITY), &authority.pem())?;
    let issuer = Issuer::new(params, key);

    leaf(
        directory,
        CONDUCTOR,
        ExtendedKeyUsagePurpose::ClientAuth,
        &issuer,
    )?;
    for node in layout.cells.iter().flat_map(|cell| &cell.nodes) {
        leaf(
            directory,
            &node.namespace,
            ExtendedKeyUsagePurpose::ServerAuth,
            &issuer,
        )?;
    }
    Ok(())
}

fn leaf(
    directory: &Path,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<()> {
    let mut params = params(name)?;
    params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into()?)];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write_secret(&directory.join(format!("{name}.pem")), &certificate.pem())?;
    write_secret(&directory.join(format!("{name}.key")), &key.serialize_pem())
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

fn write_secret(path: &Path, pem: &str) -> Result<()> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = opened.map_err(Error::file("make", path))?;
    file.write_all(pem.as_bytes())
        .map_err(Error::file("write", path))
}
