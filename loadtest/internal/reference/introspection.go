package reference

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// typeNamed gives the source of __type, nil where there is no such type.
func (x *execution) typeNamed(name string) any {
	if x.schema.Types[name] == nil {
		return nil
	}
	return ast.NamedType(name, nil)
}

// resolveIntrospection answers the fields of introspection's types; a __Type's source is an *ast.Type.
func (x *execution) resolveIntrospection(typeName, fieldName string, source any, arguments map[string]any) (any, error) {
	deprecatedToo, _ := arguments["includeDeprecated"].(bool)
	switch s := source.(type) {
	case *ast.Schema:
		switch fieldName {
		case "description":
			return textOrNull(s.Description), nil
		case "types":
			return x.types(), nil
		case "queryType":
			return ast.NamedType(s.Query.Name, nil), nil
		case "mutationType":
			return ast.NamedType(s.Mutation.Name, nil), nil
		case "subscriptionType":
			return nil, nil
		case "directives":
			return x.directives(), nil
		}
	case *ast.Type:
		return x.resolveType(s, fieldName, deprecatedToo)
	case *ast.FieldDefinition: // __Field and, of an input object, __InputValue
		switch fieldName {
		case "name":
			return s.Name, nil
		case "description":
			return textOrNull(s.Description), nil
		case "args":
			var list []any
			for _, argument := range s.Arguments {
				if deprecatedToo || argument.Directives.ForName("deprecated") == nil {
					list = append(list, argument)
				}
			}
			return list, nil
		case "type":
			return s.Type, nil
		case "defaultValue":
			return literalOrNull(s.DefaultValue), nil
		case "isDeprecated":
			return s.Directives.ForName("deprecated") != nil, nil
		case "deprecationReason":
			return deprecationReason(s.Directives), nil
		}
	case *ast.ArgumentDefinition: // __InputValue
		switch fieldName {
		case "name":
			return s.Name, nil
		case "description":
			return textOrNull(s.Description), nil
		case "type":
			return s.Type, nil
		case "defaultValue":
			return literalOrNull(s.DefaultValue), nil
		case "isDeprecated":
			return s.Directives.ForName("deprecated") != nil, nil
		case "deprecationReason":
			return deprecationReason(s.Directives), nil
		}
	case *ast.EnumValueDefinition:
		switch fieldName {
		case "name":
			return s.Name, nil
		case "description":
			return textOrNull(s.Description), nil
		case "isDeprecated":
			return s.Directives.ForName("deprecated") != nil, nil
		case "deprecationReason":
			return deprecationReason(s.Directives), nil
		}
	case *ast.DirectiveDefinition:
		switch fieldName {
		case "name":
			return s.Name, nil
		case "description":
			return textOrNull(s.Description), nil
		case "isRepeatable":
			return s.IsRepeatable, nil
		case "locations":
			list := make([]any, len(s.Locations))
			for i, location := range s.Locations {
				list[i] = string(location)
			}
			return list, nil
		case "args":
			return listOf(s.Arguments), nil
		}
	}
	return nil, fmt.Errorf("no resolver for %s.%s of %T", typeName, fieldName, source)
}

func (x *execution) resolveType(t *ast.Type, fieldName string, deprecatedToo bool) (any, error) {
	if t.NonNull || t.Elem != nil {
		switch fieldName {
		case "kind":
			if t.NonNull {
				return "NON_NULL", nil
			}
			return "LIST", nil
		case "ofType":
			if t.NonNull {
				nullable := *t
				nullable.NonNull = false
				return &nullable, nil
			}
			return t.Elem, nil
		}
		return nil, nil
	}
	definition := x.schema.Types[t.NamedType]
	isObject, isInterface := definition.Kind == ast.Object, definition.Kind == ast.Interface
	switch fieldName {
	case "kind":
		return string(definition.Kind), nil
	case "name":
		return definition.Name, nil
	case "description":
		return textOrNull(definition.Description), nil
	case "specifiedByURL":
		if directive := definition.Directives.ForName("specifiedBy"); directive != nil {
			return directive.Arguments.ForName("url").Value.Raw, nil
		}
		return nil, nil
	case "isOneOf":
		if definition.Kind == ast.InputObject {
			return definition.Directives.ForName("oneOf") != nil, nil
		}
		return nil, nil
	case "ofType":
		return nil, nil
	case "fields":
		if !isObject && !isInterface {
			return nil, nil
		}
		list := []any{}
		for _, field := range definition.Fields {
			if !strings.HasPrefix(field.Name, "__") && (deprecatedToo || field.Directives.ForName("deprecated") == nil) {
				list = append(list, field)
			}
		}
		return list, nil
	case "interfaces":
		if !isObject && !isInterface {
			return nil, nil
		}
		list := make([]any, len(definition.Interfaces))
		for i, name := range definition.Interfaces {
			list[i] = ast.NamedType(name, nil)
		}
		return list, nil
	case "possibleTypes":
		if !isInterface && definition.Kind != ast.Union {
			return nil, nil
		}
		var list []any
		for _, possible := range possibleTypes(x.schema, definition) {
			list = append(list, ast.NamedType(possible.Name, nil))
		}
		return list, nil
	case "enumValues":
		if definition.Kind != ast.Enum {
			return nil, nil
		}
		list := []any{}
		for _, value := range definition.EnumValues {
			if deprecatedToo || value.Directives.ForName("deprecated") == nil {
				list = append(list, value)
			}
		}
		return list, nil
	case "inputFields":
		if definition.Kind != ast.InputObject {
			return nil, nil
		}
		list := []any{}
		for _, field := range definition.Fields {
			if deprecatedToo || field.Directives.ForName("deprecated") == nil {
				list = append(list, field)
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("no resolver for __Type.%s", fieldName)
}

// possibleTypes are an abstract type's, in the order in which they are written.
func possibleTypes(schema *ast.Schema, abstract *ast.Definition) []*ast.Definition {
	return slices.SortedFunc(slices.Values(schema.PossibleTypes[abstract.Name]), func(a, b *ast.Definition) int {
		return lineOf(a) - lineOf(b)
	})
}

// types are the schema's in the order in which they are written, then the built-in ones by name.
func (x *execution) types() []any {
	definitions := make([]*ast.Definition, 0, len(x.schema.Types))
	for _, definition := range x.schema.Types {
		definitions = append(definitions, definition)
	}
	slices.SortFunc(definitions, func(a, b *ast.Definition) int {
		if a.BuiltIn != b.BuiltIn {
			if b.BuiltIn {
				return -1
			}
			return 1
		}
		if a.BuiltIn {
			return strings.Compare(a.Name, b.Name)
		}
		return lineOf(a) - lineOf(b)
	})
	list := make([]any, len(definitions))
	for i, definition := range definitions {
		list[i] = ast.NamedType(definition.Name, nil)
	}
	return list
}

func lineOf(definition *ast.Definition) int { return definition.Position.Line }

func (x *execution) directives() []any {
	var names []string
	for name := range x.schema.Directives {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = x.schema.Directives[name]
	}
	return list
}

func textOrNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func literalOrNull(value *ast.Value) any {
	if value == nil {
		return nil
	}
	return value.String()
}

func deprecationReason(directives ast.DirectiveList) any {
	directive := directives.ForName("deprecated")
	if directive == nil {
		return nil
	}
	if reason := directive.Arguments.ForName("reason"); reason != nil {
		return reason.Value.Raw
	}
	return "No longer supported"
}
