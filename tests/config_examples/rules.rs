//! The example of a configuration directory: `firstseen.toml` and a rule of one's own.
//!
//! In: the directory as `firstseen compile` reads it. Out: that it compiles, that what is called a default is one, that its
//! rule alerts, and that its exception, window and switched-off rule do what they say, in the engine and in the module.

use std::fs;
use std::process::Command;

use firstseen::guest::Generation;
use firstseen_engine::rule::{Pack, Settings, builtin, compile, pack};
use serde_json::{Value, json};

use super::{alerting_rules, arrival, directory, event, root_console_login, text, with};
use crate::subjects::{BUILTIN_RULE_IDS, Calls, Guest, Native, Subject, annotation, compiled, new_directory};

pub(super) const SETTINGS: &str = "rules/firstseen.toml";
pub(super) const OWN_RULE: &str = "rules/rules/root-console-login.toml";

const OWN_RULE_ID: &str = "7b0d7f0e-6f4b-4f43-9a3f-5d0c1e1a9f10";

fn example() -> Pack {
    compiled(Some(&text(SETTINGS)), &[text(OWN_RULE)])
}

/// The engine and the module, which must agree.
struct Both {
    native: Native,
    guest: Guest,
}

impl Both {
    fn new(pack: &Pack) -> Both {
        Both { native: Native::new(pack), guest: Guest::new(pack, Calls::Fluent(Generation::Current)) }
    }

    /// The annotation of a record; null if it came back as it was.
    fn annotation(&mut self, record: &Value) -> Value {
        let record = record.to_string().into_bytes();
        let [native, guest] = [&mut self.native as &mut dyn Subject, &mut self.guest].map(|subject| {
            let out = subject.process(&record, arrival());
            match annotation(&record, &out) {
                Ok(None) => Value::Null,
                Ok(Some((key, annotation))) => {
                    assert_eq!(key, "firstseen", "{}", subject.name());
                    annotation
                }
                Err(error) => panic!("{}: {error}", subject.name()),
            }
        });
        assert_eq!(native, guest);
        guest
    }

    /// The ids of the rules that a record raises alerts of.
    fn rules(&mut self, record: &Value) -> Vec<String> {
        alerting_rules(&self.annotation(record)).into_iter().map(str::to_owned).collect()
    }
}

/// The event as JSON text under `log`, as log drivers deliver it.
fn under_log(event: &Value) -> Value {
    json!({ "log": event.to_string() })
}

#[test]
fn host_program_compiles_the_directory() {
    let copy = new_directory();
    fs::create_dir(copy.join("rules")).expect("a directory for rules");
    for file in ["firstseen.toml", "rules/root-console-login.toml"] {
        fs::copy(directory().join("rules").join(file), copy.join(file)).expect("the example is copied");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_firstseen")).arg("compile").arg(&copy).output().expect("it starts");
    // No warning either: an example's exception is one that a thief cannot meet.
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    let bytes = fs::read(copy.join("firstseen.pack")).expect("the pack is written");
    fs::remove_dir_all(&copy).expect("the copy is removed");

    let expected = example();
    assert_eq!(pack::decode(&bytes).expect("the pack is whole"), expected);
    let [ec2_role, first_time, _] = BUILTIN_RULE_IDS;
    let ids: Vec<&str> = expected.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, [ec2_role, first_time, OWN_RULE_ID]);
}

#[test]
fn what_is_called_a_default_is_one() {
    let text = text(SETTINGS);
    let (top, _) = text.split_once("\n# What is said of single rules").expect("the settings come before the rules");
    // A paragraph is a setting with its comment; the first one says that values are defaults unless a comment says otherwise.
    let (mut defaults, mut others) = (Vec::new(), Vec::new());
    for paragraph in top.split("\n\n").skip(1) {
        let is_other = paragraph.contains("Default: none.");
        let setting: Vec<&str> = paragraph.lines().filter(|line| !line.starts_with('#')).collect();
        let [setting] = setting[..] else { panic!("one setting a paragraph: {paragraph}") };
        if is_other { &mut others } else { &mut defaults }.push(setting);
    }
    let names = |settings: &[&str]| -> Vec<String> {
        settings.iter().map(|setting| setting.split(' ').next().expect("a key").to_owned()).collect()
    };
    assert_eq!(names(&defaults), ["dialect", "output_key", "capacity", "warming", "sync", "max_clock_skew"]);
    assert_eq!(names(&others), ["event_root", "as_organization_key"]);

    let settings = |text: &str| {
        compile::compile(Some(("firstseen.toml", text)), &builtin::FILES, &[]).expect("settings alone compile").settings
    };
    // Each by itself, so that no two wrong ones make up for each other.
    for setting in defaults {
        assert_eq!(settings(setting), Settings::default(), "{setting}");
    }
    let Settings { event_root, as_organization_key, .. } = Settings::default();
    assert_eq!((event_root, as_organization_key), (None, None));
    assert_eq!(settings(others[0]), Settings { event_root: Some("log".into()), ..Settings::default() });
    let as_organization_key = Some("source_as_org".into());
    assert_eq!(settings(others[1]), Settings { as_organization_key, ..Settings::default() });
}

#[test]
fn own_rule_alerts_on_a_root_login_from_a_new_address() {
    let mut both = Both::new(&example());
    let login = root_console_login();
    let annotation = both.annotation(&under_log(&login));
    assert_eq!(alerting_rules(&annotation), [OWN_RULE_ID]);
    let alert = &annotation["alerts"][0];
    assert_eq!(alert["title"], "Root of account 111122223333 signed in from 198.51.100.7");
    assert_eq!((&alert["severity"], &alert["risk_score"]), (&json!("high"), &json!(73)));
    assert_eq!(
        alert["new_terms"],
        json!({
            "fields": ["cloud.account.id", "source.ip"],
            "history_window": "30d",
            "values": ["111122223333", "198.51.100.7"],
            "reason": "never_seen"
        })
    );
    assert_eq!(alert["details"], json!({ "UserAgent": "Mozilla/5.0" }));
    assert_eq!(alert["entities"], json!([{ "type": "ip", "address": "198.51.100.7" }]));
    assert_eq!(alert["threat"][0]["technique"][0]["subtechnique"][0]["id"], "T1078.004");

    let mut again = |changes: &[(&str, Value)]| both.rules(&under_log(&with(login.clone(), changes)));
    let [id_2, id_3, id_4, id_5] = ["e-2", "e-3", "e-4", "e-5"].map(|id| ("eventID", json!(id)));
    assert!(again(&[id_2]).is_empty(), "the address is known");
    let failed = ("responseElements", json!({ "ConsoleLogin": "Failure" }));
    let other_address = ("sourceIPAddress", json!("203.0.113.9"));
    assert!(again(&[id_3, failed, other_address.clone()]).is_empty(), "nobody signed in");
    let user = ("userIdentity", json!({ "type": "IAMUser", "userName": "bob", "accountId": "111122223333" }));
    assert!(again(&[id_4, user, other_address.clone()]).is_empty(), "not root");
    assert_eq!(again(&[id_5, other_address]), [OWN_RULE_ID]);
    assert_eq!(both.rules(&login), [OWN_RULE_ID], "the first one delivered again, at the record's root");
}

#[test]
fn exception_and_window_hold_for_their_rule() {
    let mut both = Both::new(&example());
    let [_, first_time, _] = BUILTIN_RULE_IDS;
    let mut terraform = with(event("iam_user"), &[("sourceIPAddress", json!("192.0.2.10"))]);
    terraform["userIdentity"]["userName"] = json!("terraform");
    terraform["userIdentity"]["arn"] = json!("arn:aws:iam::111122223333:user/terraform");
    assert_eq!(both.annotation(&under_log(&terraform)), Value::Null);

    // A user agent is no way into the exception, nor is the network alone.
    let agent = ("userAgent", json!("APN/1.0 HashiCorp/1.0 Terraform/1.9.0 terraform-provider-aws/5.60.0"));
    let disguised = with(event("iam_user"), &[("eventID", json!("e-2")), agent.clone()]);
    assert_eq!(both.rules(&under_log(&disguised)), [first_time], "another user who calls itself Terraform");
    let mut neighbour = with(terraform.clone(), &[("eventID", json!("e-3"))]);
    neighbour["userIdentity"]["arn"] = json!("arn:aws:iam::111122223333:user/neighbour");
    assert_eq!(both.rules(&under_log(&neighbour)), [first_time], "another user in the network");

    // The user's keys, used from elsewhere: the exception neither holds there nor has it taught the history.
    let stolen = with(terraform, &[("eventID", json!("e-4")), ("sourceIPAddress", json!("203.0.113.66")), agent]);
    let annotation = both.annotation(&under_log(&stolen));
    assert_eq!(alerting_rules(&annotation), [first_time]);
    assert_eq!(annotation["alerts"][0]["new_terms"]["history_window"], "14d");
    let built_in = compiled(None, &[]);
    let window = built_in.rules[1].new_terms.as_ref().map(|new_terms| new_terms.window.as_str());
    assert_eq!(window, Some("10d"), "the example shows another window than the rule's own");
}

#[test]
fn rule_that_is_switched_off_is_silent() {
    let [_, _, hijacking] = BUILTIN_RULE_IDS;
    let session = event("role_session");
    assert_eq!(Both::new(&compiled(None, &[])).rules(&session), [hijacking]);
    assert_eq!(Both::new(&example()).annotation(&under_log(&session)), Value::Null);
}

#[test]
fn organization_stands_beside_the_event() {
    let mut both = Both::new(&example());
    let [ec2_role, _, _] = BUILTIN_RULE_IDS;
    let record = |id: &str, organization: Value| {
        let event = with(event("ec2_role"), &[("eventID", json!(id))]);
        with(under_log(&event), &[("source_as_org", organization)])
    };
    assert_eq!(both.annotation(&record("e-1", Value::Null)), Value::Null);
    assert_eq!(both.rules(&record("e-2", json!("Example Hosting"))), [ec2_role]);
}
