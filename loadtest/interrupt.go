package main

import (
	"context"
	"errors"
	"os"
	"sync"
)

// errInterrupted ends a command that was asked to end after what was under way.
var errInterrupted = errors.New("interrupted")

// interrupts turn signals into the end of a command. Most commands end at once: the context ends. A command that has
// said that it is patient is first asked, by one interrupt (SIGINT), to end after what is under way; a second one, or
// SIGTERM at any time, ends the context. After that a further signal ends the program on the spot.
type interrupts struct {
	mu sync.Mutex
	// say is set while one interrupt waits.
	say   func(format string, args ...any)
	asked bool
}

type interruptsKey struct{}

// withInterrupts returns a context that ends by signals; release gives signals back to their default, which is to end
// the program.
func withInterrupts(parent context.Context, signals <-chan os.Signal, release func()) context.Context {
	i := &interrupts{}
	ctx, cancel := context.WithCancel(context.WithValue(parent, interruptsKey{}, i))
	go func() {
		defer cancel()
		for {
			select {
			case <-parent.Done():
				return
			case signal := <-signals:
				if signal == os.Interrupt && i.ask() {
					continue
				}
				release()
				return
			}
		}
	}()
	return ctx
}

// interruptsOf are those of a context; of one without, nobody is ever asked.
func interruptsOf(ctx context.Context) *interrupts {
	if i, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		return i
	}
	return &interrupts{}
}

// patient has one interrupt wait until Asked is looked at; say tells whoever interrupts what will happen.
func (i *interrupts) patient(say func(format string, args ...any)) (impatient func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.say = say
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.say = nil
	}
}

// ask notes an interrupt and says whether it waits.
func (i *interrupts) ask() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.say == nil:
		return false
	case i.asked:
		i.say("interrupted again: ends at once")
		return false
	}
	i.asked = true
	i.say("interrupted: ends after this trial; again: at once")
	return true
}

// wanted says whether somebody has asked for the end.
func (i *interrupts) wanted() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}
