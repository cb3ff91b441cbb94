package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// separate sends the operations that have connections of their own over those, and the others over shared ones.
type separate struct {
	mix    *mix
	shared http.RoundTripper
	own    map[int]*ownConnections // by operation
}

// ownConnections are so many of an operation.
type ownConnections struct {
	rt   http.RoundTripper
	busy chan struct{}
}

// apart gives each operation that asks for it connections of its own; where none does, all share what connections makes.
func apart(m *mix, connections func() http.RoundTripper) http.RoundTripper {
	s := &separate{mix: m, shared: connections(), own: map[int]*ownConnections{}}
	for i, o := range m.operations {
		if o.Connections > 0 {
			s.own[i] = &ownConnections{connections(), make(chan struct{}, o.Connections)}
		}
	}
	if len(s.own) == 0 {
		return s.shared
	}
	return s
}

// RoundTrip implements http.RoundTripper. A connection is busy until its answer has been read.
func (s *separate) RoundTrip(req *http.Request) (*http.Response, error) {
	own := s.own[s.mix.at(seqOf(req)).operation]
	if own == nil {
		return s.shared.RoundTrip(req)
	}
	select {
	case own.busy <- struct{}{}:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	free := sync.OnceFunc(func() { <-own.busy })
	response, err := own.rt.RoundTrip(req)
	if err != nil {
		free()
		return response, err
	}
	response.Body = &freeing{response.Body, free}
	return response, nil
}

// Connect opens n of the shared connections, and all that operations have of their own.
func (s *separate) Connect(ctx context.Context, n int) error {
	err := connectAhead(ctx, s.shared, n)
	for _, own := range s.own {
		err = errors.Join(err, connectAhead(ctx, own.rt, cap(own.busy)))
	}
	return err
}

// CloseIdleConnections closes those of all.
func (s *separate) CloseIdleConnections() {
	closeIdle(s.shared)
	for _, own := range s.own {
		closeIdle(own.rt)
	}
}

// freeing is a body whose end frees its connection.
type freeing struct {
	io.ReadCloser
	free func()
}

// Close implements io.Closer.
func (b *freeing) Close() error {
	defer b.free()
	return b.ReadCloser.Close()
}
