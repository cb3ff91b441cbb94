package transport

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Prepared is an http.RoundTripper for requests that differ in their bodies only: the head is made once, for good. It
// sends the prepared request whatever it is asked to send; of what it is asked, the context counts, and whatever the
// function that gives the bodies looks at.
type Prepared struct {
	transport *Transport
	req       *http.Request // without a body
	address   string
	// The head, before and after the digits of the body's length.
	before, after []byte
	body          func(asked *http.Request) []byte
}

// Prepare makes the head of a request for bodies in memory, as http.Request.Write would. body gives the body of one
// request, the same for the same request; many goroutines call it at once, and nobody changes what it gives. A request
// with something unusual about it, and a method other than POST, PUT and PATCH, is an error that says so.
func (t *Transport) Prepare(req *http.Request, body func(asked *http.Request) []byte) (*Prepared, error) {
	if err := check(req); err != nil {
		return nil, err
	}
	if hasBody(req) {
		return nil, errors.New("transport: the bodies of a prepared request come from a function, so it must have none itself")
	}
	if !alwaysHasLength(req.Method) {
		return nil, fmt.Errorf("transport: method %q cannot be prepared: expected POST, PUT or PATCH", req.Method)
	}
	head, digitsEnd, ok := appendPlainHead(nil, req, 1) // a length of one digit, whose place the true one takes
	if !ok {
		return nil, errors.New("transport: there is something unusual about the request, so it cannot be prepared")
	}
	return &Prepared{transport: t, req: req, address: address(req.URL), before: head[:digitsEnd-1], after: head[digitsEnd:], body: body}, nil
}

// RoundTrip implements http.RoundTripper.
func (p *Prepared) RoundTrip(asked *http.Request) (*http.Response, error) {
	closeBody(asked)
	return p.transport.roundTrip(asked, p.req, p.address, p)
}

// CloseIdleConnections closes those of the transport.
func (p *Prepared) CloseIdleConnections() { p.transport.CloseIdleConnections() }

// appendTo appends the request's bytes.
func (p *Prepared) appendTo(b []byte, asked *http.Request) []byte {
	body := p.body(asked)
	b = append(b, p.before...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, p.after...)
	return append(b, body...)
}
