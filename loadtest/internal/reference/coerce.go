package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

// Coerced values are nil, bool, int32, float64, string (String, ID, Date), []any and map[string]any.

// coerceVariables is CoerceVariableValues of the specification (section 6.1.2).
func coerceVariables(schema *ast.Schema, operation *ast.OperationDefinition, text json.RawMessage) (map[string]any, error) {
	given := map[string]any{}
	if len(bytes.TrimSpace(text)) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&given); err != nil {
			return nil, fmt.Errorf("variables: %w", err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("variables: more than one JSON value")
		}
	}
	coerced := map[string]any{}
	for _, definition := range operation.VariableDefinitions {
		value, ok := given[definition.Variable]
		switch {
		case !ok && definition.DefaultValue != nil:
			literal, err := coerceLiteral(schema, definition.DefaultValue, definition.Type, nil)
			if err != nil {
				return nil, fmt.Errorf("variable $%s: %w", definition.Variable, err)
			}
			coerced[definition.Variable] = literal
		case !ok && definition.Type.NonNull:
			return nil, fmt.Errorf("variable $%s is missing", definition.Variable)
		case ok:
			converted, err := coerceJSON(schema, value, definition.Type)
			if err != nil {
				return nil, fmt.Errorf("variable $%s: %w", definition.Variable, err)
			}
			coerced[definition.Variable] = converted
		}
	}
	return coerced, nil
}

func coerceJSON(schema *ast.Schema, value any, t *ast.Type) (any, error) {
	if value == nil {
		if t.NonNull {
			return nil, fmt.Errorf("null for %s", t)
		}
		return nil, nil
	}
	if t.Elem != nil {
		list, ok := value.([]any)
		if !ok {
			list = []any{value} // a single value stands for a list of one
		}
		coerced := make([]any, len(list))
		for i, element := range list {
			var err error
			if coerced[i], err = coerceJSON(schema, element, t.Elem); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return coerced, nil
	}
	definition := schema.Types[t.NamedType]
	if definition.Kind == ast.InputObject {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%v is no %s", value, t.NamedType)
		}
		for name := range object {
			if definition.Fields.ForName(name) == nil {
				return nil, fmt.Errorf("%s has no field %q", t.NamedType, name)
			}
		}
		coerced := map[string]any{}
		for _, field := range definition.Fields {
			value, ok := object[field.Name]
			if !ok {
				if err := coerceDefault(schema, coerced, field.Name, field.Type, field.DefaultValue); err != nil {
					return nil, err
				}
				continue
			}
			converted, err := coerceJSON(schema, value, field.Type)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", field.Name, err)
			}
			coerced[field.Name] = converted
		}
		return coerced, nil
	}
	wrong := fmt.Errorf("%v (%T) is no %s", value, value, t.NamedType)
	switch t.NamedType {
	case "Int":
		number, ok := value.(json.Number)
		if !ok {
			return nil, wrong
		}
		f, err := number.Float64()
		if err != nil || f != math.Trunc(f) || f < math.MinInt32 || f > math.MaxInt32 {
			return nil, wrong
		}
		return int32(f), nil
	case "ID":
		switch v := value.(type) {
		case string:
			return v, nil
		case json.Number:
			if !strings.ContainsAny(v.String(), ".eE") {
				return v.String(), nil
			}
			// 1e2 is the integer 100, as far as a double holds every integer.
			if f, err := v.Float64(); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
				return strconv.FormatFloat(f, 'f', 0, 64), nil
			}
		}
		return nil, wrong
	case "String":
		if s, ok := value.(string); ok {
			return s, nil
		}
		return nil, wrong
	case "Boolean":
		if b, ok := value.(bool); ok {
			return b, nil
		}
		return nil, wrong
	case "Date":
		if s, ok := value.(string); ok && isDate(s) {
			return s, nil
		}
		return nil, wrong
	case "Float":
		if number, ok := value.(json.Number); ok {
			if f, err := number.Float64(); err == nil {
				return f, nil
			}
		}
		return nil, wrong
	}
	return nil, fmt.Errorf("%s cannot be given", t.NamedType)
}

// coerceDefault adds what an argument or input field becomes that was not given; one without default stays away.
func coerceDefault(schema *ast.Schema, to map[string]any, name string, t *ast.Type, defaultValue *ast.Value) error {
	if defaultValue == nil {
		if t.NonNull {
			return fmt.Errorf("%s is missing", name)
		}
		return nil
	}
	value, err := coerceLiteral(schema, defaultValue, t, nil)
	to[name] = value
	return err
}

// coerceLiteral coerces a literal that validation accepted. What can still fail is a variable: one that is null or
// absent where no null may be.
func coerceLiteral(schema *ast.Schema, value *ast.Value, t *ast.Type, variables map[string]any) (any, error) {
	if value.Kind == ast.Variable {
		given := variables[value.Raw] // one that is absent counts as null here
		if given == nil && t.NonNull {
			return nil, fmt.Errorf("null for %s", t)
		}
		return given, nil
	}
	if value.Kind == ast.NullValue {
		if t.NonNull {
			return nil, fmt.Errorf("null for %s", t)
		}
		return nil, nil
	}
	if t.Elem != nil {
		if value.Kind != ast.ListValue {
			element, err := coerceLiteral(schema, value, t.Elem, variables)
			return []any{element}, err
		}
		list := make([]any, len(value.Children))
		for i, child := range value.Children {
			var err error
			if list[i], err = coerceLiteral(schema, child.Value, t.Elem, variables); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	definition := schema.Types[t.NamedType]
	if definition.Kind == ast.InputObject {
		coerced := map[string]any{}
		for _, field := range definition.Fields {
			child := value.Children.ForName(field.Name)
			if child == nil || isAbsent(child, variables) {
				if err := coerceDefault(schema, coerced, field.Name, field.Type, field.DefaultValue); err != nil {
					return nil, err
				}
				continue
			}
			converted, err := coerceLiteral(schema, child, field.Type, variables)
			if err != nil {
				return nil, err
			}
			coerced[field.Name] = converted
		}
		return coerced, nil
	}
	switch t.NamedType {
	case "Int":
		return literalInt(value)
	case "Float":
		return strconv.ParseFloat(value.Raw, 64)
	case "Boolean":
		return value.Raw == "true", nil
	}
	return value.Raw, nil
}

// isAbsent: a variable that was not given and has no default counts as if nothing stood there.
func isAbsent(value *ast.Value, variables map[string]any) bool {
	if value.Kind != ast.Variable {
		return false
	}
	_, given := variables[value.Raw]
	return !given
}

// coerceArguments is CoerceArgumentValues of the specification (section 6.4.1).
func coerceArguments(schema *ast.Schema, definitions ast.ArgumentDefinitionList, given ast.ArgumentList, variables map[string]any) (map[string]any, error) {
	coerced := map[string]any{}
	for _, definition := range definitions {
		argument := given.ForName(definition.Name)
		if argument == nil || isAbsent(argument.Value, variables) {
			if err := coerceDefault(schema, coerced, definition.Name, definition.Type, definition.DefaultValue); err != nil {
				return nil, err
			}
			continue
		}
		value, err := coerceLiteral(schema, argument.Value, definition.Type, variables)
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", definition.Name, err)
		}
		coerced[definition.Name] = value
	}
	return coerced, nil
}

// isDate tells whether the text is a day of the calendar, YYYY-MM-DD.
func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil && len(text) == len(time.DateOnly)
}
