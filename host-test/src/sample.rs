//! Made-up CloudTrail events of a small company, with an attack in them.
//!
//! In: how many events, and a seed. Out: CloudTrail records as JSON lines in the order of their event times; the same
//! seed makes the same bytes. Accounts, addresses and AS names are of the ranges kept for documentation, but for the
//! AS name of AWS itself. As CloudTrail writes them, records have no AS organisation: a GeoIP step of the pipeline finds it in
//! [`asn_database`]. Enriched records carry `source.as.organization.name` at their root, as such a step writes it.
//!
//! The story, a week from [`START`] on:
//! - Everyday calls of users, of single-sign-on sessions, of instances and of services. `ci-deploy` and `terraform` check
//!   their identity every day; so does the instance in the office network, which leaves through the company's provider.
//!   An instance behind a VPC endpoint and a function check theirs on some days, CloudFormation and the console check a
//!   person's for them.
//! - Day 4, morning: the credentials of the web frontend's instance role are stolen and tried from a hosting provider:
//!   GetCallerIdentity from an AS organisation that is new for that session, then a look around.
//! - The thief assumes another role and asks again who that is: GetCallerIdentity by an assumed-role session.
//! - In a bucket the thief finds the access key of `svc-reporting`, who has never called GetCallerIdentity before.
//!
//! Bounds: all events are held in memory. Not here: what any rule makes of them.

use std::net::Ipv4Addr;

use jiff::Timestamp;

use crate::mmdb::{self, Value};

/// When the sample begins, in milliseconds since 1970: 2026-03-02T00:00:00Z, a Monday.
pub const START: i64 = 1_772_409_600_000;

/// How many days it lasts.
pub const DAYS: i64 = 7;

/// The events that [`events`] makes at least, however few are asked for: the story.
pub const STORY_EVENTS: usize = 76;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";

/// The AS organisation of instances that leave through AWS.
const AWS: &str = "AMAZON-02";
/// What CloudTrail writes for the address of a call that AWS makes from inside.
const AWS_INTERNAL: &str = "AWS Internal";
/// What the addresses behind the VPC endpoint begin with.
const PRIVATE: &str = "10.0.";
const OFFICE: &str = "Example Broadband";
const COMPANY_UPLINK: &str = "Example Corp Transit";
const HOME: &str = "Example Home Internet";
const HOSTING: &str = "Example Bulletproof Hosting";

const CLI: &str = "aws-cli/2.24.6 md/awscrt#0.23.8 ua/2.0 os/linux#6.8.0-52-generic md/arch#x86_64 lang/python#3.12.6";
const BOTO: &str = "Boto3/1.36.3 md/Botocore#1.36.3 ua/2.0 os/linux#6.1.119-129.201.amzn2023.x86_64 lang/python#3.11.6";
const JAVA: &str = "aws-sdk-java/2.30.2 md/io#sync md/http#Apache os/Linux#5.10.230 lang/java#17.0.13";
const TERRAFORM: &str = "APN/1.0 HashiCorp/1.0 Terraform/1.10.4 (+https://www.terraform.io) aws-sdk-go-v2/1.33.0";
const CONSOLE: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:134.0) Gecko/20100101 Firefox/134.0";
const THIEF: &str = "aws-cli/2.22.0 md/awscrt#0.22.0 ua/2.0 os/linux#6.11.2-kali md/arch#x86_64 lang/python#3.12.7";

/// Who makes a call.
#[derive(Debug, Clone)]
pub enum Caller {
    /// An IAM user with an access key.
    User {
        /// Its name.
        name: String,
    },
    /// A session of an assumed role.
    Role {
        /// The role's name.
        role: String,
        /// The session's: an instance id, a person's address.
        session: String,
        /// What the credentials were issued to, if that is not a person or a program of theirs.
        issued_to: Option<IssuedTo>,
    },
    /// A service of AWS.
    Service {
        /// Its host name.
        host: &'static str,
    },
}

/// What the credentials of a role session were issued to.
#[derive(Debug, Clone, Copy)]
pub enum IssuedTo {
    /// An instance, through its metadata; the session's name is the instance's id.
    Instance,
    /// A function; the session's name is the function's.
    Function,
}

/// One call, as far as it differs from others.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Event time, in milliseconds since 1970.
    pub time: i64,
    /// Who.
    pub caller: &'a Caller,
    /// The service, without `.amazonaws.com`.
    pub service: &'a str,
    /// The API.
    pub name: &'a str,
    /// Where from: an address, a private one through a VPC endpoint, or of a call that AWS makes on the caller's behalf a
    /// service's host name or `AWS Internal`.
    pub address: &'a str,
    /// The AS organisation of the address; `None` leaves the key out.
    pub organization: Option<&'a str>,
    /// With what.
    pub user_agent: &'a str,
    /// `requestParameters` as JSON.
    pub request: String,
    /// `responseElements` as JSON.
    pub response: String,
    /// The error code, if the call failed.
    pub error: Option<&'a str>,
    /// `readOnly`.
    pub read_only: bool,
}

/// A small deterministic generator (SplitMix64); good enough for made-up ids.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// The record of a call, one line of JSON. Its ids come from `random`.
pub fn record(call: &Call<'_>, random: &mut Random) -> String {
    let id = uuid(random);
    let request_id = uuid(random);
    let time = timestamp(call.time);
    let error = match call.error {
        Some(code) => format!(
            r#""errorCode":"{code}","errorMessage":"The caller is not authorized to perform: {}:{}","#,
            call.service, call.name
        ),
        None => String::new(),
    };
    let service = call.service;
    let identity = identity(call.caller, call.address, call.time);
    let organization = match call.organization {
        Some(name) => format!(r#","source.as.organization.name":"{name}""#),
        None => String::new(),
    };
    let is_aws = call.address == AWS_INTERNAL || call.address.ends_with(".amazonaws.com");
    let tls = if is_aws {
        String::new()
    } else {
        format!(
            r#","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{service}.{REGION}.amazonaws.com"}}"#
        )
    };
    let endpoint = if call.address.starts_with(PRIVATE) {
        format!(r#","vpcEndpointId":"vpce-0f1e2d3c4b5a69788","vpcEndpointAccountId":"{ACCOUNT}""#)
    } else {
        String::new()
    };
    let console = if call.user_agent == CONSOLE && service != "signin" || call.address == AWS_INTERNAL {
        r#","sessionCredentialFromConsole":"true""#
    } else {
        ""
    };
    let is_data = service == "s3" && name_of_data_event(call.name);
    let (management, category) = if is_data { (false, "Data") } else { (true, "Management") };
    let additional = additional(call, random);
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{identity},"eventTime":"{time}","eventSource":"{service}.amazonaws.com","eventName":"{}","awsRegion":"{REGION}","sourceIPAddress":"{}","userAgent":"{}",{error}"requestParameters":{},"responseElements":{}{additional},"requestID":"{request_id}","eventID":"{id}","readOnly":{},"eventType":"AwsApiCall","managementEvent":{management},"recipientAccountId":"{ACCOUNT}"{endpoint},"eventCategory":"{category}"{tls}{console}{organization}}}"#,
        call.name, call.address, call.user_agent, call.request, call.response, call.read_only
    )
}

/// Whether an operation of S3 is logged as a data event.
fn name_of_data_event(name: &str) -> bool {
    name.ends_with("Object") || name == "ListObjects"
}

/// `additionalEventData`, with its key, of the services that write it.
fn additional(call: &Call<'_>, random: &mut Random) -> String {
    match call.service {
        "sts" => {
            let millis = call.time + random.below(1000) as i64;
            let id = base64(&format!("1:{REGION}:S:{millis}:R:{}", letters(random, 8)));
            format!(
                r#","additionalEventData":{{"ExtendedRequestId":"{id}","RequestDetails":{{"endpointType":"regional","awsServingRegion":"{REGION}"}}}}"#
            )
        }
        "s3" => {
            let id = base64(&letters(random, 55));
            let bytes = random.below(1 << 20);
            let (incoming, outgoing) = if call.name == "PutObject" { (bytes, 0) } else { (0, bytes) };
            format!(
                r#","additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":{incoming},"AuthenticationMethod":"AuthHeader","x-amz-id-2":"{id}","bytesTransferredOut":{outgoing}}}"#
            )
        }
        _ => String::new(),
    }
}

/// So many random letters and digits.
fn letters(random: &mut Random, count: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..count).map(|_| char::from(*random.pick(LETTERS))).collect()
}

/// A text in base64.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| -> String {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let digit = |at: usize| if at > three.len() { '=' } else { char::from(DIGITS[bits >> (18 - 6 * at) & 63]) };
        (0..4).map(digit).collect()
    };
    text.as_bytes().chunks(3).map(digits).collect()
}

/// `userIdentity`.
fn identity(caller: &Caller, address: &str, time: i64) -> String {
    match caller {
        Caller::User { name } => format!(
            r#"{{"type":"IAMUser","principalId":"{}","arn":"arn:aws:iam::{ACCOUNT}:user/{name}","accountId":"{ACCOUNT}","accessKeyId":"{}","userName":"{name}"}}"#,
            stable_id("AIDA", name),
            stable_id("AKIA", name),
        ),
        Caller::Role { role, session, issued_to } => {
            let role_id = stable_id("AROA", role);
            // A session's credentials live six hours.
            let created = timestamp(time - time.rem_euclid(6 * HOUR));
            let path = if session.contains('@') { "aws-reserved/sso.amazonaws.com/" } else { "" };
            let (delivery, scope) = match issued_to {
                None => ("", String::new()),
                Some(IssuedTo::Instance) => (
                    r#","ec2RoleDelivery":"2.0""#,
                    format!(
                        r#","inScopeOf":{{"issuerType":"AWS::EC2::Instance","credentialsIssuedTo":"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{session}"}}"#
                    ),
                ),
                Some(IssuedTo::Function) => (
                    "",
                    format!(
                        r#","inScopeOf":{{"issuerType":"AWS::Lambda::Function","credentialsIssuedTo":"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{session}"}}"#
                    ),
                ),
            };
            let invoked_by = match address {
                AWS_INTERNAL => r#","invokedBy":"AWS Internal""#.to_owned(),
                host if host.ends_with(".amazonaws.com") => format!(r#","invokedBy":"{host}""#),
                _ => String::new(),
            };
            format!(
                r#"{{"type":"AssumedRole","principalId":"{role_id}:{session}","arn":"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}","accountId":"{ACCOUNT}","accessKeyId":"{}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"{role_id}","arn":"arn:aws:iam::{ACCOUNT}:role/{path}{role}","accountId":"{ACCOUNT}","userName":"{role}"}},"attributes":{{"creationDate":"{created}","mfaAuthenticated":"false"}}{delivery}}}{scope}{invoked_by}}}"#,
                stable_id("ASIA", &format!("{session}{created}")),
            )
        }
        Caller::Service { host } => format!(r#"{{"type":"AWSService","invokedBy":"{host}"}}"#),
    }
}

/// An id that looks like one of IAM's, always the same for the same name.
fn stable_id(prefix: &str, name: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    // FNV-1a, then the generator.
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut bits = Random::new(seed).number();
    let mut id = prefix.to_owned();
    for _ in 0..9 {
        id.push(char::from(LETTERS[(bits % 32) as usize]));
        bits /= 32;
    }
    id + "EXAMPLE"
}

fn uuid(random: &mut Random) -> String {
    let (high, low) = (random.number(), random.number());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// `2026-03-02T00:00:00Z`: CloudTrail's times have whole seconds.
fn timestamp(time: i64) -> String {
    Timestamp::from_millisecond(time - time.rem_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// The sample, `count` events of it but at least [`STORY_EVENTS`], as CloudTrail writes them.
pub fn events(count: usize, seed: u64) -> Vec<String> {
    sample(count, seed, false)
}

/// The events of [`events`] with their AS organisations, as a GeoIP step writes them.
pub fn enriched_events(count: usize, seed: u64) -> Vec<String> {
    sample(count, seed, true)
}

/// A database in MaxMind's format, of the layout of GeoLite2-ASN, that knows the addresses of the sample and no others.
pub fn asn_database() -> Vec<u8> {
    let networks: Vec<_> = ADDRESSES
        .iter()
        .map(|(address, organization)| {
            // Numbers that are kept for documentation.
            let number = 64_496 + ORGANIZATIONS.iter().position(|other| other == organization).unwrap_or(0) as u32;
            let row = Value::Map(vec![
                ("autonomous_system_number", Value::Number(number)),
                ("autonomous_system_organization", Value::Text((*organization).to_owned())),
            ]);
            ((Ipv4Addr::from(*address), 32), row)
        })
        .collect();
    mmdb::database("GeoLite2-ASN", (START / 1000) as u32, &networks)
}

fn sample(count: usize, seed: u64, is_enriched: bool) -> Vec<String> {
    let mut sample = Sample { random: Random::new(seed), is_enriched, events: Vec::with_capacity(count) };
    sample.routine_identity_checks();
    sample.attack();
    while sample.events.len() < count {
        sample.everyday_call();
    }
    sample.events.sort_by_key(|(time, _)| *time);
    sample.events.into_iter().map(|(_, event)| event).collect()
}

struct Sample {
    random: Random,
    is_enriched: bool,
    events: Vec<(i64, String)>,
}

fn user(name: &str) -> Caller {
    Caller::User { name: name.to_owned() }
}

fn role(role: &str, session: &str) -> Caller {
    Caller::Role { role: role.to_owned(), session: session.to_owned(), issued_to: None }
}

fn instance(role: &str, id: &str) -> Caller {
    Caller::Role { role: role.to_owned(), session: id.to_owned(), issued_to: Some(IssuedTo::Instance) }
}

fn function(name: &str) -> Caller {
    Caller::Role { role: name.to_owned(), session: name.to_owned(), issued_to: Some(IssuedTo::Function) }
}

const FRONTEND: (&str, &str) = ("web-frontend", "i-0a1b2c3d4e5f60718");

/// Instances: role, instance id, how they leave to the internet.
const INSTANCES: [(&str, &str, &str); 5] = [
    (FRONTEND.0, FRONTEND.1, "192.0.2.10"),
    ("web-frontend", "i-0b2c3d4e5f6071829", "192.0.2.10"),
    ("order-worker", "i-0c3d4e5f607182930", "192.0.2.11"),
    ("order-worker", "i-0d4e5f60718293041", "192.0.2.11"),
    ("office-gateway", "i-0e5f6071829304152", "198.51.100.7"),
];

/// People behind single sign-on: permission set, address.
const PEOPLE: [(&str, &str); 6] = [
    ("AWSReservedSSO_ReadOnlyAccess_1f2e3d4c5b6a7980", "alice@example.com"),
    ("AWSReservedSSO_ReadOnlyAccess_1f2e3d4c5b6a7980", "bob@example.com"),
    ("AWSReservedSSO_PowerUserAccess_2a3b4c5d6e7f8091", "carol@example.com"),
    ("AWSReservedSSO_PowerUserAccess_2a3b4c5d6e7f8091", "dave@example.com"),
    ("AWSReservedSSO_AdministratorAccess_3b4c5d6e7f8091a2", "erin@example.com"),
    ("AWSReservedSSO_ReadOnlyAccess_1f2e3d4c5b6a7980", "frank@example.com"),
];

const BUCKETS: [&str; 5] =
    ["example-corp-orders", "example-corp-assets", "example-corp-logs", "example-corp-backups", "example-corp-reports"];

/// Reads of the control plane that people and tools make: service, API, request.
const READS: [(&str, &str, &str); 18] = [
    ("ec2", "DescribeInstances", r#"{"maxResults":50,"instancesSet":{},"filterSet":{}}"#),
    ("ec2", "DescribeSecurityGroups", r#"{"securityGroupSet":{},"securityGroupIdSet":{},"filterSet":{}}"#),
    ("ec2", "DescribeVpcs", r#"{"vpcSet":{},"filterSet":{}}"#),
    ("ec2", "DescribeVolumes", r#"{"volumeSet":{},"filterSet":{}}"#),
    ("ec2", "DescribeRegions", r#"{"regionSet":{}}"#),
    ("iam", "ListUsers", "null"),
    ("iam", "ListRoles", r#"{"maxItems":100}"#),
    ("iam", "GetRole", r#"{"roleName":"order-worker"}"#),
    ("iam", "ListAttachedRolePolicies", r#"{"roleName":"web-frontend"}"#),
    ("iam", "GetAccountSummary", "null"),
    ("rds", "DescribeDBInstances", r#"{"dBInstanceIdentifier":"orders"}"#),
    ("lambda", "ListFunctions20150331", r#"{"maxItems":50}"#),
    ("cloudwatch", "DescribeAlarms", r#"{"maxRecords":100}"#),
    ("logs", "DescribeLogGroups", r#"{"limit":50}"#),
    ("kms", "DescribeKey", r#"{"keyId":"alias/orders"}"#),
    ("cloudtrail", "LookupEvents", r#"{"maxResults":50}"#),
    ("eks", "DescribeCluster", r#"{"name":"shop"}"#),
    ("secretsmanager", "ListSecrets", r#"{"maxResults":20}"#),
];

impl Sample {
    fn add(&mut self, call: &Call<'_>) {
        let organization = organization_of(call.address).filter(|_| self.is_enriched);
        let record = record(&Call { organization, ..call.clone() }, &mut self.random);
        self.events.push((call.time, record));
    }

    /// A successful call without a response.
    fn read<'a>(&mut self, time: i64, caller: &'a Caller, api: (&'a str, &'a str), from: Origin<'a>, request: &str) {
        self.add(&Call {
            time,
            caller,
            service: api.0,
            name: api.1,
            address: from.address,
            organization: None,
            user_agent: from.user_agent,
            request: request.to_owned(),
            response: "null".to_owned(),
            error: None,
            read_only: true,
        });
    }

    fn get_caller_identity(&mut self, time: i64, caller: &Caller, from: Origin<'_>) {
        self.read(time, caller, ("sts", "GetCallerIdentity"), from, "null");
    }

    /// Tools that check their identity before they work, every day at the same hours.
    fn routine_identity_checks(&mut self) {
        let ci = user("ci-deploy");
        let terraform = user("terraform");
        let (role_name, id, address) = INSTANCES[4];
        let office_gateway = instance(role_name, id);
        let (permission_set, person) = PEOPLE[2];
        let carol = role(permission_set, person);
        for day in 0..DAYS {
            let morning = START + day * DAY + 6 * HOUR;
            for (run, minutes) in [0, 130, 250, 420, 555].into_iter().enumerate() {
                let time = morning + minutes * MINUTE + run as i64 * 17_000;
                self.get_caller_identity(time, &ci, from("198.51.100.20", BOTO));
            }
            self.get_caller_identity(morning + 200 * MINUTE, &terraform, from("198.51.100.21", TERRAFORM));
            for run in 0..2 {
                let time = morning + 40 * MINUTE + run * 3 * HOUR;
                self.get_caller_identity(time, &office_gateway, from(address, BOTO));
            }
        }
        // A person who looks whether the login worked, twice on one day.
        for minutes in [0, 12] {
            let time = START + DAY + 9 * HOUR + minutes * MINUTE;
            self.get_caller_identity(time, &carol, from("198.51.100.30", CLI));
        }
        // An instance whose calls go through a VPC endpoint: its address is private, and no database has it.
        let (role_name, id, ..) = INSTANCES[2];
        let worker = instance(role_name, id);
        for minutes in [0, 90, 2 * 24 * 60] {
            let time = START + DAY + 5 * HOUR + minutes * MINUTE;
            self.get_caller_identity(time, &worker, from("10.0.12.34", JAVA));
        }
        // A function that starts twice within minutes.
        let order_events = function("order-events");
        for seconds in [0, 204] {
            let time = START + 2 * DAY + 4 * HOUR + seconds * 1000;
            self.get_caller_identity(time, &order_events, from("192.0.2.12", BOTO));
        }
        // Calls that AWS makes on a person's behalf: CloudFormation, with its host name for an address, and the console.
        let (permission_set, person) = PEOPLE[4];
        let erin = role(permission_set, person);
        for (minutes, address) in
            [(0, "cloudformation.amazonaws.com"), (2, "cloudformation.amazonaws.com"), (40, AWS_INTERNAL)]
        {
            let time = START + 4 * DAY + 13 * HOUR + minutes * MINUTE;
            self.get_caller_identity(time, &erin, from(address, address));
        }
    }

    /// The story of day 4.
    fn attack(&mut self) {
        let start = START + 3 * DAY + 9 * HOUR + 14 * MINUTE;
        let thief = from("203.0.113.66", THIEF);
        let stolen = instance(FRONTEND.0, FRONTEND.1);
        self.get_caller_identity(start, &stolen, thief);
        self.read(start + MINUTE, &stolen, ("s3", "ListBuckets"), thief, r#"{"Host":"s3.amazonaws.com"}"#);
        self.denied(start + 2 * MINUTE, &stolen, ("iam", "ListUsers"), thief);
        self.denied(start + 3 * MINUTE, &stolen, ("iam", "ListRoles"), thief);

        let assumed = role("backup-operator", "restore");
        self.add(&Call {
            time: start + 6 * MINUTE,
            caller: &stolen,
            service: "sts",
            name: "AssumeRole",
            address: thief.address,
            organization: None,
            user_agent: thief.user_agent,
            request: format!(r#"{{"roleArn":"arn:aws:iam::{ACCOUNT}:role/backup-operator","roleSessionName":"restore"}}"#),
            response: format!(
                r#"{{"credentials":{{"accessKeyId":"{}","expiration":"Mar 5, 2026, 3:20:00 PM"}},"assumedRoleUser":{{"assumedRoleId":"{}:restore","arn":"arn:aws:sts::{ACCOUNT}:assumed-role/backup-operator/restore"}}}}"#,
                stable_id("ASIA", "restore"),
                stable_id("AROA", "backup-operator"),
            ),
            error: None,
            read_only: true,
        });
        self.get_caller_identity(start + 7 * MINUTE, &assumed, thief);
        self.read(
            start + 9 * MINUTE,
            &assumed,
            ("s3", "ListObjects"),
            thief,
            r#"{"bucketName":"example-corp-backups","prefix":"hosts/"}"#,
        );

        let leaked = user("svc-reporting");
        self.get_caller_identity(start + 21 * MINUTE, &leaked, thief);
        self.denied(start + 22 * MINUTE, &leaked, ("iam", "CreateAccessKey"), thief);
        self.denied(start + 23 * MINUTE, &leaked, ("secretsmanager", "GetSecretValue"), thief);
    }

    fn denied(&mut self, time: i64, caller: &Caller, (service, name): (&str, &str), from: Origin<'_>) {
        self.add(&Call {
            time,
            caller,
            service,
            name,
            address: from.address,
            organization: None,
            user_agent: from.user_agent,
            request: "null".to_owned(),
            response: "null".to_owned(),
            error: Some("AccessDenied"),
            read_only: !name.starts_with("Create"),
        });
    }

    /// One call of an everyday kind at a time of its kind.
    fn everyday_call(&mut self) {
        match self.random.below(100) {
            0..30 => self.instance_works(),
            30..50 => self.service_assumes_role(),
            50..72 => self.person_looks_around(),
            72..80 => self.person_changes_something(),
            80..92 => self.ci_deploys(),
            92..97 => self.reporting_user_reads(),
            _ => self.person_signs_in(),
        }
    }

    fn any_time(&mut self) -> i64 {
        START + self.random.below((DAYS * DAY) as u64) as i64
    }

    /// Between 7 and 19 o'clock.
    fn office_hours(&mut self) -> i64 {
        let day = self.random.below(DAYS as u64) as i64;
        START + day * DAY + 7 * HOUR + self.random.below(12 * HOUR as u64) as i64
    }

    fn instance_works(&mut self) {
        let time = self.any_time();
        let &(role_name, id, address) = self.random.pick(&INSTANCES);
        let caller = instance(role_name, id);
        let from = from(address, if role_name == "order-worker" { JAVA } else { BOTO });
        let bucket = *self.random.pick(&BUCKETS);
        let object = self.random.below(100_000);
        match self.random.below(6) {
            0 => self.read(time, &caller, ("ssm", "UpdateInstanceInformation"), from, &format!(
                r#"{{"instanceId":"{id}","agentVersion":"3.3.1611.0","agentStatus":"Active","platformType":"Linux","platformName":"Amazon Linux","platformVersion":"2023","iPAddress":"10.0.12.34","computerName":"ip-10-0-12-34.{REGION}.compute.internal","agentName":"amazon-ssm-agent"}}"#
            )),
            1 => self.read(time, &caller, ("sqs", "ReceiveMessage"), from, &format!(
                r#"{{"queueUrl":"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/orders","maxNumberOfMessages":10,"waitTimeSeconds":20}}"#
            )),
            2 => self.read(time, &caller, ("kms", "Decrypt"), from, &format!(
                r#"{{"encryptionContext":{{"aws:s3:arn":"arn:aws:s3:::{bucket}"}},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}}"#
            )),
            3 => self.read(time, &caller, ("secretsmanager", "GetSecretValue"), from, r#"{"secretId":"orders/database"}"#),
            4 => self.read(time, &caller, ("s3", "GetObject"), from, &format!(
                r#"{{"bucketName":"{bucket}","Host":"{bucket}.s3.{REGION}.amazonaws.com","key":"2026/03/{object:05}.json"}}"#
            )),
            _ => self.read(time, &caller, ("s3", "PutObject"), from, &format!(
                r#"{{"bucketName":"{bucket}","Host":"{bucket}.s3.{REGION}.amazonaws.com","key":"incoming/{object:05}.json","x-amz-server-side-encryption":"aws:kms"}}"#
            )),
        }
    }

    fn service_assumes_role(&mut self) {
        const SERVICES: [(&str, &str); 4] = [
            ("lambda.amazonaws.com", "order-events"),
            ("ec2.amazonaws.com", "web-frontend"),
            ("ecs-tasks.amazonaws.com", "shop-task"),
            ("config.amazonaws.com", "AWSServiceRoleForConfig"),
        ];
        let time = self.any_time();
        let &(host, role_name) = self.random.pick(&SERVICES);
        let session = format!("{:016x}", self.random.number());
        self.add(&Call {
            time,
            caller: &Caller::Service { host },
            service: "sts",
            name: "AssumeRole",
            address: host,
            organization: None,
            user_agent: host,
            request: format!(
                r#"{{"roleArn":"arn:aws:iam::{ACCOUNT}:role/{role_name}","roleSessionName":"{session}","durationSeconds":3600}}"#
            ),
            response: format!(
                r#"{{"credentials":{{"accessKeyId":"{}","sessionToken":"IQoJb3JpZ2luX2VjEXAMPLE","expiration":"{}"}},"assumedRoleUser":{{"assumedRoleId":"{}:{session}","arn":"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/{session}"}}}}"#,
                stable_id("ASIA", &session),
                timestamp(time + HOUR),
                stable_id("AROA", role_name),
            ),
            error: None,
            read_only: true,
        });
    }

    /// A person, where they work today, and in what.
    fn person(&mut self) -> (Caller, Origin<'static>, i64) {
        let &(permission_set, address) = self.random.pick(&PEOPLE);
        let time = self.office_hours();
        let host = 30 + self.random.below(12);
        let user_agent = *self.random.pick(&[CONSOLE, CONSOLE, CLI]);
        let from = match self.random.below(3) {
            0 => from(HOME_ADDRESSES[host as usize % HOME_ADDRESSES.len()], user_agent),
            _ => from("198.51.100.30", user_agent),
        };
        (role(permission_set, address), from, time)
    }

    fn person_looks_around(&mut self) {
        let (caller, from, time) = self.person();
        let &(service, name, request) = self.random.pick(&READS);
        if service == "iam" && self.random.below(8) == 0 {
            self.denied(time, &caller, (service, name), from);
        } else {
            self.read(time, &caller, (service, name), from, request);
        }
    }

    fn person_changes_something(&mut self) {
        let (caller, from, time) = self.person();
        let number = self.random.below(1000);
        let (service, name, request, response) = match self.random.below(4) {
            0 => (
                "ec2",
                "CreateTags",
                format!(
                    r#"{{"resourcesSet":{{"items":[{{"resourceId":"{}"}}]}},"tagSet":{{"items":[{{"key":"owner","value":"team-{number}"}}]}}}}"#,
                    FRONTEND.1
                ),
                r#"{"requestId":"59dbff89-35bd-4eac-99ed-be587EXAMPLE","_return":true}"#.to_owned(),
            ),
            1 => (
                "lambda",
                "UpdateFunctionConfiguration20150331v2",
                format!(r#"{{"functionName":"order-events","memorySize":{}}}"#, 128 + number),
                format!(
                    r#"{{"functionName":"order-events","functionArn":"arn:aws:lambda:{REGION}:{ACCOUNT}:function:order-events","runtime":"python3.12"}}"#
                ),
            ),
            2 => (
                "iam",
                "TagRole",
                format!(r#"{{"roleName":"order-worker","tags":[{{"key":"ticket","value":"OPS-{number}"}}]}}"#),
                "null".to_owned(),
            ),
            _ => (
                "s3",
                "PutBucketTagging",
                format!(
                    r#"{{"bucketName":"example-corp-reports","tagging":"","Tagging":{{"TagSet":{{"Tag":{{"Key":"ticket","Value":"OPS-{number}"}}}}}}}}"#
                ),
                "null".to_owned(),
            ),
        };
        self.add(&Call {
            time,
            caller: &caller,
            service,
            name,
            address: from.address,
            organization: None,
            user_agent: from.user_agent,
            request,
            response,
            error: None,
            read_only: false,
        });
    }

    fn ci_deploys(&mut self) {
        let time = self.office_hours();
        let caller = user("ci-deploy");
        let from = from("198.51.100.20", BOTO);
        let digest = format!("{:016x}", self.random.number());
        match self.random.below(3) {
            0 => self.read(time, &caller, ("ecr", "GetAuthorizationToken"), from, "null"),
            1 => self.read(time, &caller, ("ecr", "BatchGetImage"), from, &format!(
                r#"{{"registryId":"{ACCOUNT}","repositoryName":"shop","imageIds":[{{"imageDigest":"sha256:{digest}"}}]}}"#
            )),
            _ => self.read(time, &caller, ("ecs", "DescribeServices"), from, r#"{"cluster":"shop","services":["frontend","orders"]}"#),
        }
    }

    fn reporting_user_reads(&mut self) {
        let time = self.any_time();
        let caller = user("svc-reporting");
        let number = self.random.below(10_000);
        self.read(time, &caller, ("s3", "GetObject"), from("198.51.100.22", JAVA), &format!(
            r#"{{"bucketName":"example-corp-reports","Host":"example-corp-reports.s3.{REGION}.amazonaws.com","key":"daily/{number:04}.csv"}}"#
        ));
    }

    fn person_signs_in(&mut self) {
        let (caller, from, time) = self.person();
        self.add(&Call {
            time,
            caller: &caller,
            service: "signin",
            name: "ConsoleLogin",
            address: from.address,
            organization: None,
            user_agent: CONSOLE,
            request: "null".to_owned(),
            response: r#"{"ConsoleLogin":"Success"}"#.to_owned(),
            error: None,
            read_only: false,
        });
    }
}

const HOME_ADDRESSES: [&str; 4] = ["203.0.113.20", "203.0.113.21", "203.0.113.22", "203.0.113.23"];

/// Every address of the sample that a database may know, and its AS organisation.
const ADDRESSES: [([u8; 4], &str); 13] = [
    ([192, 0, 2, 10], AWS),
    ([192, 0, 2, 11], AWS),
    ([192, 0, 2, 12], AWS),
    ([198, 51, 100, 7], COMPANY_UPLINK),
    ([198, 51, 100, 20], OFFICE),
    ([198, 51, 100, 21], OFFICE),
    ([198, 51, 100, 22], OFFICE),
    ([198, 51, 100, 30], OFFICE),
    ([203, 0, 113, 20], HOME),
    ([203, 0, 113, 21], HOME),
    ([203, 0, 113, 22], HOME),
    ([203, 0, 113, 23], HOME),
    ([203, 0, 113, 66], HOSTING),
];

/// The organisations, in the order of the numbers of their autonomous systems.
const ORGANIZATIONS: [&str; 5] = [AWS, COMPANY_UPLINK, OFFICE, HOME, HOSTING];

fn organization_of(address: &str) -> Option<&'static str> {
    let address: Ipv4Addr = address.parse().ok()?;
    let known = ADDRESSES.iter().find(|(other, _)| Ipv4Addr::from(*other) == address)?;
    Some(known.1)
}

/// Where a call comes from, and with what.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    address: &'a str,
    user_agent: &'a str,
}

fn from<'a>(address: &'a str, user_agent: &'a str) -> Origin<'a> {
    Origin { address, user_agent }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parsed(count: usize, seed: u64) -> Vec<Value> {
        events(count, seed).iter().map(|event| serde_json::from_str(event).expect("it is JSON")).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_events_and_another_one_others() {
        assert_eq!(events(300, 7), events(300, 7));
        assert_ne!(events(300, 7), events(300, 8));
    }

    #[test]
    fn events_are_in_order_with_ids_of_their_own() {
        let events = parsed(2_000, 1);
        assert_eq!(events.len(), 2_000);
        let times: Vec<&str> = events.iter().map(|event| event["eventTime"].as_str().unwrap()).collect();
        assert!(times.is_sorted());
        assert!(times[0] >= "2026-03-02T00:00:00Z" && times[1_999] < "2026-03-09");
        let mut ids: Vec<&str> = events.iter().map(|event| event["eventID"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2_000);
    }

    #[test]
    fn the_story_is_there_however_few_events_are_asked_for() {
        let events: Vec<Value> =
            enriched_events(0, 1).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        assert_eq!(events.len(), STORY_EVENTS);
        let checks = |key: &str, value: &str| {
            let is = |event: &&Value| {
                event["eventName"] == "GetCallerIdentity"
                    && event["userIdentity"]["arn"].as_str().is_some_and(|arn| arn.ends_with(value))
                    && event["source.as.organization.name"] == key
            };
            events.iter().filter(is).count()
        };
        assert_eq!(checks(HOSTING, FRONTEND.1), 1);
        assert_eq!(checks(HOSTING, "backup-operator/restore"), 1);
        assert_eq!(checks(HOSTING, "user/svc-reporting"), 1);
        assert_eq!(checks(OFFICE, "user/ci-deploy"), 35);
        assert_eq!(checks(COMPANY_UPLINK, INSTANCES[4].1), 14);
    }

    #[test]
    fn the_database_knows_what_enriched_records_say_and_no_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), asn_database()).unwrap();
        let database = crate::asn::Database::open(file.path()).expect("a database of AS organisations");
        let mut met = std::collections::BTreeSet::new();
        for (plain, enriched) in events(20_000, 1).iter().zip(enriched_events(20_000, 1)) {
            let mut enriched: Value = serde_json::from_str(&enriched).unwrap();
            let organization = enriched.as_object_mut().unwrap().remove("source.as.organization.name");
            assert_eq!(serde_json::from_str::<Value>(plain).unwrap(), enriched);
            let address = enriched["sourceIPAddress"].as_str().unwrap();
            let found = address.parse().ok().and_then(|address| database.look_up(address));
            let name = found.and_then(|found| found.organization);
            assert_eq!(name.map(Value::from), organization, "{address}");
            if organization.is_some() {
                met.insert(address.to_owned());
            }
        }
        assert_eq!(met.len(), ADDRESSES.len(), "{met:?}");
        for other in ["198.51.100.8", "8.8.8.8", "2001:db8::1"] {
            assert!(database.look_up(other.parse().unwrap()).is_none(), "{other}");
        }
    }

    #[test]
    fn identity_checks_are_as_sts_writes_them() {
        let events = parsed(0, 1);
        let mut ids = Vec::new();
        for event in events.iter().filter(|event| event["eventName"] == "GetCallerIdentity") {
            let additional = &event["additionalEventData"];
            let id = additional["ExtendedRequestId"].as_str().expect("STS writes one");
            assert!(id.starts_with("MTpldS13ZXN0LTE6Uzox") && id.len().is_multiple_of(4), "{id}");
            ids.push(id);
            assert_eq!(additional["RequestDetails"]["endpointType"], "regional");
            assert_eq!((&event["eventVersion"], &event["eventCategory"]), (&"1.11".into(), &"Management".into()));
            let address = event["sourceIPAddress"].as_str().expect("text");
            assert_eq!(address.starts_with("10."), event["vpcEndpointId"].is_string(), "{event}");
            let is_aws = address.contains("AWS") || address.contains("amazonaws");
            assert_eq!(is_aws, event["tlsDetails"].is_null(), "{event}");
            assert_eq!(is_aws, event["userIdentity"]["invokedBy"].is_string(), "{event}");
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "each request has its own");
        assert_eq!([base64(""), base64("1"), base64("1:"), base64("1:e")], ["", "MQ==", "MTo=", "MTpl"]);
    }

    #[test]
    fn everyday_calls_add_no_identity_checks() {
        let checks = parsed(5_000, 3).iter().filter(|event| event["eventName"] == "GetCallerIdentity").count();
        assert_eq!(checks, parsed(0, 3).iter().filter(|event| event["eventName"] == "GetCallerIdentity").count());
        assert_eq!(checks, 69);
    }
}
