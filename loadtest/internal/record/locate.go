package record

import (
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"lab/loadtest/internal/locate"
)

// brokenAt says where a text breaks the schema, in one line: line, key, value, and what the schema expects there.
func brokenAt(text []byte, err error) error {
	var broken *jsonschema.ValidationError
	if !errors.As(err, &broken) {
		return err
	}
	for len(broken.Causes) > 0 {
		broken = broken.Causes[0]
	}
	// Of one cause it says: "jsonschema validation failed with …", and below that "- at '/a/b': got string, want integer".
	_, expected, found := strings.Cut(broken.Error(), "\n- ")
	if !found {
		expected = broken.Error()
	}
	expected = strings.Join(strings.Fields(expected), " ")
	if place, ok := locate.JSON(text, broken.InstanceLocation...); ok && len(broken.InstanceLocation) > 0 {
		return fmt.Errorf("%s: %s", place, expected)
	}
	return errors.New(expected)
}

// Unknown is an error where the records have something that this version does not know. To show a record without it does
// no harm; to compare two needs to know what each figure means.
func (s Saved) Unknown() error {
	if len(s.Notes) == 0 {
		return nil
	}
	return errors.New(strings.TrimSuffix(s.Notes[0], "; the report leaves it out") + "; expected only keys that this version knows")
}
