//! `firstseen.toml`: what an operator sets.
//!
//! In: the file. Out: [`SettingsFile`], in which ids of rules, exceptions and windows still have their places; or the
//! refusals. Not here: whether a rule of that id exists, KQL.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::time_span::TimeSpan;
use super::toml_source::{Section, Source, Text};
use super::{Dialect, MAX_CAPACITY, Settings, Sync, Warming};
use crate::event::fields;

/// The settings as their file has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsFile {
    pub(crate) settings: Settings,
    /// Whether `dialect` could not be read: then it is not known which fields are known.
    pub(crate) dialect_unread: bool,
    pub(crate) rules: Vec<RuleSettings>,
}

/// `[rules."<rule id>"]`.
#[derive(Debug, Clone)]
pub(crate) struct RuleSettings {
    pub(crate) id: String,
    /// The byte at which the id stands.
    pub(crate) offset: usize,
    pub(crate) enabled: bool,
    /// The window, and the byte it stands at.
    pub(crate) history_window: Option<(TimeSpan, usize)>,
    pub(crate) exceptions: Vec<Text>,
}

/// The top-level keys of a CloudTrail event, of an EventBridge envelope, of an event in ECS, and of a Sentinel row.
const KEYS_OF_EVENTS: &str = "\
additionalEventData addendum apiVersion awsRegion edgeDeviceDetails errorCode errorMessage eventCategory eventContext \
eventID eventName eventSource eventTime eventType eventVersion insightDetails managementEvent readOnly \
recipientAccountId requestID requestParameters resources responseElements serviceEventDetails \
sessionCredentialFromConsole sharedEventID sourceIPAddress tlsDetails userAgent userIdentity vpcEndpointAccountId \
vpcEndpointId \
account detail detail-type id region source time version Records \
@timestamp @version agent aws client cloud code_signature container data_stream destination device dll dns ecs elf \
email entity error event faas file gen_ai geo group hash host http input interface kibana labels log macho message \
network observer orchestrator organization os package pe process registry related risk rule server service signal \
span tags threat tls trace transaction url user user_agent vlan volume vulnerability x509 \
APIVersion AWSRegion AdditionalEventData AwsEventId AwsRequestId AwsRequestId_ Category CidrIp CipherSuite \
ClientProvidedHostHeader DestinationPort EC2RoleDelivery ErrorCode ErrorMessage EventName EventSource EventTypeName \
EventVersion IpProtocol ManagementEvent OperationName ReadOnly RecipientAccountId RequestParameters Resources \
ResponseElements ServiceEventDetails SessionCreationDate SessionIssuerAccountId SessionIssuerArn \
SessionIssuerPrincipalId SessionIssuerType SessionIssuerUserName SessionMfaAuthenticated SharedEventId \
SourceIpAddress SourcePort SourceSystem TenantId TimeGenerated TlsVersion Type UserAgent UserIdentityAccessKeyId \
UserIdentityAccountId UserIdentityArn UserIdentityInvokedBy UserIdentityPrincipalid UserIdentityStoreArn \
UserIdentityType UserIdentityUserId UserIdentityUserName VpcEndpointId";

/// Reads the settings. What is refused is noted in the source; the rest is as written.
pub(crate) fn read(source: &Source<'_>) -> SettingsFile {
    let Some(table) = source.parse() else {
        return SettingsFile { dialect_unread: true, ..SettingsFile::default() };
    };
    let file = Section::root(source, &table);
    file.refuse_unknown(&[
        "event_root",
        "dialect",
        "as_organization_key",
        "output_key",
        "capacity",
        "warming",
        "sync",
        "max_clock_skew",
        "rules",
    ]);
    let mut settings = Settings {
        event_root: key(&file, "event_root", "\"message\""),
        as_organization_key: key(&file, "as_organization_key", "\"geoip_org\""),
        ..Settings::default()
    };
    let dialect = file.one_of(
        "dialect",
        &[
            ("auto", None),
            ("cloudtrail", Some(Dialect::CloudTrail)),
            ("ecs", Some(Dialect::Ecs)),
            ("sentinel", Some(Dialect::Sentinel)),
        ],
    );
    settings.dialect = dialect.flatten();
    if let Some(capacity) = file.integer("capacity", 1..=u64::from(MAX_CAPACITY)) {
        settings.capacity = u32::try_from(capacity).unwrap_or(MAX_CAPACITY);
    }
    if let Some(warming) = file.one_of("warming", &[("mark", Warming::Mark), ("hold", Warming::Hold)]) {
        settings.warming = warming;
    }
    if let Some(sync) = file.one_of("sync", &[("none", Sync::None), ("data", Sync::Data)]) {
        settings.sync = sync;
    }
    if let Some(skew) = span(source, &file, "max_clock_skew") {
        settings.max_clock_skew_ms = skew.0.ms;
    }
    if let Some(output_key) = key(&file, "output_key", "\"firstseen\"") {
        let belongs_to = if KEYS_OF_EVENTS.split(' ').any(|key| key == output_key) {
            Some("which is a key of the events themselves")
        } else if settings.event_root.as_ref() == Some(&output_key) {
            Some("which is event_root as well")
        } else if settings.as_organization_key.as_ref() == Some(&output_key) {
            Some("which is as_organization_key as well")
        } else {
            None
        };
        match belongs_to {
            Some(whose) => file.refuse(
                "output_key",
                format!("output_key is {output_key:?}, {whose}"),
                "write a key that no event has, such as \"firstseen\"",
            ),
            None => settings.output_key = output_key,
        }
    }
    SettingsFile {
        settings,
        dialect_unread: file.has("dialect") && dialect.is_none(),
        rules: file.section("rules").map(|rules| read_rules(source, &rules)).unwrap_or_default(),
    }
}

/// The name of a key in a record.
fn key(file: &Section<'_>, name: &str, example: &str) -> Option<String> {
    if !file.has(name) {
        return None;
    }
    let text = file.required_text(name, example)?;
    if text.value.contains(char::is_control) {
        file.refuse(name, format!("{name} has a control character"), format!("write a key such as {example}"));
        return None;
    }
    if fields::levels(&text.value) > fields::MAX_LEVELS {
        let wrong = format!("{name} has more than {} levels", fields::MAX_LEVELS);
        file.refuse(name, wrong, format!("write a key such as {example}"));
        return None;
    }
    Some(text.value)
}

/// A span of time, and the byte it stands at.
fn span(source: &Source<'_>, section: &Section<'_>, name: &str) -> Option<(TimeSpan, usize)> {
    let text = section.text(name)?;
    match TimeSpan::parse(&text.value) {
        Ok(span) => Some((span, text.span.start)),
        Err(mismatch) => {
            source.refuse_mismatch(text.span.start, name, mismatch);
            None
        }
    }
}

fn read_rules(source: &Source<'_>, rules: &Section<'_>) -> Vec<RuleSettings> {
    let mut read = Vec::new();
    for (offset, id) in rules.keys() {
        let Some(section) = rules.section(id) else { continue };
        section.refuse_unknown(&["enabled", "history_window", "exceptions"]);
        let history_window = span(source, &section, "history_window");
        read.push(RuleSettings {
            id: id.to_string(),
            offset,
            enabled: section.boolean("enabled").unwrap_or(true),
            history_window,
            exceptions: section.texts("exceptions").unwrap_or_default(),
        });
    }
    read
}
