use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::rule::{
    AlertTexts, Comparison, Dialect, Entity, MAX_NESTING, MissingFields, NewTerms, RangeOp, Severity, Suppression,
};

/// A pack in which everything occurs.
fn full() -> Pack {
    let is = |field, test| Predicate::Is(Comparison { field: FieldRef(field), test, ignore_case: field == 1 });
    let query = Predicate::All(vec![
        is(0, Test::Exists),
        Predicate::Any(vec![
            is(1, Test::Equals("\u{0}é\"".into())),
            is(0, Test::Wildcard(vec!["i-".into(), String::new()])),
        ]),
        Predicate::Not(Box::new(is(0, Test::Range(RangeOp::GreaterOrEqual, "5".into())))),
        is(1, Test::Cidr("10.0.0.0/8".into())),
    ]);
    let rule = |id: &str, query| Rule {
        id: id.into(),
        name: "Rule".into(),
        version: 3,
        severity: Severity::High,
        risk_score: 73,
        query,
        new_terms: None,
        suppression: None,
        alert: AlertTexts { title: None, description: None, entities: vec![], details: vec![], threat: String::new() },
        building_block: id == "second",
    };
    let mut first = rule("first", query);
    first.new_terms =
        Some(NewTerms { fields: vec![FieldRef(0), FieldRef(1)], window_ms: 864_000_000, window: "10d".into() });
    first.suppression =
        Some(Suppression { group_by: vec![FieldRef(1)], duration_ms: 1, missing: MissingFields::DoNotSuppress });
    first.alert.title = Some(Template(vec![TemplatePart::Text("by ".into()), TemplatePart::Field(FieldRef(1))]));
    first.alert.entities = vec![Entity { kind: "ip".into(), attributes: vec![("address".into(), FieldRef(0))] }];
    first.alert.details = vec![("Region".into(), FieldRef(0))];
    first.alert.threat = "[{\"framework\":\"MITRE ATT&CK\"}]".into();
    Pack {
        settings: Settings {
            event_root: Some("message".into()),
            dialect: Some(Dialect::Sentinel),
            ..Settings::default()
        },
        fields: vec!["event.action".into(), "user.name".into()],
        rules: vec![first, rule("second", Predicate::All(vec![]))],
    }
}

#[test]
fn a_pack_reads_back() {
    assert_eq!(decode(&encode(&full())), Ok(full()));
}

#[test]
fn the_header_stands_where_the_page_says() {
    let pack = Pack { settings: Settings::default(), fields: vec![], rules: vec![] };
    let bytes = encode(&pack);
    let payload = b"\0\0\0\x09\0\0\0firstseen\x40\x42\x0f\0\0\0\xa0\xbb\x0d\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(&bytes[..16], b"firstseen-pack\0\0");
    assert_eq!(bytes[16..20], [3, 0, 0, 0]);
    assert_eq!(bytes[20..24], [38, 0, 0, 0]);
    assert_eq!(bytes[24..40], 0x922e_a5e8_1a12_9d66_4967_8bc6_570a_24a3_u128.to_le_bytes());
    assert_eq!(&bytes[40..], payload);
}

fn refused(bytes: &[u8]) -> (Part, String, String) {
    let PackError { part, expected, found } = decode(bytes).unwrap_err();
    (part, expected.text(), found.text())
}

#[test]
fn each_part_of_the_header_is_checked_in_turn() {
    let good = encode(&full());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        refused(&bytes)
    };
    let told = |part, expected: &str, found: &str| (part, expected.to_string(), found.to_string());

    assert_eq!(refused(b""), told(Part::Label, "firstseen-pack", "nothing"));
    assert_eq!(refused(b"firstseen-pack"), told(Part::Label, "firstseen-pack", "something else"));
    assert_eq!(with(0, b'F'), told(Part::Label, "firstseen-pack", "something else"));
    assert_eq!(with(16, 1), told(Part::Version, "3", "1"));
    assert_eq!(with(19, 1), told(Part::Version, "3", "16777219"));
    assert_eq!(refused(&good[..19]), told(Part::Version, "a number", "the end"));
    assert_eq!(refused(&good[..23]), told(Part::Length, "a number", "the end"));
    let length = good.len() - 40;
    let told_length = |found: usize| told(Part::Length, &format!("{length} bytes"), &found.to_string());
    assert_eq!(refused(&good[..39]), told_length(0));
    assert_eq!(refused(&good[..good.len() - 1]), told_length(length - 1));
    assert_eq!(refused(&[&good[..], b"\n"].concat()), told_length(length + 1));
    assert_eq!(with(24, good[24] ^ 1), told(Part::Checksum, "that of the payload", "another"));
    assert_eq!(with(good.len() - 1, b' ').0, Part::Checksum);
    assert_eq!(refused(&[&good[..20], &[0; 10]].concat()).0, Part::Checksum);
    assert_eq!(refused(&with_header(b"{}")), told(Part::Payload, "0 or 1", "something else at byte 0"));
    let cut = wire::to_bytes(&full());
    let cut = &cut[..cut.len() - 1];
    assert_eq!(refused(&with_header(cut)).0, Part::Payload);
    assert_eq!(
        decode(b"{}").unwrap_err().to_string(),
        "label of the pack: expected firstseen-pack, found something else; make the pack anew with `firstseen compile`"
    );
}

#[test]
fn every_bound_is_checked() {
    let refusal = |change: &dyn Fn(&mut Pack)| {
        let mut pack = full();
        change(&mut pack);
        let (part, expected, found) = refused(&encode(&pack));
        (part, format!("{expected}, {found}"))
    };
    let told = |part, text: &str| (part, text.to_string());
    let deep = |depth| (0..depth).fold(Predicate::All(vec![]), |inner, _| Predicate::Not(Box::new(inner)));
    let is = |field, test| Predicate::Is(Comparison { field: FieldRef(field), test, ignore_case: false });

    assert_eq!(refusal(&|pack| pack.settings.capacity = 0), told(Part::Settings, "1 to 16000000 as the capacity, 0"));
    assert_eq!(refusal(&|pack| pack.settings.capacity = 16_000_001).0, Part::Settings);
    assert_eq!(refusal(&|pack| pack.settings.max_clock_skew_ms = 0).0, Part::Settings);
    assert_eq!(refusal(&|pack| pack.settings.output_key.clear()).0, Part::Settings);
    assert_eq!(refusal(&|pack| pack.settings.event_root = Some("a\nb".into())).0, Part::Settings);
    assert_eq!(
        refusal(&|pack| pack.settings.as_organization_key = Some("a.".repeat(32) + "a")),
        told(Part::Settings, "1 to 12 levels of a name, 33")
    );
    assert_eq!(
        refusal(&|pack| pack.fields[1] = "a.".repeat(32) + "a"),
        told(Part::Fields, "1 to 12 levels of a name, 33")
    );
    assert_eq!(refusal(&|pack| pack.fields[1].clear()), told(Part::Fields, "a name, an empty one"));
    assert_eq!(refusal(&|pack| pack.fields = vec!["a".into(); 1025]), told(Part::Fields, "0 to 1024 fields, 1025"));
    assert_eq!(
        refusal(&|pack| pack.rules = vec![pack.rules[1].clone(); 4097]),
        told(Part::Rules, "0 to 4096 rules, 4097")
    );
    assert_eq!(refusal(&|pack| pack.rules[1].id = "first".into()), told(Part::Rule(1), "an id of its own, \"first\""));
    assert_eq!(refusal(&|pack| pack.rules[1].id.clear()), told(Part::Rule(1), "an id, an empty one"));
    assert_eq!(refusal(&|pack| pack.rules[0].risk_score = 101), told(Part::Rule(0), "0 to 100 as the risk score, 101"));
    let too_deep = refusal(&|pack| pack.rules[1].query = deep(32));
    assert_eq!(too_deep.0, Part::Payload);
    assert!(too_deep.1.starts_with("a predicate that nests no deeper, "), "{}", too_deep.1);
    assert_eq!(
        refusal(&|pack| pack.rules[1].query = is(2, Test::Exists)),
        told(Part::Rule(1), "a field of the list, 2")
    );
    assert_eq!(
        refusal(&|pack| pack.rules[1].query = Predicate::Any(vec![is(0, Test::Wildcard(vec!["a".into()]))])),
        told(Part::Rule(1), "a wildcard of at least 2 parts, 1")
    );
    assert_eq!(
        refusal(&|pack| pack.rules[1].query = Predicate::Not(Box::new(is(0, Test::Cidr("10/8".into()))))),
        told(Part::Rule(1), "an IP network, \"10/8\"")
    );
    let new_terms = |pack: &mut Pack, change: &dyn Fn(&mut NewTerms)| change(pack.rules[0].new_terms.as_mut().unwrap());
    assert_eq!(
        refusal(&|pack| new_terms(pack, &|terms| terms.fields.clear())),
        told(Part::Rule(0), "1 to 3 new-terms fields, 0")
    );
    assert_eq!(
        refusal(&|pack| new_terms(pack, &|terms| terms.fields = vec![FieldRef(0); 4])),
        told(Part::Rule(0), "1 to 3 new-terms fields, 4")
    );
    assert_eq!(
        refusal(&|pack| new_terms(pack, &|terms| terms.fields[0] = FieldRef(9))),
        told(Part::Rule(0), "a field of the list, 9")
    );
    assert_eq!(
        refusal(&|pack| new_terms(pack, &|terms| terms.window_ms = 0)),
        told(Part::Rule(0), "1 to 3153600000000 ms as a time span, 0")
    );
    assert_eq!(refusal(&|pack| new_terms(pack, &|terms| terms.window_ms = u64::MAX)).0, Part::Rule(0));
    let groups = |pack: &mut Pack, change: &dyn Fn(&mut Suppression)| {
        change(pack.rules[0].suppression.as_mut().unwrap());
    };
    assert_eq!(
        refusal(&|pack| groups(pack, &|groups| groups.group_by.clear())),
        told(Part::Rule(0), "1 to 16 fields to group by, 0")
    );
    assert_eq!(refusal(&|pack| groups(pack, &|groups| groups.group_by = vec![FieldRef(0); 17])).0, Part::Rule(0));
    assert_eq!(refusal(&|pack| groups(pack, &|groups| groups.group_by = vec![FieldRef(2)])).0, Part::Rule(0));
    assert_eq!(refusal(&|pack| groups(pack, &|groups| groups.duration_ms = 0)).0, Part::Rule(0));
    let texts: [&dyn Fn(&mut AlertTexts); 4] = [
        &|alert| alert.title = Some(Template(vec![TemplatePart::Field(FieldRef(7))])),
        &|alert| alert.description = Some(Template(vec![TemplatePart::Field(FieldRef(7))])),
        &|alert| alert.details[0].1 = FieldRef(7),
        &|alert| alert.entities[0].attributes[0].1 = FieldRef(7),
    ];
    assert_eq!(
        refusal(&|pack| pack.rules[0].alert.threat.push(']')),
        told(Part::Rule(0), "a list of threats in JSON, other text")
    );
    for change in texts {
        assert_eq!(refusal(&|pack| change(&mut pack.rules[0].alert)), told(Part::Rule(0), "a field of the list, 7"));
    }
}

#[test]
fn the_deepest_pack_that_may_be_written_can_be_read() {
    let mut pack = full();
    let leaf = pack.rules[0].query.clone();
    pack.rules[0].query = (2..MAX_NESTING).fold(leaf, |inner, at| match at % 2 {
        0 => Predicate::Any(vec![inner]),
        _ => Predicate::All(vec![inner]),
    });
    assert_eq!(pack.rules[0].query.nesting(), MAX_NESTING);
    assert_eq!(decode(&encode(&pack)), Ok(pack));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&with_header(&bytes));
        let _ = decode(&[&LABEL[..], &VERSION.to_le_bytes(), &bytes].concat());
    }

    #[test]
    fn no_changed_byte_goes_unnoticed(at in 0..2000usize, bit in 0..8u32) {
        let mut bytes = encode(&full());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn no_cut_goes_unnoticed(end in 0..2000usize) {
        let bytes = encode(&full());
        let end = end % bytes.len();
        prop_assert!(decode(&bytes[..end]).is_err());
    }

    #[test]
    fn a_changed_payload_is_read_or_refused(at in 0..2000usize, byte in any::<u8>()) {
        let mut payload = wire::to_bytes(&full());
        let at = at % payload.len();
        payload[at] = byte;
        let _ = decode(&with_header(&payload));
    }
}
