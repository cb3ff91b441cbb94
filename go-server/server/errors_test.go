package server

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

func TestExecutionErrors(t *testing.T) {
	at := func(nulled int, path ...any) *gqlerror.Error {
		e := &gqlerror.Error{Extensions: map[string]any{extensionCode: codeInternal, extensionNulled: nulled}}
		for _, part := range path {
			switch part := part.(type) {
			case int:
				e.Path = append(e.Path, ast.PathIndex(part))
			case string:
				e.Path = append(e.Path, ast.PathName(part))
			}
		}
		return e
	}
	paths := func(errs []responseError) (out []string) {
		for _, e := range errs {
			out = append(out, e.Path.String())
		}
		return out
	}

	assert.Nil(t, executionErrors(nil, nil))
	assert.Equal(t, []string{"a[1].x", "a[1].y", "a[10].x", "b"}, paths(executionErrors(gqlerror.List{
		at(1, "b"), at(3, "a", 10, "x"), at(3, "a", 1, "x"), at(3, "a", 1, "y"),
	}, []string{"a", "b"})), "in the order of the answer")
	assert.Equal(t, []string{"a[2].x"}, paths(executionErrors(gqlerror.List{
		at(1, "a", 7, "x"), at(1, "a", 2, "x"), at(1, "a", 30, "x"),
	}, []string{"a"})), "one for a list that became null")
	assert.Equal(t, []string{"a"}, paths(executionErrors(gqlerror.List{at(0, "b"), at(0, "a")}, []string{"a", "b"})), "one for data that became null")
	assert.Equal(t, []string{"a[0].x", "a[1].x"}, paths(executionErrors(gqlerror.List{
		at(2, "a", 1, "x"), at(2, "a", 0, "x"), at(2, "a", 0, "y"),
	}, []string{"a"})), "one for each element that became null")
}
