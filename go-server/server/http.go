package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// GraphQL over HTTP (graphql.github.io/graphql-over-http). gqlgen's own transports differ from it in statuses, codes
// and negotiation, so this is ours.

// Header values are shared: net/http only reads them.
var (
	contentTypeJSON     = []string{"application/json; charset=utf-8"}
	contentTypeResponse = []string{"application/graphql-response+json; charset=utf-8"}
	contentTypeText     = []string{"text/plain; charset=utf-8"}
)

// Bounds of one connection.
const (
	readTimeout    = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 12 << 10 // net/http adds 4 KiB
	drainBytes     = 1 << 20
)

// NewHTTPServer gives a server for the handler, with bounds for slow and huge input.
func NewHTTPServer(a *App) *http.Server {
	return &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + a.config.RequestTimeout + 30*time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         nil,
		BaseContext:       func(net.Listener) context.Context { return context.Background() },
	}
}

// parameters are a GraphQL request as GraphQL over HTTP describes it. What it says of extensions is not used.
type parameters struct {
	query         string
	operationName *string
	variables     map[string]any
}

func (a *App) serveGraphQL(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	code := codeOK
	defer func() { a.metrics.finished(code, time.Since(begun)) }()
	defer func() {
		if cause := recover(); cause != nil {
			a.failures.log(a.log, "request failed", "error", recoverPanic(r.Context(), cause).Error())
			code = codeInternal
			a.refuse(w, contentTypeJSON, newRequestError(http.StatusInternalServerError, codeInternal, "Internal server error."))
		}
	}()
	if a.inFlight.Add(1) > a.config.Limits.RequestsInFlight || a.draining.Load() || !a.ready.Load() {
		a.inFlight.Add(-1)
		if a.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		code = codeServiceUnavailable
		a.refuse(w, contentTypeJSON, unavailable())
		return
	}
	defer a.inFlight.Add(-1)

	if a.config.GraphiQL && wantsGraphiQL(r) {
		a.serveGraphiQL(w)
		return
	}
	contentType := contentTypeJSON
	if negotiated, ok := negotiate(r.Header["Accept"]); ok {
		contentType = negotiated
	}
	if refused := a.answer(w, r, contentType, begun); refused != nil {
		code = refused.code
		a.refuse(w, contentType, refused)
	}
}

// answer reads, executes and answers a request, or gives the error that ends it. An answer that has errors beside its
// data counts under the first one's code.
func (a *App) answer(w http.ResponseWriter, r *http.Request, contentType []string, begun time.Time) *requestError {
	var t *timing
	if r.Header.Get("X-Server-Timing") == "1" {
		t = &timing{begun: begun, marked: begun}
	}
	p, refused := a.readParameters(w, r)
	if refused != nil {
		return refused
	}
	ctx, cancel := context.WithDeadline(r.Context(), begun.Add(a.config.RequestTimeout))
	defer cancel()
	request := &request{app: a, timing: t}
	request.ctx = context.WithValue(ctx, requestKey{}, request)

	out := newBuffer()
	defer out.free()
	var errs []responseError
	if a.floor != nil {
		refused = a.floor.execute(request, p, out)
	} else {
		errs, refused = a.executeMainstream(request, r.Method, p, out)
	}
	switch {
	case refused != nil:
		return refused
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || request.late.Load():
		return a.timedOut()
	case request.unavailable.Load():
		return unavailable()
	}

	if len(errs) > 0 {
		list, err := json.Marshal(errs)
		if err != nil {
			panic(err)
		}
		out.bytes = append(append(out.bytes, `,"errors":`...), list...)
	}
	out.bytes = append(out.bytes, '}')
	if t != nil {
		t.mark(phaseSerialize)
		w.Header().Set("Server-Timing", t.header())
	}
	writeBody(w, http.StatusOK, contentType, out.bytes)
	if len(errs) > 0 {
		return &requestError{code: errs[0].Extensions.Code} // answered
	}
	return nil
}

// executeMainstream runs everything between the reading of a request and its answer, in the contract's order of checks.
func (a *App) executeMainstream(r *request, method string, p parameters, out *buffer) ([]responseError, *requestError) {
	d := a.documents.get(p.query)
	if d == nil {
		query, aliases, refused := a.parse(p.query)
		if refused != nil {
			return nil, refused
		}
		r.timing.mark(phaseParse)
		if d, refused = a.validate(query, aliases); refused != nil {
			return nil, refused
		}
		a.documents.add(p.query, d)
	} else {
		r.timing.mark(phaseParse)
	}
	operation, refused := d.operationNamed(p.operationName)
	if refused != nil {
		return nil, refused
	}
	if method == http.MethodGet && operation.Operation != ast.Query {
		refused := newRequestError(http.StatusMethodNotAllowed, codeBadRequest, "Mutations are taken by POST only.")
		refused.header = http.Header{"Allow": {http.MethodPost}}
		return nil, refused
	}
	variables, refused := coerceVariables(a.schema, operation, p.variables)
	if refused != nil {
		return nil, refused
	}
	if refused := d.checkLimits(&a.config.Limits, operation, variables); refused != nil {
		return nil, refused
	}
	r.timing.mark(phaseValidate)

	r.operation = &graphql.OperationContext{
		RawQuery:               p.query,
		Variables:              variables,
		OperationName:          operation.Name,
		Doc:                    d.QueryDocument,
		Operation:              operation,
		RecoverFunc:            recoverPanic,
		ResolverMiddleware:     passField,
		RootResolverMiddleware: passRoot,
	}
	r.loaders = a.newLoaders(r.ctx, a.store.replica)
	return a.execute(r, out), nil
}

// refuse answers with errors and no data.
func (a *App) refuse(w http.ResponseWriter, contentType []string, e *requestError) {
	if e.errors == nil {
		return // answered already
	}
	status := e.status
	if e.wellFormed && &contentType[0] == &contentTypeJSON[0] {
		status = http.StatusOK
	}
	for name, values := range e.header {
		w.Header()[name] = values
	}
	body, err := json.Marshal(struct {
		Errors []responseError `json:"errors"`
	}{e.errors})
	if err != nil {
		panic(err)
	}
	writeBody(w, status, contentType, body)
}

func writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away has no use for the error
}

// readParameters reads a request up to its shape.
func (a *App) readParameters(w http.ResponseWriter, r *http.Request) (parameters, *requestError) {
	switch r.Method {
	case http.MethodGet:
		if refused := checkAccept(r); refused != nil {
			return parameters{}, refused
		}
		return readURL(r.URL.RawQuery)
	case http.MethodPost:
		if refused := checkContentType(r); refused != nil {
			return parameters{}, refused
		}
		if refused := checkAccept(r); refused != nil {
			return parameters{}, refused
		}
		return a.readBody(w, r)
	}
	refused := newRequestError(http.StatusMethodNotAllowed, codeBadRequest, "GraphQL is answered by GET and POST only.")
	refused.header = http.Header{"Allow": {"GET, POST"}}
	return parameters{}, refused
}

// onlyGet refuses other methods where there is something to look at only.
func (a *App) onlyGet(w http.ResponseWriter, _ *http.Request) {
	refused := newRequestError(http.StatusMethodNotAllowed, codeBadRequest, "Only GET is taken here.")
	refused.header = http.Header{"Allow": {"GET, HEAD"}}
	a.refuse(w, contentTypeJSON, refused)
}

func checkAccept(r *http.Request) *requestError {
	if _, ok := negotiate(r.Header["Accept"]); !ok {
		return newRequestError(http.StatusNotAcceptable, codeBadRequest,
			"Answers are application/graphql-response+json or application/json.")
	}
	return nil
}

func checkContentType(r *http.Request) *requestError {
	encoding := r.Header.Get("Content-Encoding")
	if (encoding == "" || strings.EqualFold(encoding, "identity")) && isJSON(r.Header.Get("Content-Type")) {
		return nil
	}
	return newRequestError(http.StatusUnsupportedMediaType, codeBadRequest, "Requests are application/json in UTF-8.")
}

// isJSON takes application/json, of all parameters looking at the charset only.
func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	mediaType, parameters, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(trimmed(mediaType), "application/json") {
		return false
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, given := strings.Cut(parameter, "=")
		if given && strings.EqualFold(trimmed(name), "charset") && !strings.EqualFold(strings.Trim(trimmed(value), `"`), "utf-8") {
			return false
		}
	}
	return true
}

// trimmed is a part of a header's value without the white space around it.
func trimmed(part string) string { return strings.Trim(part, " \t") }

// negotiate picks the media type of the answer: the one that the client prefers, of equal ones that named more exactly,
// then first; application/json where it does not say.
func negotiate(accept []string) ([]string, bool) {
	if len(accept) == 0 {
		return contentTypeJSON, true
	}
	if len(accept) == 1 {
		switch accept[0] {
		case "", "*/*", "application/json":
			return contentTypeJSON, true
		case "application/graphql-response+json":
			return contentTypeResponse, true
		}
	}
	plain, response := acceptance{}, acceptance{}
	place := 0
	for value := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, quality := mediaRange(value)
		place++
		switch mediaType {
		case "*/*":
			plain.at(1, quality, place)
			response.at(1, quality, place)
		case "application/*":
			plain.at(2, quality, place)
			response.at(2, quality, place)
		case "application/json":
			plain.at(3, quality, place)
		case "application/graphql-response+json":
			response.at(3, quality, place)
		}
	}
	switch {
	case plain.quality == 0 && response.quality == 0:
		return nil, false
	case response.before(plain):
		return contentTypeResponse, true
	default:
		return contentTypeJSON, true
	}
}

// acceptance is how much a client wants a media type: what the most exact of the ranges that hold it says.
type acceptance struct {
	exactness int
	quality   float64
	place     int
}

func (a *acceptance) at(exactness int, quality float64, place int) {
	if exactness > a.exactness {
		*a = acceptance{exactness, quality, place}
	}
}

func (a acceptance) before(b acceptance) bool {
	if a.quality != b.quality {
		return a.quality > b.quality
	}
	if a.exactness != b.exactness {
		return a.exactness > b.exactness
	}
	return a.place < b.place
}

// mediaRange reads one element of Accept. Of its parameters only the quality counts; one that is none is 0.
func mediaRange(value string) (mediaType string, quality float64) {
	mediaType, parameters, _ := strings.Cut(value, ";")
	quality = 1
	for parameter := range strings.SplitSeq(parameters, ";") {
		parameter = trimmed(parameter)
		if len(parameter) < 2 || !strings.EqualFold(parameter[:2], "q=") {
			continue
		}
		q, err := strconv.ParseFloat(trimmed(parameter[2:]), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			q = 0
		}
		quality = q
		break
	}
	return strings.ToLower(trimmed(mediaType)), quality
}

// readURL reads the parameters of a GET. Of a name given twice the last counts, as in JSON; all but the query may be
// empty, which is as good as not given.
func readURL(rawQuery string) (p parameters, refused *requestError) {
	var query, variables, extensions string
	var hasQuery bool
	for pair := range strings.SplitSeq(rawQuery, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err != nil || err2 != nil || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return p, badRequest("The URL's query is not percent-encoded UTF-8.")
		}
		switch name {
		case "query":
			query, hasQuery = value, true
		case "operationName":
			p.operationName = nil
			if value != "" {
				p.operationName = &value
			}
		case "variables":
			variables = value
		case "extensions":
			extensions = value
		}
	}
	if !hasQuery {
		return p, badRequest("\"query\" is missing.")
	}
	p.query = query
	if variables != "" {
		if p.variables, refused = readObject([]byte(variables), "variables"); refused != nil {
			return p, refused
		}
	}
	if extensions != "" {
		if _, refused = readObject([]byte(extensions), "extensions"); refused != nil {
			return p, refused
		}
	}
	return p, nil
}

// readBody reads the JSON of a POST.
func (a *App) readBody(w http.ResponseWriter, r *http.Request) (parameters, *requestError) {
	limit := a.config.Limits.BodyBytes
	if r.ContentLength > limit {
		return parameters{}, a.tooLarge(w, r)
	}
	body := newBuffer()
	defer body.free()
	err := body.readFrom(r.Body, limit+1)
	if err != nil {
		w.Header().Set("Connection", "close")
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return parameters{}, newRequestError(http.StatusRequestTimeout, codeBadRequest, "The body did not come in time.")
		}
		return parameters{}, badRequest("The body cannot be read.")
	}
	if int64(len(body.bytes)) > limit {
		return parameters{}, a.tooLarge(w, r)
	}
	return readJSON(body.bytes)
}

// tooLarge takes in more of a body that is too large, so that its sender comes to read the answer.
func (a *App) tooLarge(w http.ResponseWriter, r *http.Request) *requestError {
	if r.Header.Get("Expect") == "" {
		if n, err := io.CopyN(io.Discard, r.Body, drainBytes); err == nil && n == drainBytes {
			w.Header().Set("Connection", "close")
		}
	}
	return newRequestError(http.StatusRequestEntityTooLarge, codeRequestTooLarge, "Body is larger than %d bytes.", a.config.Limits.BodyBytes)
}

// readJSON reads the parameters from a body. encoding/json takes some liberties that the contract does not: invalid
// UTF-8, halves of surrogate pairs, and names in another case.
func readJSON(body []byte) (p parameters, refused *requestError) {
	if !utf8.Valid(body) {
		return p, badRequest("The body is not UTF-8.")
	}
	if hasLoneSurrogate(body) {
		return p, badRequest("The body has half a surrogate pair.")
	}
	if nestsTooDeep(body) {
		return p, badRequest("The body is nested deeper than %d levels.", mostNesting)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return p, badRequest("The body is not a JSON object.")
	}
	query, ok := members["query"]
	if !ok || query[0] != '"' {
		return p, badRequest("\"query\" is missing or not a string.")
	}
	if err := json.Unmarshal(query, &p.query); err != nil {
		return p, badRequest("\"query\" cannot be read.")
	}
	if name, ok := members["operationName"]; ok {
		if name[0] != '"' && name[0] != 'n' {
			return p, badRequest("\"operationName\" is neither a string nor null.")
		}
		if err := json.Unmarshal(name, &p.operationName); err != nil {
			return p, badRequest("\"operationName\" cannot be read.")
		}
	}
	if variables, ok := members["variables"]; ok {
		if p.variables, refused = readObject(variables, "variables"); refused != nil {
			return p, refused
		}
	}
	if extensions, ok := members["extensions"]; ok && extensions[0] != '{' && extensions[0] != 'n' {
		return p, badRequest("\"extensions\" is neither an object nor null.")
	}
	return p, nil
}

// readObject reads an object or null, numbers as they are written.
func readObject(raw []byte, name string) (map[string]any, *requestError) {
	if hasLoneSurrogate(raw) {
		return nil, badRequest("%q has half a surrogate pair.", name)
	}
	if nestsTooDeep(raw) {
		return nil, badRequest("%q is nested deeper than %d levels.", name, mostNesting)
	}
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 || raw[0] != '{' && raw[0] != 'n' {
		return nil, badRequest("%q is neither an object nor null.", name)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, badRequest("%q cannot be read.", name)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("%q has something after its object.", name)
	}
	return object, nil
}

// mostNesting is how many levels of arrays and objects JSON may have.
const mostNesting = 128

func nestsTooDeep(text []byte) bool {
	if bytes.Count(text, []byte("{"))+bytes.Count(text, []byte("[")) <= mostNesting {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > mostNesting {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// hasLoneSurrogate finds an escape of half a surrogate pair.
func hasLoneSurrogate(b []byte) bool {
	for {
		at := bytes.IndexByte(b, '\\')
		if at < 0 || at+1 >= len(b) {
			return false
		}
		unit, ok := surrogateAt(b[at:])
		if !ok {
			b = b[at+2:] // another escape
			continue
		}
		if unit >= 0xDC00 {
			return true
		}
		if next, ok := surrogateAt(b[at+6:]); !ok || next < 0xDC00 {
			return true
		}
		b = b[at+12:]
	}
}

// surrogateAt reads \uD800 to \uDFFF at the beginning of b.
func surrogateAt(b []byte) (uint64, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return unit, err == nil && unit >= 0xD800 && unit <= 0xDFFF
}

// wantsGraphiQL is a browser that comes to look.
func wantsGraphiQL(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	var html, others float64
	for value := range strings.SplitSeq(strings.Join(r.Header["Accept"], ","), ",") {
		switch mediaType, quality := mediaRange(value); mediaType {
		case "text/html":
			html = quality
		case "application/json", "application/graphql-response+json":
			others = max(others, quality)
		}
	}
	return html > 0 && html >= others
}

func (a *App) serveGraphiQL(w http.ResponseWriter) { a.serveFile(w, "index.html") }

func (a *App) serveGraphiQLFile(w http.ResponseWriter, r *http.Request) {
	if !a.config.GraphiQL {
		a.refuse(w, contentTypeJSON, newRequestError(http.StatusNotFound, codeBadRequest, "Not found."))
		return
	}
	a.serveFile(w, r.PathValue("file"))
}

// graphiqlTypes are the files that GraphiQL is made of.
var graphiqlTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
}

// serveFile sends one file of the contract's folder of GraphiQL, and nothing outside of it.
func (a *App) serveFile(w http.ResponseWriter, name string) {
	contentType, known := graphiqlTypes[filepath.Ext(name)]
	if known {
		if root, err := os.OpenRoot(filepath.Join(a.config.ContractDir, "graphiql")); err == nil {
			defer func() { _ = root.Close() }()
			if content, err := root.ReadFile(name); err == nil {
				writeBody(w, http.StatusOK, []string{contentType}, content)
				return
			}
		}
	}
	a.refuse(w, contentTypeJSON, newRequestError(http.StatusNotFound, codeBadRequest, "Not found."))
}
