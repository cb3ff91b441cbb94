package conformance

import (
	"bytes"
	"encoding/json"
)

// directiveDeviations are the deviations, by the id that a manifest gives them, that the contract lets a library have in
// introspection: one directive more. Nothing else is excused: a deviation that is not here is found all the same.
var directiveDeviations = map[string]string{"introspection-oneof": "oneOf"}

// excuse gives an answer without what the arm's listed deviations account for.
func (s *subject) excuse(body []byte) []byte {
	for _, deviation := range s.arm.Deviations {
		if directive, known := directiveDeviations[deviation.ID]; known {
			body = withoutDirective(body, directive)
		}
	}
	return body
}

// withoutDirective takes one directive out of an answer to introspection; any other answer stays as it is.
func withoutDirective(body []byte, name string) []byte {
	if !bytes.Contains(body, []byte(`"__schema"`)) {
		return body
	}
	var answer struct {
		Data struct {
			Schema struct {
				Directives json.RawMessage `json:"directives"`
			} `json:"__schema"`
		} `json:"data"`
	}
	var directives []json.RawMessage
	if json.Unmarshal(body, &answer) != nil || json.Unmarshal(answer.Data.Schema.Directives, &directives) != nil {
		return body
	}
	var kept [][]byte
	for _, text := range directives {
		var directive struct {
			Name string `json:"name"`
		}
		if json.Unmarshal(text, &directive) != nil || directive.Name != name {
			kept = append(kept, text)
		}
	}
	if len(kept) == len(directives) {
		return body
	}
	list := append([]byte("["), bytes.Join(kept, []byte(","))...)
	return bytes.Replace(body, answer.Data.Schema.Directives, append(list, ']'), 1)
}
