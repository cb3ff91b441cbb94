package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"
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

// dialing is how many connections Connect opens at a time.
const dialing = 64

// Connect opens n connections to where the prepared request goes, ahead of the requests, as far as MaxIdle has room for them. The
// error is that of the first that could not be opened; the others stay.
func (p *Prepared) Connect(ctx context.Context, n int) error {
	deadline := p.transport.deadline()
	var dials errgroup.Group
	dials.SetLimit(dialing)
	for range n {
		dials.Go(func() error {
			c, err := p.transport.dial(ctx, p.address, deadline)
			if err == nil {
				p.transport.put(c) // it is idle, and its server may close it before its first request
			}
			return err
		})
	}
	return dials.Wait()
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
