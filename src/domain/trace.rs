//! The trace that a request is a part of, after W3C Trace Context (levels 1 and 2).
//!
//! A caller that traces says so in the header `traceparent`, and its trace is continued. Whatever is no such header, or
//! is there twice, starts a new trace, as the specification demands. Nothing of `tracestate` is used: it is meant for
//! the next service on the way, and a server asks none.

use std::fmt;

/// The place of a request in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: [u8; 16],
    parent: Option<[u8; 8]>,
    span: [u8; 8],
    flags: u8,
}

impl Trace {
    /// Continues the trace that the values of `traceparent` name, or starts one. `request` is random, and different
    /// for each request: of it are the ids made that are new.
    pub fn of_request<'v>(
        mut traceparent: impl Iterator<Item = &'v [u8]>,
        request: uuid::Bytes,
    ) -> Self {
        let [.., a, b, c, d, e, f, g, h] = request;
        // Never 0: two of its bits are those of the variant of a UUID.
        let span = [a, b, c, d, e, f, g, h];
        let continued = traceparent.next().filter(|_| traceparent.next().is_none()).and_then(parse);
        match continued {
            Some((id, parent, flags)) => {
                Self { id, parent: Some(parent), span, flags: flags & (SAMPLED | RANDOM) }
            }
            None => Self { id: request, parent: None, span, flags: SAMPLED | RANDOM },
        }
    }

    /// The id of the trace.
    pub const fn id(&self) -> TraceId {
        TraceId(self.id)
    }

    /// The id of the request in it.
    pub const fn span_id(&self) -> SpanId {
        SpanId(self.span)
    }

    /// What the request was made in, where the caller traces.
    pub fn parent(&self) -> Option<SpanId> {
        self.parent.map(SpanId)
    }

    /// Whether those who keep traces are to keep this one.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// In the form of `traceparent`, as the parent of what comes next.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.id(), self.span_id(), self.flags)
    }
}

/// The id of a trace; shown as hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a part of a trace; shown as hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads `VERSION-TRACE-PARENT-FLAGS`. Of a version that is not known, what follows on these counts for nothing.
fn parse(value: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let (known, rest) = value.split_at_checked(LENGTH)?;
    let (version, known) = known.split_at_checked(2)?;
    let version = hex::<1>(version)?[0];
    let is_whole = if version == 0 { rest.is_empty() } else { matches!(rest, [] | [b'-', ..]) };
    let [b'-', known @ ..] = known else { return None };
    let (id, known) = known.split_at_checked(32)?;
    let [b'-', known @ ..] = known else { return None };
    let (parent, known) = known.split_at_checked(16)?;
    let [b'-', flags @ ..] = known else { return None };
    let (id, parent, [flags]) = (hex::<16>(id)?, hex::<8>(parent)?, hex::<1>(flags)?);
    let counts = version != 0xff && is_whole && id != [0; 16] && parent != [0; 8];
    counts.then_some((id, parent, flags))
}

/// Lower case alone, as the specification says.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Of version 00.
const LENGTH: usize = 55;
/// The caller keeps its part of the trace.
const SAMPLED: u8 = 1;
/// The id of the trace is random in its last seven bytes (level 2), as ours are.
const RANDOM: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: uuid::Bytes =
        *b"\x11\x22\x33\x44\x55\x66\x47\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01";
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(values: &[&str]) -> Trace {
        Trace::of_request(values.iter().map(|value| value.as_bytes()), REQUEST)
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let trace = of(&[GOOD]);
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent().unwrap().to_string(), "00f067aa0ba902b7");
        assert!(trace.is_sampled());
        assert_eq!(trace.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-99aabbccddeeff01-01");
        for (flags, kept) in [("00", "00"), ("02", "02"), ("fe", "02"), ("ff", "03")] {
            let trace = of(&[&format!("{}{flags}", &GOOD[..53])]);
            assert!(trace.to_string().ends_with(&format!("-{kept}")), "{flags}: {trace}");
        }
        for later in [GOOD.replacen("00", "01", 1), format!("cc{}-what-ever", &GOOD[2..])] {
            assert_eq!(of(&[&later]).id(), trace.id(), "{later}");
        }
    }

    #[test]
    fn whatever_else_starts_a_new_trace() {
        let new = of(&[]);
        assert_eq!(
            new.to_string(),
            "00-1122334455664788 99aabbccddeeff01-99aabbccddeeff01-03".replace(' ', "")
        );
        assert_eq!(new.parent(), None);
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &format!("01{}0", &GOOD[2..]),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("4736", "473g"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &format!(" {GOOD}"),
            &format!("{GOOD}, {GOOD}"),
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(of(&[bad]), new, "{bad}");
        }
        assert_eq!(of(&[GOOD, GOOD]), new);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(value: Vec<u8>, tail in "[0-9a-f-]{50,60}") {
            let tail = format!("00-{tail}");
            for value in [&value[..], tail.as_bytes()] {
                let trace = Trace::of_request([value].into_iter(), REQUEST);
                prop_assert_eq!(trace.to_string().len(), LENGTH);
            }
        }
    }
}
