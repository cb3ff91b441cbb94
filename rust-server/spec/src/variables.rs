//! Coercion of variables and literals to the schema's input types: section 6.1.2 and 3.5 to 3.12 of the specification.

use crate::{
    Error,
    ast::{Operation, Value},
    json::{self, Json},
    schema::{InputDefinition, Schema, TypeDefinition},
};
use async_graphql::{
    Name, Value as ConstValue,
    parser::types::{BaseType, Type},
};
use std::collections::HashMap;

/// Coerced values; a variable left out without a default is not there.
pub type Variables = HashMap<Name, ConstValue>;

/// The values of an operation's variables. What nobody declared is ignored.
pub fn coerce_variables(schema: &Schema, operation: &Operation, given: &json::Object<'_>) -> Result<Variables, Error> {
    let mut variables = Variables::with_capacity(operation.variables.len());
    for definition in &operation.variables {
        let fail = |what: String| Error {
            message: format!("Variable \"${}\" {what}", definition.name),
            position: Some(definition.position),
        };
        let value = match (given.get(definition.name.as_str()), &definition.default) {
            (Some(value), _) => Some(
                from_json(schema, &definition.ty, value).map_err(|why| fail(format!("got invalid value; {why}")))?,
            ),
            (None, Some(default)) => from_literal(schema, &definition.ty, default, &Variables::new()),
            (None, None) if !definition.ty.nullable => {
                return Err(fail(format!("of required type \"{}\" was not provided.", definition.ty)));
            }
            (None, None) => None,
        };
        if let Some(value) = value {
            variables.insert(definition.name.clone(), value);
        }
    }
    Ok(variables)
}

fn from_json(schema: &Schema, ty: &Type, value: &Json<'_>) -> Result<ConstValue, String> {
    if *value == Json::Null {
        return match ty.nullable {
            true => Ok(ConstValue::Null),
            false => Err(format!("Expected non-nullable type \"{ty}\" not to be null.")),
        };
    }
    let name = match &ty.base {
        BaseType::List(inner) => {
            let values = match value {
                Json::Array(values) => {
                    values.iter().map(|value| from_json(schema, inner, value)).collect::<Result<_, _>>()?
                }
                // A single value stands for a list of one.
                value => vec![from_json(schema, inner, value)?],
            };
            return Ok(ConstValue::List(values));
        }
        BaseType::Named(name) => name,
    };
    match schema.type_definition(name) {
        Some(TypeDefinition::Scalar) => scalar_from_json(schema, name, value)
            .ok_or_else(|| format!("{name} cannot represent value: {}", shortened(value))),
        Some(TypeDefinition::Enum { values }) => values
            .iter()
            .find(|known| value.as_str() == Some(known.as_str()))
            .map(|known| ConstValue::Enum(known.clone()))
            .ok_or_else(|| format!("Value {} does not exist in \"{name}\" enum.", shortened(value))),
        Some(TypeDefinition::Input { fields }) => {
            let Json::Object(given) = value else {
                return Err(format!("Expected type \"{name}\" to be an object."));
            };
            if let Some(unknown) = given.keys().find(|key| !fields.iter().any(|field| field.name == ***key)) {
                return Err(format!("Field \"{unknown}\" is not defined by type \"{name}\"."));
            }
            let mut object = async_graphql::indexmap::IndexMap::new();
            for field in fields {
                match given.get(field.name.as_str()) {
                    Some(value) => {
                        object.insert(field.name.clone(), from_json(schema, &field.ty, value)?);
                    }
                    None => left_out(field, &mut object)?,
                }
            }
            Ok(ConstValue::Object(object))
        }
        _ => Err(format!("\"{name}\" is no input type.")),
    }
}

fn left_out(
    field: &InputDefinition,
    object: &mut async_graphql::indexmap::IndexMap<Name, ConstValue>,
) -> Result<(), String> {
    match &field.default {
        Some(default) => {
            object.insert(field.name.clone(), default.clone());
            Ok(())
        }
        None if field.is_required() => {
            Err(format!("Field \"{}\" of required type \"{}\" was not provided.", field.name, field.ty))
        }
        None => Ok(()),
    }
}

fn shortened(value: &Json<'_>) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The whole number that a JSON number is, 3.0 included.
fn whole(number: &str) -> Option<f64> {
    number.parse().ok().filter(|number: &f64| number.fract() == 0.0)
}

fn scalar_from_json(schema: &Schema, name: &str, value: &Json<'_>) -> Option<ConstValue> {
    match (name, value) {
        ("Int", Json::Number(number)) => {
            let within = |number: &f64| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(number);
            let written = || whole(number).filter(within).map(|number| number as i32);
            number.parse().ok().or_else(written).map(ConstValue::from)
        }
        ("Float", Json::Number(number)) => {
            number.parse().ok().filter(|number: &f64| number.is_finite()).map(ConstValue::from)
        }
        ("String", Json::String(text)) => Some(ConstValue::from(&**text)),
        ("Boolean", Json::Boolean(value)) => Some(ConstValue::from(*value)),
        ("ID", Json::String(text)) => Some(ConstValue::from(&**text)),
        ("ID", Json::Number(number)) if number.contains(['.', 'e', 'E']) => {
            // Beyond 53 bits such a number has no digits of its own.
            let exact = |number: &f64| number.abs() < (1u64 << 53) as f64;
            whole(number).filter(exact).map(|number| ConstValue::String(format!("{number:.0}")))
        }
        ("ID", Json::Number(number)) => Some(ConstValue::from(*number)),
        ("Int" | "Float" | "String" | "Boolean" | "ID", _) => None,
        (custom, Json::String(text)) => schema.is_text_scalar(custom, text).then(|| ConstValue::from(&**text)),
        _ => None,
    }
}

/// A literal's value in a validated document; None where it is a variable that was left out.
pub fn from_literal(schema: &Schema, ty: &Type, value: &Value, variables: &Variables) -> Option<ConstValue> {
    match value {
        Value::Variable(name) => return variables.get(name).cloned(),
        Value::Null => return Some(ConstValue::Null),
        _ => {}
    }
    let name = match &ty.base {
        BaseType::List(inner) => {
            let element = |value| from_literal(schema, inner, value, variables).unwrap_or_default();
            let elements = match value {
                Value::List(values) => values.iter().map(element).collect(),
                value => vec![element(value)],
            };
            // A null where none may be came through a variable with a default; whoever asks for the list refuses it.
            let is_valid = inner.nullable || !elements.contains(&ConstValue::Null);
            return Some(if is_valid { ConstValue::List(elements) } else { ConstValue::Null });
        }
        BaseType::Named(name) => name,
    };
    match (schema.type_definition(name), value) {
        (Some(TypeDefinition::Input { fields }), Value::Object(given)) => {
            let mut object = async_graphql::indexmap::IndexMap::new();
            for field in fields {
                let given = given.iter().find(|(name, _)| *name == field.name);
                let value = given.and_then(|(_, value)| from_literal(schema, &field.ty, value, variables));
                match value {
                    Some(value) => {
                        object.insert(field.name.clone(), value);
                    }
                    None => left_out(field, &mut object).unwrap_or_default(),
                }
            }
            Some(ConstValue::Object(object))
        }
        (_, value) => scalar_from_literal(schema, name, value),
    }
}

/// The value of a literal that is neither a variable nor null nor a list; None where it is not one of the type.
pub fn scalar_from_literal(schema: &Schema, name: &str, value: &Value) -> Option<ConstValue> {
    if let Some(TypeDefinition::Enum { values }) = schema.type_definition(name) {
        return match value {
            Value::Enum(name) if values.contains(name) => Some(ConstValue::Enum(name.clone())),
            _ => None,
        };
    }
    match (name, value) {
        ("Int", Value::Int(text)) => text.parse::<i32>().ok().map(ConstValue::from),
        ("Float", Value::Int(text) | Value::Float(text)) => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(ConstValue::from)
        }
        ("String", Value::String(text)) => Some(ConstValue::from(text)),
        ("Boolean", Value::Boolean(value)) => Some(ConstValue::from(*value)),
        ("ID", Value::String(text)) => Some(ConstValue::from(text)),
        ("ID", Value::Int(text)) => Some(ConstValue::String(text.to_string())),
        ("Int" | "Float" | "String" | "Boolean" | "ID", _) => None,
        (custom, Value::String(text)) => schema.is_text_scalar(custom, text).then(|| ConstValue::from(text)),
        _ => None,
    }
}
