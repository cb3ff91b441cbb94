package conformance

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// slowClients began a request and say no more. They are opened before the hostile table and looked at in the end, so that
// waiting for the server's patience to end costs no time of its own.
type slowClients struct {
	conns []slowClient
}

type slowClient struct {
	name string
	conn net.Conn
	// ended gives what the server did: an answer, or nil where it closed.
	ended chan *answer
}

// slowEnd is how long a server may let half a request wait; the contract's limits are ten seconds.
var slowEnd = 30 * time.Second // a variable for the test with a server that waits for ever

func openSlowClients(ctx context.Context, url string) (*slowClients, error) {
	s := &slowClients{}
	whole := wireRequest{body: []byte(`{"query":"{ __typename }"}`)}.bytes()
	chunked := wireRequest{body: []byte(`{"query":"{ __typename }"}`), chunked: true}.bytes()
	for range 8 {
		for _, part := range []struct {
			name string
			text []byte
		}{
			{"a client that sends half the headers", whole[:40]},
			{"a client that sends half the body", whole[:len(whole)-10]},
			{"a client that sends half the chunks", chunked[:len(chunked)-12]},
		} {
			conn, err := dial(ctx, url)
			if err != nil {
				s.close()
				return nil, fmt.Errorf("open a slow client: %w", err)
			}
			if err := conn.SetDeadline(time.Now().Add(slowEnd)); err != nil {
				s.close()
				return nil, err
			}
			c := slowClient{name: part.name, conn: conn, ended: make(chan *answer, 1)}
			s.conns = append(s.conns, c)
			if _, err := conn.Write(part.text); err != nil {
				s.close()
				return nil, fmt.Errorf("open a slow client: %w", err)
			}
			go c.wait()
		}
	}
	return s, nil
}

// wait reads until the server answers or closes; where it does neither, ended stays empty.
func (c slowClient) wait() {
	a, err := readAnswer(bufio.NewReader(c.conn), http.MethodPost)
	switch {
	case err == nil:
		c.ended <- &a
	case wasClosed(err):
		c.ended <- nil
	}
	close(c.ended)
}

func (s *slowClients) close() {
	for _, c := range s.conns {
		c.conn.Close()
	}
}

// slowEnds looks at what became of the slow clients.
func slowEnds(ctx context.Context, s *subject, t *tally) error {
	if s.slow == nil {
		return nil // the check hostile was not made
	}
	defer s.slow.close()
	for _, c := range s.slow.conns {
		select {
		case a, ended := <-c.ended:
			switch {
			case !ended:
				t.find(Finding{Operation: c.name, Expected: fmt.Sprintf("408 or a closed connection within %s", slowEnd), Got: "neither"})
			case a != nil && (a.status < 400 || a.status >= 500):
				t.find(Finding{Operation: c.name, Path: "status", Expected: "408, 400 or a closed connection", Got: a.describe()})
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	url, err := s.url(ctx)
	if err != nil {
		return err
	}
	s.pose(ctx, t, url, s.golden(), graphqlResponse, "after the slow clients")
	return nil
}
