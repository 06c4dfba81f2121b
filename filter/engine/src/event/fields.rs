//! Where each ECS field stands in each dialect: the only place that says so.
//!
//! In: an ECS name (or one of ours under `sentinel.`). Out: a [`Source`] for a dialect, with paths that the event
//! reader turns into slots. From the mapping of Elastic's AWS integration and the columns of Sentinel's AWSCloudTrail
//! table. Not here: reading JSON, and what a source's values are ([`crate::event::EventView`]).
//!
//! In the ECS dialect a field that the table does not name stands at its own path. In the other two it is unknown, and
//! a rule that names it is refused by the compiler: a field that is silently missing would be a detection that is
//! silently off.

use alloc::string::String;
use alloc::vec::Vec;

use crate::rule::Dialect;
use crate::words::same;

/// How a field's values come about. `P` is a path while in the table, and a slot once bound by the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source<P> {
    /// The same for every event.
    Constant(&'static str),
    /// What stands there.
    At(P),
    /// What stands at the first place, or else at the second.
    FirstOf(P, P),
    /// What stands there, if the whole of it is an IPv4 or IPv6 address.
    IpAddress(P),
    /// `failure` if an error code or message is there, else `success`; for ConsoleLogin the lower-cased member
    /// `ConsoleLogin` of the response.
    Outcome { code: P, message: P, event_name: P, response: P },
    /// The role's or issuing user's name for AssumedRole and FederatedUser, else the user's; for UserAuthentication
    /// without one, the member `UserName` of the additional data.
    UserName { user_name: P, identity_type: P, issuer_name: P, event_name: P, additional: P },
    /// The caller's principal id; for IdentityCenterUser without one, the user on whose behalf it acts.
    UserId { principal_id: P, identity_type: P, on_behalf_of: P },
    /// `user.name`, unless the identity's type is one whose `user.name` is not its own.
    OwnUserName { user_name: P, identity_type: P },
    /// The compact JSON text of what stands there; of text, the text itself. AWS writes it: see [`super::per_request`].
    JsonText(P),
    /// What stands there, which is text that AWS wrote as an object.
    WrittenByAws(P),
    /// The member of each object of the array there, which may be JSON text.
    MemberOfEach(P, &'static str),
    /// The AS organisation, wherever upstream enrichment wrote it.
    AsOrganization,
    /// The number of the AS, without the `AS` that may stand before it.
    AsNumber,
    /// The Sentinel detection's account name, up to the `@`.
    AccountName(Account<P>),
    /// The part of the account name behind the `@`.
    AccountUpnSuffix(Account<P>),
}

/// What the Sentinel detection derives an account name from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account<P> {
    /// The caller's ARN.
    pub(crate) arn: P,
    /// Where to look when there is no ARN.
    pub(crate) resources: FirstResource<P>,
    /// `Anonymous` names an anonymous caller.
    pub(crate) principal_id: P,
    /// The user's own name, as [`Source::OwnUserName`] has it.
    pub(crate) user_name: P,
    /// The identity's type, in dialects whose user name may be the role's.
    pub(crate) identity_type: Option<P>,
}

/// Where the first resource's ARN stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstResource<P> {
    /// In the first object of an array, which may be JSON text, under `ARN`.
    InArray(P),
    /// First of several values.
    FirstValue(P),
}

impl<P: Copy> Source<P> {
    /// The same source with each path replaced by what `bind` makes of it.
    pub(crate) fn bind<Q>(self, bind: &mut impl FnMut(P) -> Q) -> Source<Q> {
        match self {
            Source::Constant(text) => Source::Constant(text),
            Source::At(path) => Source::At(bind(path)),
            Source::FirstOf(first, second) => Source::FirstOf(bind(first), bind(second)),
            Source::IpAddress(path) => Source::IpAddress(bind(path)),
            Source::Outcome { code, message, event_name, response } => Source::Outcome {
                code: bind(code),
                message: bind(message),
                event_name: bind(event_name),
                response: bind(response),
            },
            Source::UserName { user_name, identity_type, issuer_name, event_name, additional } => Source::UserName {
                user_name: bind(user_name),
                identity_type: bind(identity_type),
                issuer_name: bind(issuer_name),
                event_name: bind(event_name),
                additional: bind(additional),
            },
            Source::UserId { principal_id, identity_type, on_behalf_of } => Source::UserId {
                principal_id: bind(principal_id),
                identity_type: bind(identity_type),
                on_behalf_of: bind(on_behalf_of),
            },
            Source::OwnUserName { user_name, identity_type } => {
                Source::OwnUserName { user_name: bind(user_name), identity_type: bind(identity_type) }
            }
            Source::JsonText(path) => Source::JsonText(bind(path)),
            Source::WrittenByAws(path) => Source::WrittenByAws(bind(path)),
            Source::MemberOfEach(path, member) => Source::MemberOfEach(bind(path), member),
            Source::AsOrganization => Source::AsOrganization,
            Source::AsNumber => Source::AsNumber,
            Source::AccountName(account) => Source::AccountName(account.bind(bind)),
            Source::AccountUpnSuffix(account) => Source::AccountUpnSuffix(account.bind(bind)),
        }
    }
}

impl<P: Copy> Account<P> {
    fn bind<Q>(self, bind: &mut impl FnMut(P) -> Q) -> Account<Q> {
        Account {
            arn: bind(self.arn),
            resources: match self.resources {
                FirstResource::InArray(path) => FirstResource::InArray(bind(path)),
                FirstResource::FirstValue(path) => FirstResource::FirstValue(bind(path)),
            },
            principal_id: bind(self.principal_id),
            user_name: bind(self.user_name),
            identity_type: self.identity_type.map(bind),
        }
    }
}

/// Keys by which an event of a dialect is known: it holds a value at each of them.
pub(crate) const fn markers(dialect: Dialect) -> [&'static str; 2] {
    match dialect {
        Dialect::CloudTrail => ["eventSource", "eventName"],
        Dialect::Sentinel => ["EventSource", "EventName"],
        Dialect::Ecs => ["event.provider", "event.action"],
    }
}

/// The key that CloudTrail's own records begin with, at their root.
pub(crate) const EVENT_VERSION: &str = "eventVersion";

/// The dataset of Elastic's AWS integration.
pub(crate) const DATASET: &str = "aws.cloudtrail";

/// Where an event of a dialect may name its dataset, which decides before the markers do: ECS documents of other sources
/// have the same keys.
pub(crate) const fn datasets(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::CloudTrail | Dialect::Sentinel => &[],
        Dialect::Ecs => &["event.dataset", "data_stream.dataset"],
    }
}

/// Where the AS organisation stands in every dialect, because enrichment writes it so.
pub const AS_ORGANIZATION: &str = "source.as.organization.name";

/// Where the number of the AS stands, as ECS has it, and as [`as_number_paths`] has it besides.
pub const AS_NUMBER: &str = "source.as.number";

/// Where enrichment that writes the organisation under a key of the operator's choice may write the number: beside that key, under
/// the names that GeoIP databases and their readers use.
pub(crate) fn as_number_paths(organization_key: Option<&str>) -> Vec<String> {
    let mut paths = Vec::from([String::from(AS_NUMBER), String::from("source.as.asn")]);
    if let Some(key) = organization_key {
        let last = key.bytes().rposition(|byte| byte == b'.').map_or(0, |dot| dot + 1);
        let parent = key.get(..last).unwrap_or_default();
        paths.extend(["autonomous_system_number", "asn"].map(|name| [parent, name].concat()));
        // `as_organization` has `as_number` beside it, and `as.organization.name` has `as.number`.
        let stem = key.strip_suffix(".name").unwrap_or(key);
        let stem = stem.strip_suffix("organization").or_else(|| stem.strip_suffix("org"));
        let beside = stem.map(|stem| [stem, "number"].concat());
        paths.extend(beside.filter(|path| !paths.contains(path)));
    }
    paths
}

/// Whether a field is not the event's own, but comes from a database of addresses that something upstream looks into.
pub(crate) fn is_enrichment(name: &str) -> bool {
    name.starts_with("source.as.") || name.starts_with("source.geo.")
}

/// Where each dialect keeps the address that the AS organisation is looked up by.
pub(crate) const fn source_address(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::CloudTrail => "sourceIPAddress",
        Dialect::Sentinel => "SourceIpAddress",
        Dialect::Ecs => "source.ip",
    }
}

/// By what each dialect tells callers apart: the access key, or where there is none the principal.
pub(crate) const fn caller(dialect: Dialect) -> [&'static str; 2] {
    match dialect {
        Dialect::CloudTrail => ["userIdentity.accessKeyId", "userIdentity.principalId"],
        Dialect::Sentinel => ["UserIdentityAccessKeyId", "UserIdentityPrincipalid"],
        Dialect::Ecs => ["aws.cloudtrail.user_identity.access_key_id", "user.id"],
    }
}

/// Where each dialect keeps the event's time.
pub(crate) const fn event_time(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::CloudTrail => "eventTime",
        Dialect::Sentinel => "TimeGenerated",
        Dialect::Ecs => "@timestamp",
    }
}

/// Where each dialect keeps the event's id.
pub(crate) const fn event_id(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::CloudTrail => "eventID",
        Dialect::Sentinel => "AwsEventId",
        Dialect::Ecs => "event.id",
    }
}

/// A field that is made of what stands at several places.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    cloudtrail: Source<&'static str>,
    sentinel: Source<&'static str>,
    /// `None`: at its own path.
    ecs: Option<Source<&'static str>>,
}

const fn row(name: &'static str, cloudtrail: Source<&'static str>, sentinel: Source<&'static str>) -> Row {
    Row { name, cloudtrail, sentinel, ecs: None }
}

const fn everywhere(name: &'static str, source: Source<&'static str>) -> Row {
    Row { name, cloudtrail: source, sentinel: source, ecs: Some(source) }
}

const CLOUDTRAIL_ACCOUNT: Account<&str> = Account {
    arn: "userIdentity.arn",
    resources: FirstResource::InArray("resources"),
    principal_id: "userIdentity.principalId",
    user_name: "userIdentity.userName",
    identity_type: None,
};
const SENTINEL_ACCOUNT: Account<&str> = Account {
    arn: "UserIdentityArn",
    resources: FirstResource::InArray("Resources"),
    principal_id: "UserIdentityPrincipalid",
    user_name: "UserIdentityUserName",
    identity_type: None,
};
const ECS_ACCOUNT: Account<&str> = Account {
    arn: "aws.cloudtrail.user_identity.arn",
    resources: FirstResource::FirstValue("aws.cloudtrail.resources.arn"),
    principal_id: "user.id",
    user_name: "user.name",
    identity_type: Some("aws.cloudtrail.user_identity.type"),
};

/// Fields that are what stands in one place: the ECS name, which is its place in ECS, then CloudTrail's and Sentinel's.
#[rustfmt::skip]
const PLAIN: &[(&str, &str, &str)] = &[
    ("@timestamp", "eventTime", "TimeGenerated"),
    ("event.action", "eventName", "EventName"),
    ("event.provider", "eventSource", "EventSource"),
    ("event.id", "eventID", "AwsEventId"),
    ("cloud.region", "awsRegion", "AWSRegion"),
    ("source.address", "sourceIPAddress", "SourceIpAddress"),
    ("user_agent.original", "userAgent", "UserAgent"),
    ("tls.client.server_name", "tlsDetails.clientProvidedHostHeader", "ClientProvidedHostHeader"),
    ("aws.cloudtrail.user_identity.type", "userIdentity.type", "UserIdentityType"),
    ("aws.cloudtrail.user_identity.arn", "userIdentity.arn", "UserIdentityArn"),
    ("aws.cloudtrail.user_identity.access_key_id", "userIdentity.accessKeyId", "UserIdentityAccessKeyId"),
    ("aws.cloudtrail.user_identity.invoked_by", "userIdentity.invokedBy", "UserIdentityInvokedBy"),
    ("aws.cloudtrail.user_identity.session_context.mfa_authenticated", "userIdentity.sessionContext.attributes.mfaAuthenticated", "SessionMfaAuthenticated"),
    ("aws.cloudtrail.user_identity.session_context.creation_date", "userIdentity.sessionContext.attributes.creationDate", "SessionCreationDate"),
    ("aws.cloudtrail.user_identity.session_context.session_issuer.type", "userIdentity.sessionContext.sessionIssuer.type", "SessionIssuerType"),
    ("aws.cloudtrail.user_identity.session_context.session_issuer.principal_id", "userIdentity.sessionContext.sessionIssuer.principalId", "SessionIssuerPrincipalId"),
    ("aws.cloudtrail.user_identity.session_context.session_issuer.arn", "userIdentity.sessionContext.sessionIssuer.arn", "SessionIssuerArn"),
    ("aws.cloudtrail.user_identity.session_context.session_issuer.account_id", "userIdentity.sessionContext.sessionIssuer.accountId", "SessionIssuerAccountId"),
    ("aws.cloudtrail.recipient_account_id", "recipientAccountId", "RecipientAccountId"),
    ("aws.cloudtrail.event_type", "eventType", "EventTypeName"),
    ("aws.cloudtrail.event_version", "eventVersion", "EventVersion"),
    ("aws.cloudtrail.error_code", "errorCode", "ErrorCode"),
    ("aws.cloudtrail.error_message", "errorMessage", "ErrorMessage"),
    ("aws.cloudtrail.request_id", "requestID", "AwsRequestId_"),
    ("aws.cloudtrail.api_version", "apiVersion", "APIVersion"),
    ("aws.cloudtrail.read_only", "readOnly", "ReadOnly"),
    ("aws.cloudtrail.management_event", "managementEvent", "ManagementEvent"),
    ("aws.cloudtrail.vpc_endpoint_id", "vpcEndpointId", "VpcEndpointId"),
];

/// Fields whose values are made of what stands in one place or several.
#[rustfmt::skip]
const DERIVED: &[Row] = &[
    everywhere("event.dataset", Source::Constant(DATASET)),
    everywhere("data_stream.dataset", Source::Constant(DATASET)),
    everywhere("source.as.organization.name", Source::AsOrganization),
    everywhere("source.as.number", Source::AsNumber),
    row("event.outcome",
        Source::Outcome { code: "errorCode", message: "errorMessage", event_name: "eventName", response: "responseElements" },
        Source::Outcome { code: "ErrorCode", message: "ErrorMessage", event_name: "EventName", response: "ResponseElements" }),
    row("user.name",
        Source::UserName {
            user_name: "userIdentity.userName", identity_type: "userIdentity.type",
            issuer_name: "userIdentity.sessionContext.sessionIssuer.userName",
            event_name: "eventName", additional: "additionalEventData" },
        Source::UserName {
            user_name: "UserIdentityUserName", identity_type: "UserIdentityType", issuer_name: "SessionIssuerUserName",
            event_name: "EventName", additional: "AdditionalEventData" }),
    row("user.id",
        Source::UserId {
            principal_id: "userIdentity.principalId", identity_type: "userIdentity.type",
            on_behalf_of: "userIdentity.onBehalfOf.userId" },
        Source::UserId {
            principal_id: "UserIdentityPrincipalid", identity_type: "UserIdentityType",
            on_behalf_of: "UserIdentityUserId" }),
    row("cloud.account.id",
        Source::FirstOf("userIdentity.accountId", "recipientAccountId"),
        Source::FirstOf("UserIdentityAccountId", "RecipientAccountId")),
    row("source.ip", Source::IpAddress("sourceIPAddress"), Source::IpAddress("SourceIpAddress")),
    row("aws.cloudtrail.resources.arn",
        Source::MemberOfEach("resources", "ARN"), Source::MemberOfEach("Resources", "ARN")),
    row("aws.cloudtrail.resources.type",
        Source::MemberOfEach("resources", "type"), Source::MemberOfEach("Resources", "type")),
    row("aws.cloudtrail.resources.account_id",
        Source::MemberOfEach("resources", "accountId"), Source::MemberOfEach("Resources", "accountId")),

    // The Sentinel detection's columns that ECS has no field for.
    Row { name: "sentinel.account_name",
        cloudtrail: Source::AccountName(CLOUDTRAIL_ACCOUNT), sentinel: Source::AccountName(SENTINEL_ACCOUNT),
        ecs: Some(Source::AccountName(ECS_ACCOUNT)) },
    Row { name: "sentinel.account_upn_suffix",
        cloudtrail: Source::AccountUpnSuffix(CLOUDTRAIL_ACCOUNT), sentinel: Source::AccountUpnSuffix(SENTINEL_ACCOUNT),
        ecs: Some(Source::AccountUpnSuffix(ECS_ACCOUNT)) },
    Row { name: "sentinel.user_identity_account_id",
        cloudtrail: Source::At("userIdentity.accountId"), sentinel: Source::At("UserIdentityAccountId"),
        ecs: Some(Source::At("cloud.account.id")) },
    Row { name: "sentinel.user_identity_user_name",
        cloudtrail: Source::At("userIdentity.userName"), sentinel: Source::At("UserIdentityUserName"),
        ecs: Some(Source::OwnUserName {
            user_name: "user.name", identity_type: "aws.cloudtrail.user_identity.type" }) },
    Row { name: "sentinel.additional_event_data",
        cloudtrail: Source::JsonText("additionalEventData"), sentinel: Source::JsonText("AdditionalEventData"),
        ecs: Some(Source::JsonText(WRITTEN_BY_AWS[0])) },
    Row { name: "sentinel.response_elements",
        cloudtrail: Source::JsonText("responseElements"), sentinel: Source::JsonText("ResponseElements"),
        ecs: Some(Source::JsonText(WRITTEN_BY_AWS[1])) },
];

/// The ECS names of the two objects that AWS writes. Rules may name them too.
const WRITTEN_BY_AWS: [&str; 2] = ["aws.cloudtrail.additional_eventdata", "aws.cloudtrail.response_elements"];

/// Names under this prefix are ours and never an event's own path.
const OWN_PREFIX: &str = "sentinel.";

/// How many levels a path may have. The deepest that rules on CloudTrail name has 9. The reader's recursion is as deep, and in
/// Fluent Bit, whose interpreter has a stack of 8 KB unless told otherwise, 16 were found to fit.
pub const MAX_LEVELS: usize = 12;

/// How many levels a path has.
pub(crate) fn levels(path: &str) -> usize {
    1 + path.bytes().filter(|byte| *byte == b'.').count()
}

/// The names of the fields that rules may use in every dialect.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLAIN.iter().map(|(name, ..)| *name).chain(DERIVED.iter().map(|row| row.name))
}

/// Fields of ECS with a single level that the table does not name. Any other single word is taken for a slip.
const SINGLE_LEVEL: [&str; 3] = ["message", "tags", "labels"];

/// Whether a rule may name this field, given the operator's dialect setting: any field of [`names`], and with the
/// dialect set to ECS any path of 2 to [`MAX_LEVELS`] levels, each made of letters, digits, `_`, `-` and `@`.
pub fn is_known(name: &str, dialect: Option<Dialect>) -> bool {
    let own_path = dialect == Some(Dialect::Ecs) && (SINGLE_LEVEL.contains(&name) || is_dotted_path(name));
    own_path || names().any(|known| known == name)
}

fn is_dotted_path(name: &str) -> bool {
    let is_level =
        |level: &str| !level.is_empty() && level.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '@'));
    !name.starts_with(OWN_PREFIX) && (2..=MAX_LEVELS).contains(&levels(name)) && name.split('.').all(is_level)
}

/// Where the field's values come from in a dialect; `None` if the table does not say.
#[cfg(any(feature = "compile", test))]
pub(crate) fn source(name: &str, dialect: Dialect) -> Option<Source<&str>> {
    Entry::of(name).source(name, dialect)
}

/// What the table says of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry {
    /// It stands at one place in each dialect; these are CloudTrail's and Sentinel's.
    Plain(&'static str, &'static str),
    Derived(&'static Row),
    /// Nothing.
    None,
}

impl Entry {
    pub(crate) fn of(name: &str) -> Entry {
        let is = |known: &str| same(known.as_bytes(), name.as_bytes());
        if let Some((_, cloudtrail, sentinel)) = PLAIN.iter().find(|(known, ..)| is(known)) {
            return Entry::Plain(cloudtrail, sentinel);
        }
        DERIVED.iter().find(|row| is(row.name)).map_or(Entry::None, Entry::Derived)
    }

    /// Where the values of the field, which has this name, come from in a dialect.
    pub(crate) fn source(self, name: &str, dialect: Dialect) -> Option<Source<&str>> {
        match (self, dialect) {
            (Entry::Plain(cloudtrail, _), Dialect::CloudTrail) => Some(Source::At(cloudtrail)),
            (Entry::Plain(_, sentinel), Dialect::Sentinel) => Some(Source::At(sentinel)),
            (Entry::Plain(..), Dialect::Ecs) => Some(Source::At(name)),
            (Entry::Derived(row), Dialect::CloudTrail) => Some(row.cloudtrail),
            (Entry::Derived(row), Dialect::Sentinel) => Some(row.sentinel),
            (Entry::Derived(Row { ecs: Some(source), .. }), Dialect::Ecs) => Some(*source),
            (_, Dialect::Ecs) if WRITTEN_BY_AWS.contains(&name) => Some(Source::WrittenByAws(name)),
            (_, Dialect::Ecs) if !name.starts_with(OWN_PREFIX) => Some(Source::At(name)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_known_in_every_dialect() {
        for (index, name) in names().enumerate() {
            assert!(names().take(index).all(|other| other != name), "{name} stands twice");
            for dialect in [Dialect::CloudTrail, Dialect::Ecs, Dialect::Sentinel] {
                assert!(source(name, dialect).is_some(), "{name} has no source in {dialect:?}");
            }
        }
    }

    #[test]
    fn unknown_fields_stand_at_their_own_path_in_ecs_only() {
        assert_eq!(source("dns.question.name", Dialect::Ecs), Some(Source::At("dns.question.name")));
        assert_eq!(source("dns.question.name", Dialect::CloudTrail), None);
        assert_eq!(source("sentinel.typo", Dialect::Ecs), None);
        for name in WRITTEN_BY_AWS {
            assert_eq!(source(name, Dialect::Ecs), Some(Source::WrittenByAws(name)));
        }
        assert!(is_known("dns.question.name", Some(Dialect::Ecs)));
        assert!(!is_known("dns.question.name", None));
        assert!(!is_known("sentinel.typo", Some(Dialect::Ecs)));
    }

    #[test]
    fn in_ecs_a_field_is_a_path_and_not_any_text() {
        let known = |name: &str| is_known(name, Some(Dialect::Ecs));
        for name in [
            "@timestamp",
            "message",
            "tags",
            "labels",
            "labels.équipe",
            "x.@y",
            "aws.cloudtrail.flattened.request_parameters.x-amz-acl",
            "a.b.c.d.e.f.g.h.i.j.k.l",
        ] {
            assert!(known(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "action",
            "an action",
            "event.",
            ".action",
            "event..action",
            "event. action",
            "event.action ",
            "// only the root user\nevent.action",
            "event.action=x",
            "event.*",
            "'user.name'",
            "a.b.c.d.e.f.g.h.i.j.k.l.m",
        ] {
            assert!(!known(name), "{name}");
        }
        assert!(!is_known("message", None));
    }
}
