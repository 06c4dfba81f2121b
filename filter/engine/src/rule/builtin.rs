//! The built-in rules' files, in the order of their alerts.
//!
//! Here once for all who compile them: the module's build, and the host program when it compiles an operator's directory.

use super::compile::File;

/// Label and text of each file.
pub const FILES: [File<'static>; 3] = [
    ("1-ec2-role-new-as-organization.toml", include_str!("../../../rules/1-ec2-role-new-as-organization.toml")),
    ("2-first-get-caller-identity.toml", include_str!("../../../rules/2-first-get-caller-identity.toml")),
    ("3-credential-abuse-or-hijacking.toml", include_str!("../../../rules/3-credential-abuse-or-hijacking.toml")),
];
