use super::*;

#[test]
fn exponents_have_no_end() {
    let amount = |text: &str| Quantity::parse(text).unwrap();
    assert!(amount("1e2147483647") > amount("1E") && amount("-1e2147483647") < amount("-1E"));
    assert!(amount("1e-2147483648") > Quantity::ZERO && amount("1e-2147483648") < amount("1u"));
    assert_eq!(amount(&format!("{}e2147483647", "1".repeat(1000))), amount("1e2147483647"));
}

#[test]
fn canonical_text() {
    for (text, expect) in [
        ("0", "0"),
        ("0Gi", "0"),
        ("1000m", "1"),
        ("100m", "100m"),
        ("0.1", "100m"),
        (".5", "500m"),
        ("1.", "1"),
        ("1500", "1500"),
        ("1000", "1k"),
        ("1500k", "1500k"),
        ("1.5Gi", "1536Mi"),
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("0.5Ki", "512"),
        ("0.1Gi", "107374182400m"),
        ("512Ki", "512Ki"),
        ("1e3", "1e3"),
        ("1E", "1E"),
        ("1e0", "1"),
        ("12e1", "120"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-1.5", "-1500m"),
        ("+2", "2"),
        ("1.2345", "1234500u"),
        ("100000000000000000000", "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("1023Ki", "1023Ki"),
    ] {
        assert_eq!(Quantity::parse(text).map(|q| q.to_string()).as_deref(), Ok(expect), "{text}");
    }
    for (text, expect) in [
        ("", Error::Format),
        ("x", Error::Format),
        ("1x", Error::Format),
        ("1.2.3", Error::Format),
        ("1mm", Error::Suffix),
        ("1K", Error::Suffix),
        ("1e", Error::Suffix),
        ("1 Gi", Error::Format),
    ] {
        assert_eq!(Quantity::parse(text).err(), Some(expect), "{text}");
    }
}

#[test]
fn arithmetic() {
    let q = |text: &str| Quantity::parse(text).unwrap();
    assert_eq!(q("100m").add(&q("1")).to_string(), "1100m");
    assert_eq!(q("1Gi").sub(&q("512Mi")).to_string(), "512Mi");
    assert_eq!(q("0").add(&q("1Gi")).to_string(), "1Gi");
    assert_eq!(q("1.5").milli(), 1500);
    assert_eq!(q("1.5").value(), 2);
    assert_eq!((q("-1.5").value(), q("-1m").value(), q("-1n").milli()), (-2, -1, -1));
    assert_eq!(q("1u").milli(), 1);
    assert!(q("1Ki") > q("1k"));
    assert_eq!(q("1024"), q("1Ki"));
}

#[test]
fn bytes_that_overflow_as_thousandths_look_fractional() {
    for text in [
        "0.5",
        "100m",
        "9Pi",
        "7Ei",
        "1Ei",
        "1536Pi",
        "9223372036854776",
        "12345678901234567890124m",
        "12345678901234567890",
        "99999999999999999999",
        "18014398509481984",
        "18446744073709552",
    ] {
        assert!(looks_fractional(text), "{text}");
    }
    for text in [
        "0",
        "1",
        "1Gi",
        "8Pi",
        "2Ei",
        "8Ei",
        "9223372036854775",
        "9223372036854775807",
        "9223372036854775808",
        "10P",
        "1E",
        "100E",
        "100e18",
        "10000T",
        "9224T",
        "9224P",
        "9223372036854775807k",
        "1e300",
        "a",
    ] {
        assert!(!looks_fractional(text), "{text}");
    }
}

#[test]
fn exponents_beyond_their_bound_are_refused() {
    for text in ["1e2147483648", "1e-2147483649", "1e99999999999999999999"] {
        assert_eq!(Quantity::parse(text).unwrap_err(), Error::Suffix, "{text}");
    }
}
