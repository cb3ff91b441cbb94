package faultproxy

import (
	"container/heap"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clock wakes to the microsecond. Go's timers are the time limit of epoll_wait, which counts in milliseconds: a delay of
// 20 ms made with them is one of 20 to 21 ms, each way. A timerfd is exact, and the poller waits for it as for any other
// file. One for the whole process is enough.
type clock struct {
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	waiters waiters
	// armed is what the timer is set to, zero where it is not.
	armed time.Time
}

func newClock() (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	c := &clock{file: os.NewFile(uintptr(fd), "timerfd")}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		_ = c.file.Close()
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	go c.run()
	return c, nil
}

// waiter is somebody who waits for one time after another.
type waiter struct {
	// due receives once for each time that was set and not taken back.
	due   chan struct{}
	at    time.Time
	index int // in the heap, or -1
}

func newWaiter() *waiter { return &waiter{due: make(chan struct{}, 1), index: -1} }

// set wakes w at that time.
func (c *clock) set(w *waiter, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.at = at
	heap.Push(&c.waiters, w)
	c.arm()
}

// unset takes back what was set.
func (c *clock) unset(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.index >= 0 {
		heap.Remove(&c.waiters, w.index)
	}
	select {
	case <-w.due:
	default:
	}
}

// arm sets the timer to the first of those who wait, where it is not set so already.
func (c *clock) arm() {
	if len(c.waiters) == 0 || c.waiters[0].at.Equal(c.armed) {
		return
	}
	c.armed = c.waiters[0].at
	// A wait of nothing would switch the timer off.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(time.Until(c.armed))))}
	_ = c.raw.Control(func(fd uintptr) { _ = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
}

// run wakes those whose time has come, until the file is closed.
func (c *clock) run() {
	var expirations [8]byte
	for {
		if _, err := c.file.Read(expirations[:]); err != nil {
			return
		}
		c.mu.Lock()
		c.armed = time.Time{}
		for now := time.Now(); len(c.waiters) > 0 && !c.waiters[0].at.After(now); {
			w := heap.Pop(&c.waiters).(*waiter)
			w.due <- struct{}{}
		}
		c.arm()
		c.mu.Unlock()
	}
}

// waiters is a heap, the earliest first.
type waiters []*waiter

func (h waiters) Len() int           { return len(h) }
func (h waiters) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h waiters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are for package heap.
func (h *waiters) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

func (h *waiters) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.index = -1
	return w
}
