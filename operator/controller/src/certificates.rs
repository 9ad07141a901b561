//! A certificate authority for each deployment and the certificates of its workers and gateway, renewed before they expire.

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;

use crate::{
    build::{self, Object},
    names,
    wish::Wish,
};

const DAY: i64 = 86_400;
/// How long an authority is valid.
const AUTHORITY_DAYS: i64 = 3650;
/// How long a certificate is valid.
const LEAF_DAYS: i64 = 90;
/// Who has one.
const MEMBERS: [&str; 2] = ["worker", "gateway"];

/// A certificate that could not be made.
#[derive(Debug, Error)]
#[error("a certificate could not be made: {0}")]
pub struct CertificateError(String);

/// The Secrets that exist.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// The authority.
    pub authority: Option<Secret>,
    /// The certificates, in the order of [`secrets_of`], the authority left out.
    pub members: Vec<Option<Secret>>,
}

/// The names of the Secrets: the authority, then the members.
pub fn secrets_of(deployment: &str) -> (String, Vec<String>) {
    let members = MEMBERS.iter().map(|member| names::certificate(deployment, member)).collect();
    (names::authority(deployment), members)
}

/// The Secrets as they should be: what exists while it is sound and fresh, else made anew.
///
/// # Errors
/// If the random generator or the encoder fails.
pub fn ensure(wish: &Wish, existing: &Existing, now: Timestamp) -> Result<Vec<Object>, CertificateError> {
    let (authority_name, member_names) = secrets_of(&wish.name);
    let kept = existing.authority.as_ref().and_then(|secret| pair(secret, now, AUTHORITY_DAYS, &[]));
    let new_authority = kept.is_none();
    let (authority, authority_key) = match kept {
        Some(kept) => kept,
        None => make_authority(wish, now)?,
    };
    let key = KeyPair::from_pem(&authority_key).map_err(fault)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key).map_err(fault)?;
    let mut objects = vec![build::secret(
        wish,
        authority_name,
        "ca",
        [("tls.crt", authority.as_str()), ("tls.key", authority_key.as_str())],
    )];
    for (index, (member, name)) in MEMBERS.iter().zip(member_names).enumerate() {
        let names = names::in_certificate(&wish.name, &wish.namespace, member);
        let found = existing.members.get(index).and_then(Option::as_ref).filter(|_| !new_authority);
        let kept = found
            .filter(|secret| text(secret, "ca.crt").as_deref() == Some(authority.as_str()))
            .and_then(|secret| pair(secret, now, LEAF_DAYS, &names));
        let (certificate, key) = match kept {
            Some(kept) => kept,
            None => make_member(wish, member, names.to_vec(), &issuer, now)?,
        };
        let data = [("ca.crt", authority.as_str()), ("tls.crt", &certificate), ("tls.key", &key)];
        objects.push(build::secret(wish, name, member, data));
    }
    Ok(objects)
}

fn make_authority(wish: &Wish, now: Timestamp) -> Result<(String, String), CertificateError> {
    let mut params = validity(now, AUTHORITY_DAYS)?;
    params.distinguished_name.push(DnType::CommonName, format!("LIME {}/{}", wish.namespace, wish.name));
    // Only leaves: what it signs can sign nothing.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = params.self_signed(&key).map_err(fault)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn make_member(
    wish: &Wish,
    member: &str,
    names: Vec<String>,
    issuer: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<(String, String), CertificateError> {
    let base = validity(now, LEAF_DAYS)?;
    let mut params = CertificateParams::new(names).map_err(fault)?;
    (params.not_before, params.not_after) = (base.not_before, base.not_after);
    params.distinguished_name = base.distinguished_name;
    params.distinguished_name.push(DnType::CommonName, format!("{member} of {}/{}", wish.namespace, wish.name));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = params.signed_by(&key, issuer).map_err(fault)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn validity(now: Timestamp, days: i64) -> Result<CertificateParams, CertificateError> {
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(fault);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Nodes' clocks differ a little.
    params.not_before = at(now.as_second().saturating_sub(300))?;
    params.not_after = at(now.as_second().saturating_add(days * DAY))?;
    Ok(params)
}

/// Certificate and key of a Secret, if they can be read, more than a third of the time is left, and the certificate bears all
/// of `names`.
fn pair(secret: &Secret, now: Timestamp, days: i64, names: &[String]) -> Option<(String, String)> {
    let (certificate, key) = (text(secret, "tls.crt")?, text(secret, "tls.key")?);
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    let parsed = pem.parse_x509().ok()?;
    let key_pair = KeyPair::from_pem(&key).ok()?;
    if parsed.public_key().subject_public_key.data.as_ref() != key_pair.public_key_raw() {
        return None;
    }
    let alternatives = parsed.subject_alternative_name().ok()?;
    let borne = alternatives.map_or(&[][..], |found| found.value.general_names.as_slice());
    let bears = |name: &String| borne.iter().any(|one| matches!(one, GeneralName::DNSName(found) if found == name));
    if !names.iter().all(bears) {
        return None;
    }
    let left = parsed.validity().not_after.timestamp().saturating_sub(now.as_second());
    (left * 3 > days * DAY).then_some((certificate, key))
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.clone()).ok()
}

fn fault(error: impl std::fmt::Display) -> CertificateError {
    CertificateError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn existing(objects: &[Object]) -> Existing {
        let secret = |object: &Object| serde_json::from_value::<Secret>(object.body.clone()).unwrap();
        Existing {
            authority: Some(secret(&objects[0])),
            members: objects[1..].iter().map(|o| Some(secret(o))).collect(),
        }
    }

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
    }

    #[test]
    fn certificates_are_kept_while_fresh_and_renewed_before_they_expire() {
        let wish = testing::wish();
        let first = ensure(&wish, &Existing::default(), day(0)).unwrap();
        assert_eq!(first.len(), 3);
        let same = ensure(&wish, &existing(&first), day(50)).unwrap();
        assert_eq!(first, same);
        let renewed = ensure(&wish, &existing(&first), day(61)).unwrap();
        assert_eq!(first[0], renewed[0], "the authority stays");
        assert_ne!(first[1], renewed[1]);
        assert_ne!(first[2], renewed[2]);
        let anew = ensure(&wish, &existing(&renewed), day(2500)).unwrap();
        assert!(anew.iter().zip(&renewed).all(|(new, old)| new != old));
    }

    #[test]
    fn a_certificate_of_other_names_is_replaced() {
        let wish = testing::wish();
        let first = ensure(&wish, &Existing::default(), day(0)).unwrap();
        let mut swapped = existing(&first);
        swapped.members.swap(0, 1);
        let again = ensure(&wish, &swapped, day(1)).unwrap();
        assert_eq!(first[0], again[0], "the authority stays");
        assert!(again[1..].iter().zip(&first[1..]).all(|(new, old)| new != old));
        assert_eq!(ensure(&wish, &existing(&again), day(2)).unwrap(), again);
    }

    #[test]
    fn garbage_and_foreign_keys_are_replaced() {
        let wish = testing::wish();
        let first = ensure(&wish, &Existing::default(), day(0)).unwrap();
        let other = ensure(&wish, &Existing::default(), day(0)).unwrap();
        let mut mixed = existing(&first);
        let foreign = existing(&other).members[0].clone().unwrap().data.unwrap()["tls.key"].clone();
        mixed.members[0].as_mut().unwrap().data.as_mut().unwrap().insert("tls.key".into(), foreign);
        assert_ne!(ensure(&wish, &mixed, day(1)).unwrap()[1], first[1]);
        let mut broken = existing(&first);
        broken.authority.as_mut().unwrap().data.as_mut().unwrap().insert("tls.crt".into(), ByteString(vec![0xff; 9]));
        assert_ne!(ensure(&wish, &broken, day(1)).unwrap()[0], first[0]);
    }
}
