//! Documents that are valid, documents that are not, and what a plan looks like.

use serde_json::{Value, json};
use spec::{
    ParseError, Schema, Variables, ast::Document, coerce_variables, json::Json, mend_interfaces, plan, tokenize,
    validate,
};

const SDL: &str = "
scalar Date
interface Named { id: ID! name: String! }
type Query {
  items(first: Int! = 20, after: ID): [Item!]!
  item(id: ID!): Item
  search(text: String!): [Named!]!
  day(from: Date!): Date!
  ranking(weights: [Int!]!): [Item!]!
}
type Mutation { add(input: AddInput!): AddResult! }
type Area implements Named { id: ID! name: String! }
type Item implements Named { id: ID! name: String! price: Int! area: Area items(first: Int! = 5): [Item!]! }
input AddInput { itemId: ID! rating: Int! body: String = \"none\" }
union AddResult = Added | NotFound
type Added { item: Item! }
type NotFound { itemId: ID! }
";

fn schema() -> Schema {
    Schema::parse(SDL, &[("Date", |text| text.len() == 10)]).expect("a schema")
}

fn parse(text: &str, token_limit: usize) -> Result<Document, ParseError> {
    spec::parse(tokenize(text, token_limit)?).map_err(ParseError::Syntax)
}

fn errors(schema: &Schema, text: &str) -> Vec<String> {
    let document = parse(text, 2000).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let errors = validate(schema, &document).err().unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}

#[test]
fn valid_documents_pass() {
    let schema = schema();
    for text in [
        "{ items { id } }",
        "query Q($n: Int! = 3, $a: ID) { items(first: $n, after: $a) { ...F } } fragment F on Item { name area { name } }",
        "query($n: Int) { items(first: $n) { id } }",
        "query($w: [ Int! ] !) { ranking(weights: $w) { id } }",
        "{ ranking(weights: 3) { id } }",
        "{ search(text: \"x\") { __typename id ... on Item { price } ... on Named { name } } }",
        "{ search(text: \"x\") { ... on Item { x: name } ... on Area { x: name } } }",
        "mutation { add(input: { itemId: 1, rating: 3 }) { ... on Added { item { id } } ... on NotFound { x: itemId } } }",
        "mutation($i: AddInput!) { add(input: $i) { __typename } }",
        "query($x: Boolean!) { items { id @skip(if: $x) name @include(if: true) } }",
        "{ a: item(id: 1) { id } b: item(id: \"2\") { id } item(id: 3) { id } item(id: 3) { name } }",
        "{ day(from: \"2026-02-27\") }",
        "\"an operation\" query A(\"\"\"a variable\"\"\" $n: Int) { ...F } \"a fragment\" fragment F on Query { items(first: $n) { id } }",
        "{ __schema { types { name fields { name type { name ofType { name } } } } } __type(name: \"Item\") { name } }",
        "query A { items { id } } query B { items { id } }",
        "{ items { ...A } } fragment A on Named { id ...B } fragment B on Item { price }",
        "{ items(after: null) { id } }",
        "{ search(text: \"\"\"block \\\"\"\" string\"\"\") { id } }",
        "\u{feff}{ items, { # comment\n id } }",
    ] {
        assert_eq!(errors(&schema, text), [] as [&str; 0], "{text}");
    }
}

#[test]
fn each_broken_rule_is_found() {
    let schema = schema();
    for (text, message) in [
        ("query A { items { id } } query A { items { id } }", "only one operation"),
        ("{ items { id } } query B { items { id } }", "anonymous"),
        ("subscription { x }", "no type for a subscription"),
        ("{ items { ... on Nothing { id } } }", "Unknown type"),
        ("query($x: Nothing) { items { id } }", "Unknown type"),
        ("{ items { ... on Date { id } } }", "non composite"),
        ("query($x: Item) { items { id } }", "non-input type"),
        ("{ items }", "must have a selection"),
        ("{ items { id { x } } }", "must not have a selection"),
        ("{ items { nothing } }", "Cannot query field"),
        ("{ search(text: \"x\") { price } }", "Cannot query field"),
        ("mutation { add(input: { itemId: 1, rating: 1 }) { item { id } } }", "Cannot query field"),
        ("{ __nothing }", "Cannot query field"),
        ("mutation { __schema { types { name } } }", "Cannot query field"),
        ("{ items { ...A } } fragment A on Item { id } fragment A on Item { id }", "only one fragment"),
        ("{ items { ...A } }", "Unknown fragment"),
        ("{ items { id } } fragment A on Item { id }", "never used"),
        ("{ items { ... on Area { id } } }", "can never be"),
        (
            "{ items { ...A } } fragment A on Item { area { ...B } } fragment B on Area { id ...C } fragment C on Area { ...B }",
            "within itself",
        ),
        ("query($x: Int! = 1, $x: Int! = 2) { items(first: $x) { id } }", "only one variable"),
        ("{ items(first: $x) { id } }", "not defined"),
        ("query A($x: Int! = 1) { items { ...F } } fragment F on Item { id }", "never used"),
        ("query A { items { ...F } } fragment F on Item { items(first: $x) { id } }", "not defined"),
        ("{ items @nothing { id } }", "Unknown directive"),
        ("query @skip(if: true) { items { id } }", "may not be used here"),
        ("{ items @skip(if: true) @skip(if: true) { id } }", "only be used once"),
        ("{ items @skip { id } }", "is required"),
        ("{ items(nothing: 1) { id } }", "Unknown argument"),
        ("{ items(first: 1, first: 1) { id } }", "only one argument"),
        ("{ item { id } }", "is required"),
        ("{ items(first: \"1\") { id } }", "Expected value"),
        ("{ items(first: 1.0) { id } }", "Expected value"),
        ("{ items(first: 2147483648) { id } }", "Expected value"),
        ("{ items(first: null) { id } }", "found null"),
        ("{ item(id: 1.5) { id } }", "Expected value"),
        ("{ item(id: true) { id } }", "Expected value"),
        ("{ item(id: X) { id } }", "Expected value"),
        ("{ day(from: \"x\") }", "Expected value"),
        ("{ day(from: 20260227) }", "Expected value"),
        ("{ ranking(weights: [1, null]) { id } }", "found null"),
        ("{ ranking(weights: [[1]]) { id } }", "Expected value"),
        ("mutation { add(input: { itemId: 1 }) { __typename } }", "was not provided"),
        ("mutation { add(input: { itemId: 1, rating: 1, x: 1 }) { __typename } }", "not defined by type"),
        ("mutation { add(input: { itemId: 1, rating: 1, rating: 1 }) { __typename } }", "only one input field"),
        ("mutation { add(input: 3) { __typename } }", "Expected value"),
        ("query($x: Int) { ranking(weights: [$x]) { id } }", "used in position"),
        ("query($x: String!) { items(after: $x) { id } }", "used in position"),
        ("query($x: ID) { item(id: $x) { id } }", "used in position"),
        ("query($x: Int!) { ranking(weights: $x) { id } }", "used in position"),
        ("query($x: Int! = \"a\") { items(first: $x) { id } }", "Expected value"),
        ("query($x: Boolean) { items { id @skip(if: $x) } }", "used in position"),
        ("{ items { id: name id } }", "conflicting types"),
        ("{ items { id: area { id } id: items { id } } }", "conflicting types"),
        ("{ items { name: id id } items { name } }", "conflicting types"),
        ("{ items(first: 1) { id } items(first: 2) { id } }", "differing arguments"),
        ("{ items { id } ...F } fragment F on Query { items(first: 20) { id } }", "differing arguments"),
        ("{ search(text: \"x\") { ... on Item { x: price } ... on Area { x: name } } }", "conflicting types"),
        ("{ item(id: 1) { a: area { x: id } } item(id: 1) { a: area { x: name } } }", "conflicting types"),
        ("{ search(text: \"x\") { x: name ... on Item { x: area { id } } } }", "conflicting types"),
        ("{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }", "introspection depth"),
        (
            "{ __type(name: \"Item\") { ...T } } fragment T on __Type { fields { type { fields { type { interfaces { name } } } } } }",
            "introspection depth",
        ),
    ] {
        let found = errors(&schema, text);
        assert!(found.iter().any(|error| error.contains(message)), "{text}: {found:?} has no {message:?}");
    }
}

#[test]
fn what_does_not_parse() {
    for text in [
        "",
        " ",
        "#",
        "{",
        "}",
        "{}",
        "{ a { } }",
        "query",
        "query Q",
        "queryQ { a }",
        "query() { a }",
        "{ a() }",
        "{ a(b) }",
        "{ a(b:) }",
        "fragment on on Item { a }",
        "{ ...on }",
        "{ a: }",
        "{ a @ }",
        "{ a(b: 01) }",
        "{ a(b: 1a) }",
        "{ a(b: 1.) }",
        "{ a(b: .5) }",
        "{ a(b: 1e) }",
        "{ a(b: -) }",
        "{ a(b: \"x) }",
        "{ a(b: \"\n\") }",
        "{ a(b: \"\\x\") }",
        "{ a(b: \"\\u12\") }",
        "{ a(b: \"\\ud800\") }",
        "{ a(b: \"\\u{110000}\") }",
        "{ a(b: \"\"\"x\") }",
        "{ a(b: [1) }",
        "{ a(b: {c 1}) }",
        "{ a } }",
        "{ a } ?",
        "query($x) { a }",
        "query($x: Int = $y) { a }",
        "query($x: [Int) { a }",
        "{ a .. b }",
        "type A { b: Int }",
        "\"a description\" { a }",
        "\"a description\"",
        "\"two\" \"descriptions\" query { a }",
        "{ \u{1} }",
    ] {
        assert!(matches!(parse(text, 2000), Err(ParseError::Syntax(_))), "{text:?}");
    }
}

#[test]
fn tokens_are_counted_up_to_the_limit() {
    assert!(parse("{ a # b c d e f\n }", 3).is_ok(), "comments are no tokens");
    assert_eq!(parse("{ a b }", 3).err(), Some(ParseError::TooManyTokens));
    assert!(matches!(parse("{ a ? b }", 3), Err(ParseError::Syntax(_))), "what comes first answers");
}

#[test]
fn strings_are_unescaped() {
    let schema = schema();
    for (literal, expected) in [
        (r#""a\n\t\"\\\/\u0041\u{1F3DD}\uD83C\uDFDD""#, "a\n\t\"\\/A🏝🏝"),
        ("\"\"\"\n    one\n      two\n\n    three\n  \"\"\"", "one\n  two\n\nthree"),
        (r#""""x \""" y""""#, "x \"\"\" y"),
    ] {
        let planned = planned(&schema, &format!("{{ search(text: {literal}) {{ id }} }}"), json!({})).expect("a plan");
        assert!(planned.contains(&format!("{expected:?}")), "{literal}: {planned}");
    }
}

/// The plan written as text.
fn planned(schema: &Schema, text: &str, variables: Value) -> Result<String, String> {
    let document = parse(text, 2000).expect("a document");
    assert_eq!(validate(schema, &document), Ok(()), "{text}");
    let operation = document.operation(None)?;
    let variables = variables.to_string();
    let Ok(Json::Object(given)) = Json::parse(&variables) else { panic!("variables are an object") };
    let variables = coerce_variables(schema, operation, &given).map_err(|error| error.message)?;
    let plan = plan(schema, &document, operation, &variables).map_err(|error| format!("{error:?}"))?;
    let plan = plan.document;
    assert!(plan.fragments.is_empty());
    let mut out = String::new();
    for (_, operation) in plan.operations.iter() {
        assert!(operation.node.variable_definitions.is_empty());
        write(&mut out, &operation.node.selection_set.node);
    }
    Ok(out)
}

fn write(out: &mut String, set: &async_graphql::parser::types::SelectionSet) {
    use async_graphql::parser::types::Selection;
    out.push('{');
    for (at, selection) in set.items.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        match &selection.node {
            Selection::Field(field) => {
                let field = &field.node;
                if let Some(alias) = &field.alias {
                    out.push_str(&format!("{}:", alias.node));
                }
                out.push_str(&field.name.node);
                if !field.arguments.is_empty() {
                    let arguments: Vec<_> =
                        field.arguments.iter().map(|(name, value)| format!("{}:{}", name.node, value.node)).collect();
                    out.push_str(&format!("({})", arguments.join(",")));
                }
                if !field.selection_set.node.items.is_empty() {
                    write(out, &field.selection_set.node);
                }
            }
            Selection::InlineFragment(inline) => {
                let on = inline.node.type_condition.as_ref().expect("a type");
                out.push_str(&format!("...{}", on.node.on.node));
                write(out, &inline.node.selection_set.node);
            }
            Selection::FragmentSpread(_) => panic!("a spread in a plan"),
        }
    }
    out.push('}');
}

#[test]
fn plans_leave_nothing_to_decide() {
    let schema = schema();
    for (text, variables, expected) in [
        ("{ items { id } ...F } fragment F on Query { items { name id } }", json!({}), "{items{id name}}"),
        (
            "{ a: item(id: 7) { id } b: item(id: \"7\") { id } }",
            json!({}),
            r#"{a:item(id:"7"){id} b:item(id:"7"){id}}"#,
        ),
        ("query($n: Int) { items(first: $n) { id } }", json!({}), "{items{id}}"),
        ("query($n: Int) { items(first: $n) { id } }", json!({ "n": null }), "{items(first:null){id}}"),
        ("query($n: Int = 4) { items(first: $n) { id } }", json!({}), "{items(first:4){id}}"),
        (
            "query($s: Boolean!) { items { id @skip(if: $s) ... @include(if: $s) { name } } }",
            json!({ "s": true }),
            "{items{name}}",
        ),
        (
            "query($s: Boolean!) { items { id @skip(if: $s) ... @include(if: $s) { name } } }",
            json!({ "s": false }),
            "{items{id}}",
        ),
        (
            "{ search(text: \"x\") { id ... on Item { price } } }",
            json!({}),
            r#"{search(text:"x"){...Area{id} ...Item{id price}}}"#,
        ),
        (
            "{ search(text: \"x\") { ...N } } fragment N on Named { name ... on Area { id } }",
            json!({}),
            r#"{search(text:"x"){...Area{name id} ...Item{name}}}"#,
        ),
        ("{ ranking(weights: 3) { id } }", json!({}), "{ranking(weights:[3]){id}}"),
        ("query($w: [Int!]!) { ranking(weights: $w) { id } }", json!({ "w": 3 }), "{ranking(weights:[3]){id}}"),
        (
            "mutation($r: Int!) { add(input: { rating: $r, itemId: 1 }) { __typename } }",
            json!({ "r": 2 }),
            r#"{add(input:{itemId: "1", rating: 2, body: "none"}){...Added{__typename} ...NotFound{__typename}}}"#,
        ),
    ] {
        assert_eq!(planned(&schema, text, variables.clone()).as_deref(), Ok(expected), "{text} {variables}");
    }
}

#[test]
fn variables_are_coerced() {
    let schema = schema();
    let cases = [
        ("Int!", json!(1), Some(json!(1))),
        ("Int!", json!(3.0), Some(json!(3))),
        ("Int!", json!(3.5), None),
        ("Int!", json!(2_147_483_648_i64), None),
        ("Int!", json!("1"), None),
        ("Int!", json!(true), None),
        ("Int!", json!(null), None),
        ("Int", json!(null), Some(json!(null))),
        ("ID!", json!("x"), Some(json!("x"))),
        ("ID!", json!(12), Some(json!("12"))),
        ("ID!", json!(u64::MAX), Some(json!("18446744073709551615"))),
        ("ID!", json!(1.5), None),
        ("ID!", json!(false), None),
        ("String!", json!("x"), Some(json!("x"))),
        ("String!", json!(1), None),
        ("Date!", json!("2026-02-27"), Some(json!("2026-02-27"))),
        ("Date!", json!("tomorrow"), None),
        ("Date!", json!(20260227), None),
        ("[Int!]!", json!([1, 2]), Some(json!([1, 2]))),
        ("[Int!]!", json!(1), Some(json!([1]))),
        ("[Int!]!", json!([1, null]), None),
        ("[Int!]!", json!([[1]]), None),
        ("AddInput!", json!({ "itemId": 1, "rating": 2 }), Some(json!({ "itemId": "1", "rating": 2, "body": "none" }))),
        (
            "AddInput!",
            json!({ "itemId": 1, "rating": 2, "body": null }),
            Some(json!({ "itemId": "1", "rating": 2, "body": null })),
        ),
        ("AddInput!", json!({ "itemId": 1 }), None),
        ("AddInput!", json!({ "itemId": 1, "rating": 2, "x": 1 }), None),
        ("AddInput!", json!([]), None),
    ];
    for (ty, given, expected) in cases {
        let document = parse(&format!("query($v: {ty}) {{ x }}"), 100).expect("a document");
        let written = json!({ "v": given }).to_string();
        let Ok(Json::Object(variables)) = Json::parse(&written) else { panic!("{written} is an object") };
        let coerced = coerce_variables(&schema, &document.operations[0], &variables);
        let value = coerced.ok().map(|variables: Variables| serde_json::to_value(variables.get("v")).expect("JSON"));
        assert_eq!(value, expected, "{ty} {given}");
    }
}

#[test]
fn fragments_that_multiply_end() {
    let schema = schema();
    let mut text = String::from("{ item(id: 1) { ...F0 } }");
    for level in 0..60 {
        text.push_str(&format!(
            " fragment F{level} on Item {{ a: items {{ ...F{n} }} b: items {{ ...F{n} }} }}",
            n = level + 1
        ));
    }
    text.push_str(" fragment F60 on Item { id }");
    let document = parse(&text, 2000).expect("a document");
    assert_eq!(validate(&schema, &document), Ok(()));
    let operation = document.operation(None).expect("one operation");
    assert!(plan(&schema, &document, operation, &Variables::new()).is_err(), "2^60 fields");
}

#[test]
fn json_is_read_as_written() {
    for text in [
        "null",
        "[true,false,null,-0.5E+10,0,-1,18446744073709551616]",
        r#"{"a":{"b":[[],{}]},"c":""}"#,
        r#""plain, 🏝 and \"quoted\"""#,
    ] {
        assert_eq!(Json::parse(text).map(|value| value.to_string()).as_deref(), Ok(text));
    }
    let digits = "9".repeat(1000);
    assert_eq!(Json::parse(&digits), Ok(Json::Number(&digits)));
    let string = |text| Json::parse(text).ok().and_then(|value| Some(value.as_str()?.to_owned()));
    assert_eq!(string(r#" "\u0041\n\t\r\b\f\/\\\"\ud83c\uDFDD\u0000" "#).as_deref(), Some("A\n\t\r\u{8}\u{c}/\\\"🏝\0"));
    assert_eq!(
        Json::parse(r#"{"a":1,"b":2,"\u0061":3}"#).map(|value| value.to_string()).as_deref(),
        Ok(r#"{"a":3,"b":2}"#)
    );
    for text in [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "01",
        "+1",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "[",
        "[1",
        "[1,]",
        "[,]",
        "[1 2]",
        "]",
        "{",
        "{}}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        "{a:1}",
        "{1:1}",
        "'a'",
        "\"",
        "\"\n\"",
        "\"\0\"",
        r#""\"#,
        r#""\x41""#,
        r#""\u12""#,
        r#""\u+123""#,
        r#""\u12🏝""#,
        r#""\ud83c""#,
        r#""\ud83cx""#,
        r#""\ud83c\n""#,
        r#""\ud83c\ud83c""#,
        r#""\udfdd\ud83c""#,
        "1 1",
        "1 // one",
        "\u{feff}1",
    ] {
        assert!(Json::parse(text).is_err(), "{text:?}");
    }
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Json::parse(&nested(128)).is_ok());
    assert_eq!(Json::parse(&nested(129)).map_err(|error| error.what), Err("too many levels"));
    assert_eq!(Json::parse(&nested(50_000)).map_err(|error| error.what), Err("too many levels"));
}

#[test]
fn numbers_beyond_every_type() {
    let schema = schema();
    let digits = "9".repeat(1000);
    let coerced = |ty: &str, number: &str| {
        let document = parse(&format!("query($v: {ty}) {{ x }}"), 100).expect("a document");
        let written = format!("{{\"v\":{number},\"unknown\":{number}}}");
        let Ok(Json::Object(given)) = Json::parse(&written) else { panic!("{written} is an object") };
        let variables = coerce_variables(&schema, &document.operations[0], &given).ok()?;
        Some(serde_json::to_value(variables.get("v")).expect("JSON"))
    };
    assert_eq!(coerced("ID", &digits), Some(json!(digits)), "as given");
    for number in [digits.as_str(), "1e400", "-1e400", "2147483647.5"] {
        assert_eq!(coerced("Int", number), None, "{number}");
    }
    assert_eq!(coerced("ID", "1e400"), None);
    assert_eq!(coerced("Float", &digits), None);
    assert_eq!(coerced("Int", "2.147483647e9"), Some(json!(i32::MAX)));
    assert_eq!(coerced("ID", "1e3"), Some(json!("1000")));
}

#[test]
fn interfaces_of_an_interface_are_an_empty_list() {
    let schema = schema();
    let text = "{ __type(name: \"Named\") { ...T i: interfaces { name } ofType { ...T } } } fragment T on __Type { interfaces { name } }";
    let document = parse(text, 100).expect("a document");
    let mended = plan(&schema, &document, &document.operations[0], &Variables::new()).expect("a plan");
    assert!(mended.asks_interfaces);
    assert_eq!(
        planned(&schema, text, json!({})).as_deref(),
        Ok("{__type(name:\"Named\"){interfaces{name} kind of interfaces:kind i:interfaces{name} kind of i:kind \
            ofType{interfaces{name} kind of interfaces:kind}}}")
    );
    let ordinary = parse("{ items { interfaces: id } }", 100).expect("a document");
    assert!(!plan(&schema, &ordinary, &ordinary.operations[0], &Variables::new()).expect("a plan").asks_interfaces);

    let kind = |kind: &str| async_graphql::Value::Enum(async_graphql::Name::new(kind));
    let object = |fields: Vec<(&str, async_graphql::Value)>| {
        let fields = fields.into_iter().map(|(name, value)| (async_graphql::Name::new(name), value));
        async_graphql::Value::Object(fields.collect())
    };
    let null = || async_graphql::Value::Null;
    let mut data = async_graphql::Value::List(vec![
        object(vec![("i", null()), ("kind of i", kind("INTERFACE")), ("name", "Named".into())]),
        object(vec![("i", null()), ("kind of i", kind("SCALAR")), ("kind", kind("INTERFACE"))]),
        object(vec![("i", async_graphql::Value::List(vec!["Named".into()])), ("kind of i", kind("OBJECT"))]),
    ]);
    mend_interfaces(&mut data);
    let expected = r#"[{"i":[],"name":"Named"},{"i":null,"kind":"INTERFACE"},{"i":["Named"]}]"#;
    assert_eq!(serde_json::to_string(&data).expect("JSON"), expected);
}
