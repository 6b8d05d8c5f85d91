//! A number of JSON (RFC 8259 §6), byte by byte.

/// What the last byte of a number belonged to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    Sign,
    Power,
}

impl Number {
    /// A number that begins with `byte`.
    pub(super) fn new(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// The number with another byte, unless that cannot be part of it.
    #[inline]
    pub(super) fn and(self, byte: u8) -> Option<Self> {
        if byte.is_ascii_digit() {
            return match self {
                Self::Point | Self::Fraction => Some(Self::Fraction),
                Self::E | Self::Sign | Self::Power => Some(Self::Power),
                Self::Minus if byte == b'0' => Some(Self::Zero),
                Self::Minus | Self::Whole => Some(Self::Whole),
                Self::Zero => None,
            };
        }
        match (self, byte) {
            (Self::Zero | Self::Whole, b'.') => Some(Self::Point),
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Some(Self::E),
            (Self::E, b'+' | b'-') => Some(Self::Sign),
            _ => None,
        }
    }

    /// Whether it may end after its last byte.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}
