//! Ways to prove that one knows a password without sending it in the clear.

use aws_lc_rs::{
    digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512},
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use curve25519_dalek::{EdwardsPoint, Scalar};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Two rounds of SHA-1 over the challenge; the default of MariaDB.
    Native,
    /// SHA-256 with a cache at the server; the default of MySQL.
    CachingSha2,
    /// MySQL's earlier one without a cache.
    Sha256,
    /// MariaDB's signature by a key that is made from the password.
    Ed25519,
    /// The password itself, for accounts in a directory. Over TLS only.
    Clear,
}

const METHODS: [(Method, &str); 5] = [
    (Method::Native, "mysql_native_password"),
    (Method::CachingSha2, "caching_sha2_password"),
    (Method::Sha256, "sha256_password"),
    (Method::Ed25519, "client_ed25519"),
    (Method::Clear, "mysql_clear_password"),
];

impl Method {
    pub(super) fn named(name: &str) -> Option<Self> {
        METHODS.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
    }

    pub(super) fn name(self) -> &'static str {
        METHODS.iter().find(|(method, _)| *method == self).map(|(_, name)| *name).unwrap_or_default()
    }

    pub(super) fn names() -> Vec<&'static str> {
        METHODS.iter().map(|(_, name)| *name).collect()
    }
}

/// The first answer to a challenge. An error says why there is none.
pub(super) fn answer(method: Method, password: &[u8], challenge: &[u8], private: bool) -> Result<Vec<u8>, String> {
    Ok(match method {
        Method::Native if password.is_empty() => Vec::new(),
        Method::Native => native(password, challenge),
        Method::CachingSha2 if password.is_empty() => Vec::new(),
        Method::CachingSha2 => caching_sha2(password, challenge),
        Method::Sha256 if password.is_empty() => vec![0],
        Method::Sha256 if private => zero_ended(password),
        // Asks for the server's key.
        Method::Sha256 => vec![1],
        Method::Ed25519 => ed25519(password, challenge),
        Method::Clear if private => zero_ended(password),
        Method::Clear => {
            return Err("it wants the password in clear text over an open connection; set `ssl_mode: verify_identity`".to_owned());
        }
    })
}

/// The answer to a question within a method; `None` where there is nothing to say.
pub(super) fn more(
    method: Method,
    password: &[u8],
    challenge: &[u8],
    private: bool,
    question: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    match (method, question) {
        // The server knows the password's hash already.
        (Method::CachingSha2, [3]) => Ok(None),
        (Method::CachingSha2, [4]) if private => Ok(Some(zero_ended(password))),
        // Asks for the server's key.
        (Method::CachingSha2, [4]) => Ok(Some(vec![2])),
        (Method::CachingSha2 | Method::Sha256, key) => sealed(password, challenge, key).map(Some),
        _ => Err("it asks what this way to log in does not have".to_owned()),
    }
}

fn zero_ended(password: &[u8]) -> Vec<u8> {
    [password, &[0]].concat()
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(a, b)| a ^ b).collect()
}

/// `SHA1(password) XOR SHA1(challenge, SHA1(SHA1(password)))`
fn native(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let sha1 = |parts: &[&[u8]]| hash(&SHA1_FOR_LEGACY_USE_ONLY, parts);
    let once = sha1(&[password]);
    xor(&once, &sha1(&[challenge, &sha1(&[&once])]))
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)), challenge)`
fn caching_sha2(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let sha256 = |parts: &[&[u8]]| hash(&SHA256, parts);
    let once = sha256(&[password]);
    xor(&once, &sha256(&[&sha256(&[&once]), challenge]))
}

/// The password under the server's RSA key, so that only the server can read it. Who the server is nobody checks: that is what TLS is for.
fn sealed(password: &[u8], challenge: &[u8], key: &[u8]) -> Result<Vec<u8>, String> {
    let unusable = || "it sent a key for the password that cannot be used; set `ssl_mode: required`".to_owned();
    let der = SubjectPublicKeyInfoDer::from_pem_slice(key).map_err(|_| unusable())?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|_| unusable())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| unusable())?;
    let masked = xor(&zero_ended(password), &challenge.repeat(password.len() / challenge.len().max(1) + 1));
    let mut sealed = vec![0; key.ciphertext_size()];
    let sealed = key.encrypt(&OAEP_SHA1_MGF1SHA1, &masked, &mut sealed, None).map_err(|_| "the password is too long".to_owned())?;
    Ok(sealed.to_vec())
}

/// A signature as in RFC 8032, but for one thing: the password takes the place of the 32 bytes of the private key, whatever its length.
fn ed25519(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let wide = |parts: &[&[u8]]| {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&hash(&SHA512, parts));
        bytes
    };
    let expanded = wide(&[password]);
    let (secret, prefix) = expanded.split_at(32);
    let mut clamped = [0; 32];
    clamped.copy_from_slice(secret);
    clamped[0] &= 0xF8;
    clamped[31] = clamped[31] & 0x7F | 0x40;
    let secret = Scalar::from_bytes_mod_order(clamped);
    let public = EdwardsPoint::mul_base(&secret).compress();
    let nonce = Scalar::from_bytes_mod_order_wide(&wide(&[prefix, challenge]));
    let point = EdwardsPoint::mul_base(&nonce).compress();
    let digest = Scalar::from_bytes_mod_order_wide(&wide(&[point.as_bytes(), public.as_bytes(), challenge]));
    let sum = nonce + digest * secret;
    [point.to_bytes(), sum.to_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_password_of_32_bytes_signs_as_rfc_8032_does() {
        let seed = *b"0123456789abcdef0123456789abcdef";
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let signature = ed25519(&seed, b"a challenge of the server");
        assert_eq!(signature, pair.sign(b"a challenge of the server").as_ref());
        UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref()).verify(b"a challenge of the server", &signature).unwrap();
    }

    #[test]
    fn a_server_can_check_what_it_gets() {
        // The server has SHA1(SHA1(password)) and finds SHA1(password) by it.
        let challenge = b"12345678901234567890";
        let answer = native(b"secret", challenge);
        let sha1 = |parts: &[&[u8]]| hash(&SHA1_FOR_LEGACY_USE_ONLY, parts);
        let stored = sha1(&[&sha1(&[b"secret"])]);
        let once = xor(&answer, &sha1(&[challenge, &stored]));
        assert_eq!(sha1(&[&once]), stored);
        let answer = caching_sha2(b"secret", challenge);
        let sha256 = |parts: &[&[u8]]| hash(&SHA256, parts);
        let stored = sha256(&[&sha256(&[b"secret"])]);
        assert_eq!(sha256(&[&xor(&answer, &sha256(&[&stored, challenge]))]), stored);
    }

    #[test]
    fn a_password_never_crosses_an_open_connection() {
        for method in METHODS.map(|(method, _)| method) {
            let sent = answer(method, b"hunter2", b"12345678901234567890", false).unwrap_or_default();
            assert!(!sent.windows(7).any(|window| window == b"hunter2"), "{method:?}");
        }
        assert_eq!(more(Method::CachingSha2, b"x", b"1", false, &[4]), Ok(Some(vec![2])));
        assert!(more(Method::CachingSha2, b"x", b"1", false, b"no key").is_err());
    }
}
