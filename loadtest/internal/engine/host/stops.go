package host

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Stops end what an engine has started, the last started first. The zero value is empty and ready.
type Stops struct {
	mu     sync.Mutex
	closed bool
	kept   map[int]func(context.Context) error
	number int
}

// Keep has Close call stop, unless it is forgotten before.
func (s *Stops) Keep(stop func(context.Context) error) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := s.number
	s.number++
	if s.kept == nil {
		s.kept = map[int]func(context.Context) error{}
	}
	s.kept[number] = stop
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.kept, number)
	}
}

// Close calls what is kept, the last kept first, and returns all errors. After one that is hopeless, nothing else can
// succeed and is tried; nil means that none is. Close works also where ctx was interrupted, and only once.
func (s *Stops) Close(ctx context.Context, hopeless error) error {
	s.mu.Lock()
	kept, closed := maps.Clone(s.kept), s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(kept))) {
		err := kept[number](ctx)
		errs = append(errs, err)
		if err != nil && errors.Is(err, hopeless) {
			break
		}
	}
	return errors.Join(errs...)
}
