//! `get_enrichment_table_record`, which Vector adds to VRL, over one table named `asn` with one network in it.
//!
//! In: the call. Out: the row's fields that are selected, null for those it lacks; an error for an address that no row has,
//! and for what is no address. Not here: other tables, more than one condition, Vector's options of case and wildcards.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vrl::compiler::expression::Expr;
use vrl::prelude::*;

/// The table, of the network 198.51.100.0/24.
const TABLE: &str = "asn";
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);
const ROW: [(&str, &str); 1] = [("autonomous_system_organization", "Example Hosting")];

#[derive(Debug, Clone, Copy)]
pub(super) struct GetEnrichmentTableRecord;

impl Function for GetEnrichmentTableRecord {
    fn identifier(&self) -> &'static str {
        "get_enrichment_table_record"
    }

    fn usage(&self) -> &'static str {
        "Finds the one row of a table that the condition describes."
    }

    fn category(&self) -> &'static str {
        Category::Object.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::OBJECT
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("table", kind::BYTES, "The table."),
            Parameter::required("condition", kind::OBJECT, "The condition."),
            Parameter::optional("select", kind::ARRAY, "The fields of the row that are wanted."),
        ];
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn compile(&self, state: &state::TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        arguments.required_enum("table", &[Value::from(TABLE)], state)?;
        let condition = arguments.required_object("condition")?;
        Ok(Lookup { condition, select: arguments.optional("select") }.as_expr())
    }
}

#[derive(Debug, Clone)]
struct Lookup {
    condition: BTreeMap<KeyString, Expr>,
    select: Option<Box<dyn Expression>>,
}

impl FunctionExpression for Lookup {
    fn resolve(&self, ctx: &mut Context<'_>) -> Resolved {
        let mut values = self.condition.values();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err("only one condition is allowed".into());
        };
        let value = value.resolve(ctx)?;
        let address = value.try_bytes_utf8_lossy()?.parse::<Ipv4Addr>();
        let address = address.map_err(|error| format!("invalid IP address: {error}"))?;
        if u32::from(address) >> 8 != u32::from(NETWORK) >> 8 {
            return Err("no rows found".into());
        }
        let row: BTreeMap<KeyString, Value> = ROW.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let Some(select) = &self.select else { return Ok(Value::Object(row)) };
        let selected = select.resolve(ctx)?.try_array()?;
        let field = |name: Value| {
            let name = name.try_bytes_utf8_lossy()?.to_string();
            let value = row.get(name.as_str()).cloned().unwrap_or(Value::Null);
            Ok((KeyString::from(name), value))
        };
        Ok(Value::Object(selected.into_iter().map(field).collect::<ExpressionResult<_>>()?))
    }

    fn type_def(&self, _: &state::TypeState) -> TypeDef {
        TypeDef::object(Collection::any()).fallible()
    }
}
