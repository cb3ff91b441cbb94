//! The schema as validation, coercion and planning look at it.

use async_graphql::{
    Name, Value as ConstValue,
    parser::types::{BaseType, OperationType, Type, TypeKind, TypeSystemDefinition},
};
use std::collections::HashMap;

/// Whether a text is a value of a scalar that is written as a string.
type TextScalar = fn(&str) -> bool;

pub struct Schema {
    types: HashMap<Name, TypeDefinition>,
    scalars: Vec<(&'static str, TextScalar)>,
}

pub enum TypeDefinition {
    Scalar,
    Enum { values: Vec<Name> },
    Object { fields: Vec<FieldDefinition>, interfaces: Vec<Name> },
    Interface { fields: Vec<FieldDefinition>, possible: Vec<Name> },
    Union { possible: Vec<Name> },
    Input { fields: Vec<InputDefinition> },
}

pub struct FieldDefinition {
    pub name: Name,
    pub ty: Type,
    pub arguments: Vec<InputDefinition>,
}

pub struct InputDefinition {
    pub name: Name,
    pub ty: Type,
    pub default: Option<ConstValue>,
}

impl InputDefinition {
    pub fn is_required(&self) -> bool {
        !self.ty.nullable && self.default.is_none()
    }
}

/// The introspection types, after the specification's section 4.
const INTROSPECTION: &str = "
scalar Int scalar Float scalar String scalar Boolean scalar ID
type __Schema {
  description: String types: [__Type!]! queryType: __Type! mutationType: __Type subscriptionType: __Type
  directives: [__Directive!]!
}
type __Type {
  kind: __TypeKind! name: String description: String specifiedByURL: String
  fields(includeDeprecated: Boolean = false): [__Field!]
  interfaces: [__Type!] possibleTypes: [__Type!] enumValues(includeDeprecated: Boolean = false): [__EnumValue!]
  inputFields(includeDeprecated: Boolean = false): [__InputValue!] ofType: __Type isOneOf: Boolean
}
enum __TypeKind { SCALAR OBJECT INTERFACE UNION ENUM INPUT_OBJECT LIST NON_NULL }
type __Field {
  name: String! description: String args(includeDeprecated: Boolean = false): [__InputValue!]! type: __Type!
  isDeprecated: Boolean! deprecationReason: String
}
type __InputValue {
  name: String! description: String type: __Type! defaultValue: String isDeprecated: Boolean! deprecationReason: String
}
type __EnumValue { name: String! description: String isDeprecated: Boolean! deprecationReason: String }
type __Directive {
  name: String! description: String locations: [__DirectiveLocation!]!
  args(includeDeprecated: Boolean = false): [__InputValue!]! isRepeatable: Boolean!
}
enum __DirectiveLocation {
  QUERY MUTATION SUBSCRIPTION FIELD FRAGMENT_DEFINITION FRAGMENT_SPREAD INLINE_FRAGMENT VARIABLE_DEFINITION SCHEMA SCALAR
  OBJECT FIELD_DEFINITION ARGUMENT_DEFINITION INTERFACE UNION ENUM ENUM_VALUE INPUT_OBJECT INPUT_FIELD_DEFINITION
}
type __Root { __schema: __Schema! __type(name: String!): __Type __typename: String! }
";

/// The fields every query root has besides its own; `__typename` is every composite type's.
const META: &str = "__Root";

impl Schema {
    /// Reads a schema without extensions; roots are `Query`, `Mutation`, `Subscription`. `scalars` names those that are
    /// written as strings of a certain form; other custom scalars are output only.
    pub fn parse(sdl: &str, scalars: &[(&'static str, TextScalar)]) -> Result<Schema, String> {
        let mut types = HashMap::new();
        let mut implementations: Vec<(Name, Name)> = Vec::new();
        for text in [INTROSPECTION, sdl] {
            let document = async_graphql::parser::parse_schema(text).map_err(|error| error.to_string())?;
            for definition in document.definitions {
                let TypeSystemDefinition::Type(definition) = definition else { continue };
                let definition = definition.node;
                let name = definition.name.node;
                let field = |field: async_graphql::parser::types::FieldDefinition| FieldDefinition {
                    name: field.name.node,
                    ty: field.ty.node,
                    arguments: field.arguments.into_iter().map(|argument| input(argument.node)).collect(),
                };
                let kind = match definition.kind {
                    TypeKind::Scalar => TypeDefinition::Scalar,
                    TypeKind::Enum(kind) => TypeDefinition::Enum {
                        values: kind.values.into_iter().map(|value| value.node.value.node).collect(),
                    },
                    TypeKind::Object(kind) => {
                        let interfaces: Vec<Name> = kind.implements.into_iter().map(|name| name.node).collect();
                        implementations.extend(interfaces.iter().map(|interface| (interface.clone(), name.clone())));
                        let fields = kind.fields.into_iter().map(|f| field(f.node)).collect();
                        TypeDefinition::Object { fields, interfaces }
                    }
                    TypeKind::Interface(kind) => TypeDefinition::Interface {
                        fields: kind.fields.into_iter().map(|f| field(f.node)).collect(),
                        possible: Vec::new(),
                    },
                    TypeKind::Union(kind) => {
                        TypeDefinition::Union { possible: kind.members.into_iter().map(|name| name.node).collect() }
                    }
                    TypeKind::InputObject(kind) => {
                        TypeDefinition::Input { fields: kind.fields.into_iter().map(|f| input(f.node)).collect() }
                    }
                };
                types.insert(name, kind);
            }
        }
        for (interface, object) in implementations {
            match types.get_mut(&interface) {
                Some(TypeDefinition::Interface { possible, .. }) => possible.push(object),
                _ => return Err(format!("{object} implements {interface}, which is no interface")),
            }
        }
        Ok(Schema { types, scalars: scalars.to_vec() })
    }

    pub fn type_definition(&self, name: &str) -> Option<&TypeDefinition> {
        self.types.get(name)
    }

    pub fn root(&self, kind: OperationType) -> Option<&Name> {
        let name = match kind {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        self.types.get_key_value(name).map(|(name, _)| name)
    }

    /// A field of a composite type, the meta fields included.
    pub fn field(&self, parent: &str, field: &str) -> Option<&FieldDefinition> {
        let own = match self.types.get(parent)? {
            TypeDefinition::Object { fields, .. } | TypeDefinition::Interface { fields, .. } => fields.as_slice(),
            TypeDefinition::Union { .. } => &[],
            _ => return None,
        };
        own.iter().find(|definition| definition.name == *field).or_else(|| match (field, self.types.get(META)) {
            ("__typename", Some(TypeDefinition::Object { fields, .. })) => fields.last(),
            ("__schema" | "__type", Some(TypeDefinition::Object { fields, .. })) if parent == "Query" => {
                fields.iter().find(|definition| definition.name == *field)
            }
            _ => None,
        })
    }

    /// The object types a composite type may turn out to be; empty for others.
    pub fn possible<'a>(&'a self, name: &'a Name) -> &'a [Name] {
        match self.types.get(name) {
            Some(TypeDefinition::Object { .. }) => std::slice::from_ref(name),
            Some(TypeDefinition::Interface { possible, .. } | TypeDefinition::Union { possible }) => possible,
            _ => &[],
        }
    }

    pub fn is_composite(&self, name: &str) -> bool {
        matches!(
            self.types.get(name),
            Some(TypeDefinition::Object { .. } | TypeDefinition::Interface { .. } | TypeDefinition::Union { .. })
        ) && name != META
    }

    pub fn is_object(&self, name: &str) -> bool {
        matches!(self.types.get(name), Some(TypeDefinition::Object { .. }))
    }

    pub fn is_input(&self, name: &str) -> bool {
        matches!(
            self.types.get(name),
            Some(TypeDefinition::Scalar | TypeDefinition::Enum { .. } | TypeDefinition::Input { .. })
        )
    }

    /// Whether `text` is a value of that custom scalar.
    pub fn is_text_scalar(&self, name: &str, text: &str) -> bool {
        self.scalars.iter().any(|(scalar, accepts)| *scalar == name && accepts(text))
    }
}

fn input(value: async_graphql::parser::types::InputValueDefinition) -> InputDefinition {
    InputDefinition { name: value.name.node, ty: value.ty.node, default: value.default_value.map(|value| value.node) }
}

/// The name at the bottom of a type.
pub fn named(ty: &Type) -> &Name {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => named(inner),
    }
}
