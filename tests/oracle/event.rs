//! The event: where each field stands in it.
//!
//! In: the tree of an event, and what is around it. Out: the values of a field, by name. Written from the mapping pages anew, not from the
//! engine's table. Not here: queries, history.

use std::net::IpAddr;

use firstseen_engine::rule::Dialect;

use super::json::{Json, Kind, compact};
use super::time::{read_epoch, read_time};
use super::value::{Value, ValueKind};

/// A CloudTrail event inside a record.
pub(crate) struct Event {
    pub(crate) scope: Json,
    /// What is around the scope, nearest first.
    pub(crate) around: Vec<Json>,
    pub(crate) dialect: Dialect,
    pub(crate) as_organization_key: Option<String>,
    /// Whether it, or what is around it, stands in a list.
    pub(crate) is_listed: bool,
    /// Its number among the record's events, if it is one of several or stands in a list.
    pub(crate) number: Option<usize>,
}

impl Event {
    /// When it happened, if it says so legibly.
    pub(crate) fn time(&self) -> Option<i64> {
        let path = match self.dialect {
            Dialect::CloudTrail => "eventTime",
            Dialect::Ecs => "@timestamp",
            Dialect::Sentinel => "TimeGenerated",
        };
        let value = self.scope.values_at(path).into_iter().next()?;
        match value.kind {
            ValueKind::Text => read_time(&value.text).or_else(|| read_epoch(&value.text)),
            ValueKind::Number => read_epoch(&value.text),
            ValueKind::Boolean => None,
        }
    }

    /// What tells this event from any other: its id, or else all its bytes.
    pub(crate) fn identity(&self, record: &[u8]) -> String {
        match self.texts("event.id").first() {
            Some(id) => format!("id {id}"),
            None if self.number.is_some() => format!("bytes {}", self.scope.raw),
            None => format!("bytes {}", String::from_utf8_lossy(record)),
        }
    }

    /// The distinct values of a field as text, in order of appearance.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for value in self.values(name) {
            if !texts.contains(&value.text) {
                texts.push(value.text);
            }
        }
        texts
    }

    /// The values of an ECS field (or one of the Sentinel detection's derived columns).
    pub(crate) fn values(&self, name: &str) -> Vec<Value> {
        match name {
            "event.dataset" | "data_stream.dataset" => return vec![Value::text("aws.cloudtrail")],
            "event.module" => return vec![Value::text("aws")],
            "source.as.organization.name" => return self.as_organization(),
            "source.as.number" => return self.as_number(),
            "sentinel.account_name" => return one(self.account().0),
            "sentinel.account_upn_suffix" | "sentinel.upn_suffix" => return one(self.account().1),
            "sentinel.user_identity_account_id" => {
                return match self.dialect {
                    Dialect::CloudTrail => self.at("userIdentity.accountId"),
                    Dialect::Sentinel => self.at("UserIdentityAccountId"),
                    Dialect::Ecs => self.at("cloud.account.id"),
                };
            }
            "sentinel.user_identity_user_name" => {
                return match self.dialect {
                    Dialect::CloudTrail => self.at("userIdentity.userName"),
                    Dialect::Sentinel => self.at("UserIdentityUserName"),
                    Dialect::Ecs if self.has_role_name() => Vec::new(),
                    Dialect::Ecs => self.at("user.name"),
                };
            }
            "sentinel.additional_event_data" => {
                return self.json_text(
                    "additionalEventData",
                    "AdditionalEventData",
                    "aws.cloudtrail.additional_eventdata",
                );
            }
            "sentinel.response_elements" => {
                return self.json_text("responseElements", "ResponseElements", "aws.cloudtrail.response_elements");
            }
            _ => {}
        }
        match self.dialect {
            Dialect::Ecs => self.at(name),
            Dialect::CloudTrail => self.cloudtrail(name),
            Dialect::Sentinel => self.sentinel(name),
        }
    }

    pub(crate) fn at(&self, path: &str) -> Vec<Value> {
        self.scope.values_at(path)
    }

    pub(crate) fn first(&self, path: &str) -> String {
        let values = self.at(path);
        values.first().map_or(String::new(), |v| v.text.clone())
    }

    pub(crate) fn cloudtrail(&self, name: &str) -> Vec<Value> {
        let path = match name {
            "event.outcome" => {
                let login = self.at("responseElements.ConsoleLogin");
                return self.outcome("errorCode", "errorMessage", "eventName", login);
            }
            "cloud.account.id" => {
                return self.either("userIdentity.accountId", "recipientAccountId");
            }
            "user.name" => {
                let moved = self.at("additionalEventData.UserName");
                return self.user_name(
                    "userIdentity.userName",
                    "userIdentity.sessionContext.sessionIssuer.userName",
                    "eventName",
                    moved,
                );
            }
            "user.id" => {
                let principal = self.at("userIdentity.principalId");
                if principal.is_empty() && self.first("userIdentity.type") == "IdentityCenterUser" {
                    return self.at("userIdentity.onBehalfOf.userId");
                }
                return principal;
            }
            "source.ip" => return addresses(self.at("sourceIPAddress")),
            "@timestamp" => "eventTime",
            "event.action" => "eventName",
            "event.provider" => "eventSource",
            "event.id" => "eventID",
            "aws.cloudtrail.user_identity.type" => "userIdentity.type",
            "aws.cloudtrail.user_identity.arn" => "userIdentity.arn",
            "aws.cloudtrail.user_identity.access_key_id" => "userIdentity.accessKeyId",
            "aws.cloudtrail.user_identity.invoked_by" => "userIdentity.invokedBy",
            "aws.cloudtrail.user_identity.session_context.mfa_authenticated" => {
                "userIdentity.sessionContext.attributes.mfaAuthenticated"
            }
            "aws.cloudtrail.user_identity.session_context.session_issuer.arn" => {
                "userIdentity.sessionContext.sessionIssuer.arn"
            }
            "user_agent.original" => "userAgent",
            "source.address" => "sourceIPAddress",
            "cloud.region" => "awsRegion",
            "aws.cloudtrail.error_code" => "errorCode",
            "aws.cloudtrail.error_message" => "errorMessage",
            "aws.cloudtrail.recipient_account_id" => "recipientAccountId",
            "aws.cloudtrail.event_type" => "eventType",
            "aws.cloudtrail.event_category" => "eventCategory",
            "aws.cloudtrail.resources.arn" => "resources.ARN",
            "aws.cloudtrail.resources.account_id" => "resources.accountId",
            "aws.cloudtrail.resources.type" => "resources.type",
            "aws.cloudtrail.read_only" => "readOnly",
            other => panic!("the oracle does not know where CloudTrail keeps {other}"),
        };
        self.at(path)
    }

    pub(crate) fn sentinel(&self, name: &str) -> Vec<Value> {
        let path = match name {
            "event.outcome" => {
                let login = self.text_column("ResponseElements", "ConsoleLogin");
                return self.outcome("ErrorCode", "ErrorMessage", "EventName", login);
            }
            "cloud.account.id" => return self.either("UserIdentityAccountId", "RecipientAccountId"),
            "user.name" => {
                let moved = self.text_column("AdditionalEventData", "UserName");
                return self.user_name("UserIdentityUserName", "SessionIssuerUserName", "EventName", moved);
            }
            "user.id" => {
                let principal = self.at("UserIdentityPrincipalid");
                if principal.is_empty() && self.first("UserIdentityType") == "IdentityCenterUser" {
                    return self.at("UserIdentityUserId");
                }
                return principal;
            }
            "source.ip" => return addresses(self.at("SourceIpAddress")),
            "aws.cloudtrail.resources.arn" => return self.text_column("Resources", "ARN"),
            "aws.cloudtrail.resources.account_id" => {
                return self.text_column("Resources", "accountId");
            }
            "aws.cloudtrail.resources.type" => return self.text_column("Resources", "type"),
            "@timestamp" => "TimeGenerated",
            "event.action" => "EventName",
            "event.provider" => "EventSource",
            "event.id" => "AwsEventId",
            "aws.cloudtrail.user_identity.type" => "UserIdentityType",
            "aws.cloudtrail.user_identity.arn" => "UserIdentityArn",
            "aws.cloudtrail.user_identity.access_key_id" => "UserIdentityAccessKeyId",
            "aws.cloudtrail.user_identity.invoked_by" => "UserIdentityInvokedBy",
            "aws.cloudtrail.user_identity.session_context.mfa_authenticated" => "SessionMfaAuthenticated",
            "aws.cloudtrail.user_identity.session_context.session_issuer.arn" => "SessionIssuerArn",
            "user_agent.original" => "UserAgent",
            "source.address" => "SourceIpAddress",
            "cloud.region" => "AWSRegion",
            "aws.cloudtrail.error_code" => "ErrorCode",
            "aws.cloudtrail.error_message" => "ErrorMessage",
            "aws.cloudtrail.recipient_account_id" => "RecipientAccountId",
            "aws.cloudtrail.event_type" => "EventTypeName",
            "aws.cloudtrail.event_category" => "Category",
            "aws.cloudtrail.read_only" => "ReadOnly",
            other => panic!("the oracle does not know where Sentinel keeps {other}"),
        };
        self.at(path)
    }

    /// Values inside a column that holds JSON text.
    pub(crate) fn text_column(&self, column: &str, path: &str) -> Vec<Value> {
        self.at(column).iter().filter_map(|text| Json::read(&text.text)).flat_map(|json| json.values_at(path)).collect()
    }

    pub(crate) fn either(&self, path: &str, otherwise: &str) -> Vec<Value> {
        let values = self.at(path);
        if values.is_empty() { self.at(otherwise) } else { values }
    }

    pub(crate) fn outcome(
        &self,
        error_code: &str,
        error_message: &str,
        action: &str,
        console_login: Vec<Value>,
    ) -> Vec<Value> {
        if self.first(action) == "ConsoleLogin"
            && let Some(login) = console_login.first()
        {
            return vec![Value::text(&login.text.to_ascii_lowercase())];
        }
        let failed = !self.at(error_code).is_empty() || !self.at(error_message).is_empty();
        vec![Value::text(if failed { "failure" } else { "success" })]
    }

    pub(crate) fn user_name(&self, own: &str, issuer: &str, action: &str, moved: Vec<Value>) -> Vec<Value> {
        let issuer = self.at(issuer);
        if self.has_role_name() && !issuer.is_empty() {
            return issuer;
        }
        let own = self.at(own);
        if own.is_empty() && self.first(action) == "UserAuthentication" {
            return moved;
        }
        own
    }

    /// Whether `user.name` is the session issuer's.
    pub(crate) fn has_role_name(&self) -> bool {
        let path = match self.dialect {
            Dialect::CloudTrail => "userIdentity.type",
            Dialect::Sentinel => "UserIdentityType",
            Dialect::Ecs => "aws.cloudtrail.user_identity.type",
        };
        matches!(self.first(path).as_str(), "AssumedRole" | "FederatedUser")
    }

    /// The AS organisation: upstream's field or the operator's key, beside the event or else in the nearest place around it. Without
    /// one, that which the host program looked up for the event's address.
    pub(crate) fn as_organization(&self) -> Vec<Value> {
        let mut paths = vec!["source.as.organization.name".to_owned()];
        paths.extend(self.as_organization_key.clone());
        let values = self.nearest(&paths);
        if values.is_empty() { self.looked_up("organization") } else { values }
    }

    /// The number of the AS, which may have `AS` before it.
    pub(crate) fn as_number(&self) -> Vec<Value> {
        let mut paths = vec!["source.as.number".to_owned(), "source.as.asn".to_owned()];
        if let Some(key) = &self.as_organization_key {
            let parent = key.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
            paths.push(format!("{parent}autonomous_system_number"));
            paths.push(format!("{parent}asn"));
            for ending in ["organization.name", "org.name", "organization", "org"] {
                let beside = key.strip_suffix(ending).map(|stem| format!("{stem}number"));
                if let Some(path) = beside.filter(|path| !paths.contains(path)) {
                    paths.push(path);
                }
            }
        }
        let mut values = self.nearest(&paths);
        let mut organization = vec!["source.as.organization.name".to_owned()];
        organization.extend(self.as_organization_key.clone());
        if values.is_empty() && self.nearest(&organization).is_empty() {
            values = self.looked_up("number");
        }
        for value in &mut values {
            let digits = value.text.get(2..).unwrap_or("");
            let is_prefixed = value.text.to_ascii_uppercase().starts_with("AS");
            if is_prefixed && !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit()) {
                value.text = digits.to_owned();
            }
        }
        values
    }

    /// The values at some paths, in the nearest place that has any.
    fn nearest(&self, paths: &[String]) -> Vec<Value> {
        for place in std::iter::once(&self.scope).chain(&self.around) {
            let values: Vec<Value> = paths.iter().flat_map(|path| place.values_at(path)).collect();
            if !values.is_empty() {
                return values;
            }
        }
        Vec::new()
    }

    fn looked_up(&self, member: &str) -> Vec<Value> {
        let path = match self.dialect {
            Dialect::CloudTrail => "sourceIPAddress",
            Dialect::Sentinel => "SourceIpAddress",
            Dialect::Ecs => "source.ip",
        };
        let root = self.around.last().unwrap_or(&self.scope);
        let last = |json: &Json, name: &str| {
            let member = json.members().iter().rev().find(|(key, _)| key == name);
            member.map(|(_, value)| value.clone())
        };
        let table = root.at("firstseen:as").into_iter().next();
        let found = table.and_then(|table| last(&last(&table, &self.first(path))?, member));
        found.map_or(Vec::new(), |json| json.scalars())
    }

    /// The Sentinel detection's AccountName and AccountUPNSuffix, step by step as its query has them.
    pub(crate) fn account(&self) -> (String, String) {
        let (own_arn, first_resource, principal) = match self.dialect {
            Dialect::CloudTrail => (
                self.first("userIdentity.arn"),
                self.first_resource(self.scope.arrays_at("resources")),
                self.first("userIdentity.principalId"),
            ),
            Dialect::Sentinel => {
                let text = self.first("Resources");
                let array = Json::read(&text).and_then(|json| match json.kind {
                    Kind::Array(items) => Some(items),
                    _ => None,
                });
                (self.first("UserIdentityArn"), self.first_resource(array), self.first("UserIdentityPrincipalid"))
            }
            Dialect::Ecs => (
                self.first("aws.cloudtrail.user_identity.arn"),
                self.first("aws.cloudtrail.resources.arn"),
                self.first("user.id"),
            ),
        };
        let arn = if own_arn.is_empty() { first_resource } else { own_arn };
        let last_part = arn.rsplit('/').next().unwrap_or("").to_owned();
        let own_name = self.texts("sentinel.user_identity_user_name").first().cloned().unwrap_or_default();
        let name = if principal == "Anonymous" {
            "Anonymous".to_owned()
        } else if own_name.is_empty() {
            last_part
        } else {
            own_name
        };
        if name.contains('@') {
            let pieces: Vec<&str> = name.split('@').collect();
            (pieces[0].to_owned(), pieces[1].to_owned())
        } else {
            (name, String::new())
        }
    }

    pub(crate) fn first_resource(&self, array: Option<Vec<Json>>) -> String {
        let Some(Some(first)) = array.map(|items| items.into_iter().next()) else {
            return String::new();
        };
        let arns = first.values_at("ARN");
        arns.first().map_or(String::new(), |v| v.text.clone())
    }

    /// The Sentinel columns that hold an object as compact JSON text.
    pub(crate) fn json_text(&self, cloudtrail: &str, sentinel: &str, ecs: &str) -> Vec<Value> {
        let path = match self.dialect {
            Dialect::CloudTrail => cloudtrail,
            Dialect::Sentinel => sentinel,
            Dialect::Ecs => ecs,
        };
        let there = self.scope.at(path);
        let texts = there.iter().filter(|json| !json.is_nothing()).map(|json| match &json.kind {
            Kind::Text(text) => Value::text(text),
            _ => Value::text(&compact(&json.raw)),
        });
        texts.collect()
    }
}

pub(crate) fn one(text: String) -> Vec<Value> {
    if text.is_empty() { Vec::new() } else { vec![Value::text(&text)] }
}

pub(crate) fn addresses(values: Vec<Value>) -> Vec<Value> {
    values.into_iter().filter(|value| value.text.parse::<IpAddr>().is_ok()).collect()
}

pub(crate) fn dialect_of(scope: &Json, only: Option<Dialect>) -> Option<Dialect> {
    let has = |path: &str| !scope.values_at(path).is_empty();
    let is_ecs = || {
        let mut datasets = scope.values_at("event.dataset");
        datasets.extend(scope.values_at("data_stream.dataset"));
        match datasets.is_empty() {
            true => has("event.provider") && has("event.action"),
            false => {
                datasets.iter().any(|value| value.text == "aws.cloudtrail")
                    && (has("event.provider") || has("event.action"))
            }
        }
    };
    let found = if has("eventSource") && has("eventName") {
        Dialect::CloudTrail
    } else if has("EventSource") && has("EventName") {
        Dialect::Sentinel
    } else if is_ecs() {
        Dialect::Ecs
    } else {
        return None;
    };
    match only {
        None => Some(found),
        Some(Dialect::CloudTrail) => (has("eventSource") && has("eventName")).then_some(Dialect::CloudTrail),
        Some(Dialect::Sentinel) => (has("EventSource") && has("EventName")).then_some(Dialect::Sentinel),
        Some(Dialect::Ecs) => is_ecs().then_some(Dialect::Ecs),
    }
}
