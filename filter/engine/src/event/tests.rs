//! How events are found in records.

use super::*;

#[test]
fn a_schema_can_be_made_of_the_fields_that_were_found_to_have_sources() {
    let dialects = [None, Some(Dialect::CloudTrail), Some(Dialect::Sentinel), Some(Dialect::Ecs)];
    let others = ["message", "aws.other", "sentinel.other", ""];
    for dialect in dialects {
        let settings = Settings { dialect, ..Settings::default() };
        for name in fields::names().chain(others) {
            let names = ["event.action".to_string(), name.to_string()];
            let checked = Schema::in_one_place(&settings, &names);
            match Schema::new(&settings, &names, [0; 16]) {
                Err(unknown) => assert_eq!(checked, Err(unknown)),
                Ok(schema) => {
                    let places = |slots: &DialectSlots| matches!(slots.fields[1], Source::At(_));
                    assert_eq!(checked, Ok(vec![true, schema.dialects.iter().all(places)]), "{name}");
                }
            }
        }
    }
}
