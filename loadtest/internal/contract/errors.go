package contract

import (
	"fmt"
	"net/http"
)

// ErrorTable is errors.json: what each error code means on the wire. (405, 406 and 415, which GraphQL over HTTP
// defines, carry BAD_REQUEST with a status of their own.)
type ErrorTable struct {
	Codes  []ErrorCode `json:"codes"`
	byCode map[string]*ErrorCode
}

// ErrorCode is one row.
type ErrorCode struct {
	Code string `json:"code"`
	// Status goes with application/graphql-response+json, JSONStatus with application/json; both are those of a
	// request error if the code may be one. An answer with data has status 200 whatever its errors.
	Status     int `json:"status"`
	JSONStatus int `json:"jsonStatus"`
	// RequestError: may answer the whole request, without data. FieldError: may stand beside data, with a path.
	RequestError bool `json:"requestError"`
	FieldError   bool `json:"fieldError"`
}

// Code gives the row of a code, nil where there is none.
func (t *ErrorTable) Code(code string) *ErrorCode { return t.byCode[code] }

// StatusOf gives the status of an answer: of a request error of that code, or of an answer with data (code "").
// graphqlResponse says whether application/graphql-response+json was asked for.
func (t *ErrorTable) StatusOf(requestError string, graphqlResponse bool) (int, error) {
	if requestError == "" {
		return http.StatusOK, nil
	}
	row := t.byCode[requestError]
	if row == nil || !row.RequestError {
		return 0, fmt.Errorf("%q is no code of a request error", requestError)
	}
	if graphqlResponse {
		return row.Status, nil
	}
	return row.JSONStatus, nil
}

func loadErrorTable(file string) (*ErrorTable, error) {
	table := &ErrorTable{}
	if err := readStrict(file, table); err != nil {
		return nil, err
	}
	if len(table.Codes) == 0 {
		return nil, fmt.Errorf(`%s: key "codes" is empty`, file)
	}
	table.byCode = make(map[string]*ErrorCode, len(table.Codes))
	for i := range table.Codes {
		row := &table.Codes[i]
		at := fmt.Sprintf("%s: codes[%d]", file, i)
		switch {
		case row.Code == "":
			return nil, fmt.Errorf(`%s: key "code" is empty`, at)
		case table.byCode[row.Code] != nil:
			return nil, fmt.Errorf("%s: code %q stands twice", at, row.Code)
		case http.StatusText(row.Status) == "":
			return nil, fmt.Errorf(`%s: key "status": %d is no HTTP status`, at, row.Status)
		case http.StatusText(row.JSONStatus) == "":
			return nil, fmt.Errorf(`%s: key "jsonStatus": %d is no HTTP status`, at, row.JSONStatus)
		case !row.RequestError && !row.FieldError:
			return nil, fmt.Errorf("%s: code %q is neither a request error nor a field error", at, row.Code)
		}
		table.byCode[row.Code] = row
	}
	return table, nil
}
