//! Embedding vectors: made up from a hash, so that equal texts have equal vectors.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A vector of length one that depends on nothing but `content` and `dimensions`.
pub(super) fn unit_vector(content: &[u8], dimensions: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(hash(content));
    let raw: Vec<f32> = (0..dimensions).map(|_| random.f32() * 2.0 - 1.0).collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.into_iter().map(|value| value / length).collect()
}

/// The vector as clients get it that ask for `base64`: little-endian 32-bit floats.
pub(super) fn as_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

/// FNV-1a: the same in every process and release, unlike the standard library's hashes.
fn hash(content: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    content.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_depend_on_the_text() {
        let vector = unit_vector(b"hello", 1536);
        assert_eq!(vector.len(), 1536);
        assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-4);
        assert_eq!(vector, unit_vector(b"hello", 1536));
        assert_ne!(vector, unit_vector(b"hullo", 1536));
    }

    #[test]
    fn base64_is_little_endian() {
        assert_eq!(as_base64(&[1.0]), "AACAPw==");
    }
}
